//! `nslab image list`.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{self, Result};
use crate::image::{ImageInfo, User};

/// Arguments of `nslab image list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How many users of an image a table names.
const SHOWN: usize = 3;

pub(super) fn run(args: &Args) -> Result<()> {
    let list = super::store()?.list()?;
    if args.json {
        return cli::print_json(&list);
    }
    cli::print(&table(&list))
}

fn table(list: &[ImageInfo]) -> String {
    if list.is_empty() {
        return "no images; `nslab image build images/tomcat` builds one\n".into();
    }
    let width = list
        .iter()
        .map(|i| i.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:width$}  {:8}  {:>10}  {:>10}  {:>10}  {:19}  USED BY\n",
        "NAME", "KIND", "SIZE", "UNPACKED", "UNIQUE", "DIGEST"
    );
    for image in list {
        let _ = writeln!(
            text,
            "{:width$}  {:8}  {:>10}  {:>10}  {:>10}  {:19}  {}",
            image.name,
            image.kind,
            HumanBytes(image.size).to_string(),
            HumanBytes(image.unpacked).to_string(),
            HumanBytes(image.unique).to_string(),
            short(&image.digest),
            users(&image.used_by),
        );
    }
    text
}

/// As much of a digest as tells images apart; all commands take it.
pub(super) fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}

/// Whom a table names.
pub(super) fn users(users: &[User]) -> String {
    if users.is_empty() {
        return "-".to_owned();
    }
    let name = |user: &User| match user {
        User::Node { lab, node } => format!("{lab}:{node}"),
        User::Kept { lab, node } => format!("{lab}:{node} (kept)"),
        User::Process { pid } => format!("pid {pid}"),
    };
    let names: Vec<_> = users.iter().take(SHOWN).map(name).collect();
    match users.len() - names.len() {
        0 => names.join(", "),
        more => format!("{}, {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        assert_eq!(
            table(&[]),
            "no images; `nslab image build images/tomcat` builds one\n"
        );
        let node = |node: &str| User::Node {
            lab: "dsr".into(),
            node: node.into(),
        };
        let kept = User::Kept {
            lab: "a".into(),
            node: "b".into(),
        };
        let image = ImageInfo {
            name: "tomcat".into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            kind: "recipe".into(),
            size: 40 << 20,
            unpacked: 79 << 20,
            unique: 0,
            created: 0,
            layout: "/x".into(),
            used_by: vec![node("s1"), node("s2"), kept, User::Process { pid: 7 }],
        };
        let free = ImageInfo {
            kind: "registry".into(),
            used_by: Vec::new(),
            ..image.clone()
        };
        let want = "\
NAME    KIND            SIZE    UNPACKED      UNIQUE  DIGEST               USED BY
tomcat  recipe     40.00 MiB   79.00 MiB         0 B  sha256:000000000000  dsr:s1, dsr:s2, a:b (kept), 1 more
tomcat  registry   40.00 MiB   79.00 MiB         0 B  sha256:000000000000  -
";
        assert_eq!(table(&[image, free]), want);
    }
}
