//! What runs in a node, and with what rights: the lab file's words over the image's, as Docker
//! merges them.

use crate::lab::Node;
use crate::node::DEFAULT_CAPABILITIES;

use super::launch::NodeImage;

/// Program and arguments of a node's main process; empty if there is nothing to run.
///
/// An image's ENTRYPOINT comes before its CMD, `command` takes CMD's place, and `entrypoint`
/// replaces ENTRYPOINT and drops CMD, whose words were arguments of another program
/// (<https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact>,
/// `docker run --entrypoint`).
pub fn argv(image: Option<&NodeImage>, node: &Node) -> Vec<String> {
    let own = |words: Option<&Vec<String>>| words.cloned();
    let (entrypoint, cmd) = match image {
        Some(image) => (&image.entrypoint[..], &image.cmd[..]),
        None => (&[][..], &[][..]),
    };
    merged(
        (entrypoint, cmd),
        own(node.entrypoint()),
        own(node.command()),
    )
}

fn merged(
    (image_entrypoint, image_cmd): (&[String], &[String]),
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
) -> Vec<String> {
    let replaced = entrypoint.is_some();
    let mut argv = match entrypoint {
        Some(entrypoint) => entrypoint,
        // What `ENTRYPOINT [""]` leaves in an image; Docker takes it for none, too.
        None if image_entrypoint == [""] => Vec::new(),
        None => image_entrypoint.to_vec(),
    };
    match command {
        Some(command) => argv.extend(command),
        None if replaced => {}
        None => argv.extend_from_slice(image_cmd),
    }
    argv
}

/// Capabilities of a node: a container's default ones without the dropped and with the added ones.
pub(super) fn capabilities(add: &[String], drop: &[String]) -> Vec<String> {
    let dropped = |name: &str| drop.iter().any(|d| d == Node::ALL || d == name);
    let mut kept: Vec<String> = DEFAULT_CAPABILITIES
        .iter()
        .filter(|name| !dropped(name))
        .map(ToString::to_string)
        .collect();
    for name in add {
        if !kept.contains(name) {
            kept.push(name.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Docker's table, in exec form, and below it what `docker run` makes of its own arguments.
    #[test]
    fn entrypoint_and_command_are_merged_as_docker_does() {
        for (entrypoint, cmd, lab_entrypoint, lab_command, runs) in [
            ("", "", None, None, ""),
            ("", "cmd p1", None, None, "cmd p1"),
            ("entry p1", "", None, None, "entry p1"),
            ("entry p1", "cmd p2", None, None, "entry p1 cmd p2"),
            (
                "/bin/sh -c entry",
                "cmd",
                None,
                None,
                "/bin/sh -c entry cmd",
            ),
            // docker run IMAGE new
            ("", "cmd p1", None, Some("new"), "new"),
            ("entry p1", "cmd p2", None, Some("new x"), "entry p1 new x"),
            ("entry", "", None, Some("new"), "entry new"),
            // docker run --entrypoint other IMAGE
            ("entry p1", "cmd p2", Some("other"), None, "other"),
            ("", "cmd", Some("other y"), None, "other y"),
            // docker run --entrypoint other IMAGE new
            ("entry", "cmd", Some("other"), Some("new"), "other new"),
            // docker run --entrypoint "" IMAGE new, and without a command an error there too
            ("entry", "cmd", Some(""), Some("new"), "new"),
            ("entry", "cmd", Some(""), None, ""),
            // A node without image.
            ("", "", None, Some("new x"), "new x"),
        ] {
            let got = merged(
                (&words(entrypoint), &words(cmd)),
                lab_entrypoint.map(words),
                lab_command.map(words),
            );
            assert_eq!(
                got,
                words(runs),
                "{entrypoint:?} {cmd:?} {lab_entrypoint:?} {lab_command:?}"
            );
        }
    }

    #[test]
    fn an_entrypoint_that_was_emptied_is_none() {
        let image = ([String::new()], words("cmd p1"));
        assert_eq!(merged((&image.0, &image.1), None, None), words("cmd p1"));
    }

    #[test]
    fn capabilities_are_the_default_ones_less_the_dropped_and_with_the_added() {
        let default = capabilities(&[], &[]);
        assert_eq!(default, DEFAULT_CAPABILITIES);
        let own = capabilities(&words("CAP_SYS_PTRACE CAP_CHOWN"), &words("CAP_NET_RAW"));
        assert_eq!(own.len(), DEFAULT_CAPABILITIES.len());
        assert!(!own.contains(&"CAP_NET_RAW".to_owned()));
        assert_eq!(own.last().map(String::as_str), Some("CAP_SYS_PTRACE"));
        assert_eq!(
            capabilities(&words("CAP_NET_RAW"), &words("ALL")),
            words("CAP_NET_RAW")
        );
        assert!(capabilities(&[], &words("ALL CAP_CHOWN")).is_empty());
    }
}
