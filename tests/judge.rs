//! `scripts/with-ipvs` runs a command under a kernel with IPVS as if it ran here, whichever kernel
//! that is.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::text;

fn with_ipvs(options: &[&str], script: &str) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(root.join("scripts/with-ipvs"))
        .args(options)
        .args(["sh", "-c", script])
        .env("WISH", "two  words 'quoted'\nand a line")
        .current_dir(root.join("tests"))
        .output()
        .unwrap()
}

#[test]
fn a_command_runs_under_a_kernel_with_ipvs_as_if_it_ran_here() {
    let output = with_ipvs(
        &[],
        "ipvsadm -Ln; id -u; pwd; echo \"$WISH\"; test -t 1 || echo no terminal; echo oops >&2; exit 7",
    );
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{out}{err}");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let expected = format!(
        "0\n{}\ntwo  words 'quoted'\nand a line\nno terminal\n",
        here.display()
    );
    assert!(out.starts_with("IP Virtual Server version "), "{out}");
    assert!(out.ends_with(&expected), "{out}");
    assert!(err.ends_with("oops\n"), "{err}");
}

#[test]
fn it_ends_when_its_time_is_over() {
    let output = with_ipvs(&["--time", "5"], "exec sleep 600");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
}
