//! `nslab completions`, as bash itself uses them.

mod common;

use std::process::{Command, Stdio};

use common::{text, tool};

fn nslab(args: &[&str]) -> String {
    tool(env!("CARGO_BIN_EXE_nslab"), args)
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("nslab.bash");
    std::fs::write(&script, nslab(&["completions", "bash"])).unwrap();
    let complete = |words: &str| {
        let all: Vec<_> = words.split(' ').collect();
        let asked = format!(
            "source {}; COMP_WORDS=({words} ''); COMP_CWORD={}; _nslab nslab '' {}; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            all.len(),
            all[all.len() - 1],
        );
        let reply = tool("bash", &["--norc", "-c", &asked]);
        reply
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let commands = complete("nslab");
    for command in ["up", "down", "exec", "graph", "completions"] {
        assert!(
            commands.iter().any(|c| c == command),
            "{command}: {commands:?}"
        );
    }
    assert_eq!(complete("nslab graph --format"), ["mermaid", "dot", "svg"]);
}

#[test]
fn other_shells_have_theirs_and_a_closed_pipe_is_no_error() {
    assert!(nslab(&["completions", "zsh"]).starts_with("#compdef nslab\n"));
    assert!(nslab(&["completions", "fish"]).contains("complete -c nslab"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_nslab"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}
