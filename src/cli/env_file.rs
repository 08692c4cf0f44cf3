//! Files with environment variables, as `docker run --env-file` has them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::lab::{EnvFile, Lab};
use crate::spec::{Code, Diagnostic};

/// Variables of each node that names files.
pub(super) type EnvFiles = BTreeMap<String, Variables>;

/// Names and values in the order in which they count: the last of a name.
type Variables = Vec<(String, String)>;

/// A file larger than this is none of environment variables; the kernel takes 128 KiB a variable and
/// a few MiB in all (execve(2)).
const LIMIT: u64 = 1 << 20;

/// So many bad lines of a file are told.
const MOST: usize = 10;

const HELP: &str = "write lines like `NAME=value`; what is behind `=` is the value as it is, \
                    and lines that begin with `#` are comments";

/// Reads the files that the lab's nodes name; relative paths start at `folder`. Everything that is
/// wrong in them is in the error.
pub(super) fn read_all(lab: &Lab, folder: &Path) -> Result<EnvFiles, Vec<Diagnostic>> {
    let mut all = EnvFiles::new();
    let mut problems = Vec::new();
    for node in lab.nodes() {
        for file in node.env_files() {
            match read(file, folder) {
                Ok(variables) => all
                    .entry(node.name().to_string())
                    .or_default()
                    .extend(variables),
                Err(more) => problems.extend(more),
            }
        }
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(problems)
    }
}

fn read(file: &EnvFile, folder: &Path) -> Result<Variables, Vec<Diagnostic>> {
    let path = folder.join(file.path());
    let bytes = match bytes(&path) {
        Ok(bytes) => bytes,
        Err(why) => {
            let message = format!("cannot read env file {}: {why}", path.display());
            let help = "correct the path, which starts at the lab file's folder, or make the file";
            let d = Diagnostic::new(Code::BadEnvFile, file.span(), message, "named here", help);
            return Err(vec![d]);
        }
    };
    parse(&bytes).map_err(|lines| {
        lines
            .into_iter()
            .take(MOST)
            .map(|(line, why)| {
                let message = format!("env file {}, line {line}: {why}", path.display());
                Diagnostic::new(Code::BadEnvFile, file.span(), message, "named here", HELP)
            })
            .collect()
    })
}

/// The content of a plain file: a device or a pipe would keep `up` waiting.
fn bytes(path: &PathBuf) -> Result<Vec<u8>, String> {
    let told = |e: std::io::Error| e.to_string();
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(told)?;
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is larger than {} MiB", LIMIT >> 20));
    }
    Ok(bytes)
}

/// The variables, or each bad line with what is wrong in it.
///
/// As docker/cli (`pkg/kvfile`): white space before a name goes, all behind `=` stays, quotes are
/// part of the value. A name alone, for which Docker asks its own environment, is refused: a lab is
/// to be the same for everybody, and sudo has emptied that environment anyway.
fn parse(bytes: &[u8]) -> Result<Variables, Vec<(usize, String)>> {
    let mut variables = Vec::new();
    let mut bad = Vec::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, line) in (1..).zip(bytes.split(|b| *b == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match variable(line) {
            Ok(found) => variables.extend(found),
            Err(why) => bad.push((number, why.to_owned())),
        }
    }
    if bad.is_empty() {
        Ok(variables)
    } else {
        Err(bad)
    }
}

fn variable(line: &[u8]) -> Result<Option<(String, String)>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8 text")?;
    let text = text.trim_start();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let Some((name, value)) = text.split_once('=') else {
        return Err("it has no `=`, and nothing is taken from the shell that runs nslab");
    };
    if name.is_empty() {
        return Err("it has no name before `=`");
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("the name before `=` has white space or control characters");
    }
    if value.contains('\0') {
        return Err("it has a zero byte");
    }
    Ok(Some((name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let text = b"\xef\xbb\xbfA=1\n\n# B=2\n  # indented\n  C= x \"y\" # z\nD=\r\nE=a=b\nA=2";
        let pairs = parse(text).expect("good");
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("A", "1"),
                ("C", " x \"y\" # z"),
                ("D", ""),
                ("E", "a=b"),
                ("A", "2")
            ]
        );
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn every_bad_line_is_named() {
        let bad = parse(b"A=1\nNAME\n=x\nB C=1\nexport D=1\n\xff=1\nE=\0\nF =1\n").unwrap_err();
        let lines: Vec<usize> = bad.iter().map(|(n, _)| *n).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            bad[0].1,
            "it has no `=`, and nothing is taken from the shell that runs nslab"
        );
        assert_eq!(bad[4].1, "it is not UTF-8 text");
    }
}
