//! Debian packages for a recipe: downloaded with the host's own apt, never installed.
//!
//! apt reads the host's sources and keys. It writes nothing outside the store: no cache files, and
//! where the host's package lists are empty or out of date, lists of its own. Packages are kept,
//! so that building again needs no network.

mod apt;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, IoContext};
use super::{Progress, digest, files};
use apt::Apt;

/// Where the store keeps what this needs.
#[derive(Debug)]
pub(super) struct Folders {
    /// Packages.
    pub debs: PathBuf,
    /// apt's own state, where the host's cannot be used.
    pub apt: PathBuf,
}

/// Packages that a recipe wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Each `name` or `name | alternative`.
    pub groups: &'a [String],
    /// Whether what they depend on is wanted, too.
    pub depends: bool,
}

/// Provides packages; with `fresh` not older than the package lists, else whatever was downloaded
/// before, if it is all there.
pub(super) fn provide(
    recipe: &str,
    wanted: Wanted<'_>,
    fresh: bool,
    folders: &Folders,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<PathBuf>, Error> {
    if wanted.groups.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = files::lock(&folders.debs.join(".lock"), || {
        progress(Progress::Log("waiting for another nslab's download".into()));
    })?;
    let dir = &folders.debs;
    let before = known_names(wanted, dir).and_then(|names| kept(&names, dir));
    if let (Some(debs), false) = (&before, fresh) {
        return Ok(debs.clone());
    }
    let host = Apt::host(recipe);
    let first = match host
        .plan(wanted)
        .and_then(|debs| host.fetch(&debs, dir, progress))
    {
        Ok(debs) => return tidy(wanted, debs, dir),
        Err(e) => e,
    };
    // No lists (a fresh container), or lists of versions that are no longer on the server.
    progress(Progress::Log(
        "the host's package lists do not do; fetching current ones".into(),
    ));
    let own = Apt::private(recipe, &folders.apt)?;
    let second = own.run("apt-get", &["update"]).and_then(|_| {
        let debs = own.plan(wanted)?;
        own.fetch(&debs, dir, progress)
    });
    match (second, before) {
        (Ok(debs), _) => tidy(wanted, debs, dir),
        (Err(e), Some(debs)) => {
            progress(Progress::Log(format!(
                "using packages that were downloaded before: {e}"
            )));
            Ok(debs)
        }
        // What went wrong at first tells more where even the lists could not be fetched.
        (Err(e @ Error::Packages { .. }), None) => Err(e),
        (Err(e), None) => Err(if matches!(first, Error::Packages { .. }) {
            e
        } else {
            first
        }),
    }
}

/// Where the names are kept of all that `wanted` came to, dependencies included.
fn names_file(wanted: Wanted<'_>, dir: &Path) -> PathBuf {
    let digest = digest::of(wanted.groups.join("\n").as_bytes());
    let hex = digest::sha256_hex(&digest).unwrap_or_default();
    dir.join(format!("{hex}.names"))
}

/// The groups to look for among the packages that are there, without asking apt.
fn known_names(wanted: Wanted<'_>, dir: &Path) -> Option<Vec<String>> {
    if !wanted.depends {
        return Some(wanted.groups.to_vec());
    }
    let text = fs::read_to_string(names_file(wanted, dir)).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

/// The packages of all groups among those that were downloaded before; the newest file of each.
/// They were whole when they came here ([`Apt::fetch`]).
fn kept(groups: &[String], dir: &Path) -> Option<Vec<PathBuf>> {
    let files: Vec<_> = fs::read_dir(dir).ok()?.filter_map(Result::ok).collect();
    let newest = |name: &str| {
        files
            .iter()
            .filter(|f| f.file_name().to_str().and_then(package_of) == Some(name))
            .max_by_key(|f| f.metadata().and_then(|m| m.modified()).ok())
            .map(fs::DirEntry::path)
    };
    let mut debs = Vec::new();
    for group in groups {
        debs.push(alternatives(group).find_map(newest)?);
    }
    debs.sort();
    debs.dedup();
    Some(debs)
}

/// Removes other versions of the packages that were just provided, and notes their names.
fn tidy(wanted: Wanted<'_>, debs: Vec<PathBuf>, dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let name = |p: &Path| {
        p.file_name()
            .and_then(|n| n.to_str())
            .and_then(package_of)
            .map(str::to_owned)
    };
    let names: BTreeSet<_> = debs.iter().filter_map(|p| name(p)).collect();
    for entry in fs::read_dir(dir).on("list", dir)? {
        let path = entry.on("list", dir)?.path();
        if name(&path).is_some_and(|n| names.contains(&n)) && !debs.contains(&path) {
            fs::remove_file(&path).on("remove", &path)?;
        }
    }
    if wanted.depends {
        let file = names_file(wanted, dir);
        let text = names.into_iter().collect::<Vec<_>>().join("\n");
        files::replace(&file, text.as_bytes()).on("write", &file)?;
    }
    Ok(debs)
}

fn alternatives(group: &str) -> impl Iterator<Item = &str> {
    group.split('|').map(str::trim)
}

/// `libc6` of `libc6_2.36-9_amd64.deb`.
fn package_of(file: &str) -> Option<&str> {
    file.strip_suffix(".deb")?
        .split_once('_')
        .map(|(name, _)| name)
}

/// The last lines of a text, indented.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = all.len().saturating_sub(lines);
    all[from..]
        .iter()
        .map(|l| format!("  {l}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_packages_need_one_of_each_group() {
        let dir = tempfile::tempdir().expect("tempdir");
        for f in ["a_1_all.deb", "ab_1_all.deb", "c_1_all.deb"] {
            fs::write(dir.path().join(f), "").expect("write");
        }
        let groups = |g: &[&str]| g.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            kept(&groups(&["a", "b | c"]), dir.path()),
            Some(vec![
                dir.path().join("a_1_all.deb"),
                dir.path().join("c_1_all.deb")
            ])
        );
        assert_eq!(kept(&groups(&["a", "b"]), dir.path()), None);
    }
}
