//! apt-get and apt-cache, asked for packages. Nothing is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Wanted, alternatives, package_of, tail};
use crate::image::error::{Error, IoContext};
use crate::image::{Progress, digest, files};

/// A package as apt would fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deb {
    pub file: String,
    size: u64,
    /// `sha256:...`, where the repository gives one.
    digest: Option<String>,
}

impl Deb {
    /// Whether `path` is this package, whole.
    fn is(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|m| m.len() == self.size)
            && self
                .digest
                .as_ref()
                .is_none_or(|want| digest::of_file(path).is_ok_and(|got| got == *want))
    }
}

/// apt with options that leave the host alone.
pub(super) struct Apt<'a> {
    options: Vec<String>,
    recipe: &'a str,
}

impl Apt<'_> {
    /// With the host's package lists.
    pub(super) fn host(recipe: &str) -> Apt<'_> {
        let options = [
            // The best version that can be downloaded, whatever is installed here.
            "Dir::State::status=/dev/null",
            // No cache files in /var/cache/apt.
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            // As root apt would become `_apt`, which may not write to the store.
            "APT::Sandbox::User=root",
            // An ordinary user may ask what would be installed.
            "Debug::NoLocking=true",
            "Acquire::Retries=2",
            "Acquire::http::Timeout=30",
            "Acquire::https::Timeout=30",
        ];
        Apt {
            options: options.map(str::to_owned).to_vec(),
            recipe,
        }
    }

    /// With lists of its own in `dir`.
    pub(super) fn private<'a>(recipe: &'a str, dir: &Path) -> Result<Apt<'a>, Error> {
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).on("create folder", &path)?;
        }
        let mut apt = Apt::host(recipe);
        apt.options
            .push(format!("Dir::State={}", dir.join("state").display()));
        apt.options
            .push(format!("Dir::Cache={}", dir.join("cache").display()));
        Ok(apt)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        // apt-get must not outlive a killed nslab, or it would write into the next one's folder.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program, "-q"]);
        command.args(self.options.iter().flat_map(|o| ["-o", o]));
        command
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String, Error> {
        let output = self
            .command(program, arguments)
            .output()
            .on("run", Path::new(program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        Err(failed(
            program,
            arguments,
            &output.status.to_string(),
            &text,
        ))
    }

    /// What to fetch: the first of each group's alternatives that there is, and what those depend
    /// on if that is wanted.
    pub(super) fn plan(&self, wanted: Wanted<'_>) -> Result<Vec<Deb>, Error> {
        let groups = wanted.groups;
        let names: Vec<&str> = groups.iter().flat_map(|g| alternatives(g)).collect();
        let policy = self.run("apt-cache", &[&["policy"], &names[..]].concat())?;
        let known = candidates(&policy);
        let mut chosen: Vec<&str> = Vec::new();
        let mut missing = Vec::new();
        for group in groups {
            match alternatives(group).find(|name| known.contains(*name)) {
                Some(name) if chosen.contains(&name) => {}
                Some(name) => chosen.push(name),
                None => missing.push(group.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(self.without(missing));
        }
        let exact = if wanted.depends {
            self.closure(&chosen)?
        } else {
            Vec::new()
        };
        if wanted.depends {
            chosen = exact.iter().map(String::as_str).collect();
        }
        let arguments = [&["--print-uris", "download"], &chosen[..]].concat();
        let debs = uris(&self.run("apt-get", &arguments)?);
        if debs.len() == chosen.len() {
            return Ok(debs);
        }
        let there = |name: &str| debs.iter().any(|d| package_of(&d.file) == Some(name));
        let bare = |name: &str| name.split('=').next().unwrap_or_default().to_owned();
        let missing = chosen.iter().map(|name| bare(name));
        Err(self.without(missing.filter(|name| !there(name)).collect()))
    }

    fn without(&self, packages: Vec<String>) -> Error {
        Error::Packages {
            recipe: self.recipe.to_owned(),
            packages,
        }
    }

    /// These packages and all that they depend on, each as `name=version`. Names of libraries
    /// differ from one distribution to the next, so apt is asked for them: what it would install
    /// where nothing is.
    fn closure(&self, names: &[&str]) -> Result<Vec<String>, Error> {
        let options = [
            "--print-uris",
            "--yes",
            "--no-install-recommends",
            "install",
        ];
        // No digests here: this prints weak ones only.
        let all = uris(&self.run("apt-get", &[&options[..], names].concat())?);
        Ok(all.iter().filter_map(|d| exact(&d.file)).collect())
    }

    /// Downloads what `dir` lacks of `debs`.
    pub(super) fn fetch(
        &self,
        debs: &[Deb],
        dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<PathBuf>, Error> {
        let missing: Vec<&Deb> = debs.iter().filter(|d| !d.is(&dir.join(&d.file))).collect();
        if !missing.is_empty() {
            let part = dir.join(".part");
            files::remove_tree(&part)?;
            fs::create_dir(&part).on("create folder", &part)?;
            self.download(&missing, &part, progress)?;
            for deb in missing {
                let (from, to) = (part.join(&deb.file), dir.join(&deb.file));
                if !deb.is(&from) {
                    let got = digest::of_file(&from)?;
                    let want = deb.digest.clone().unwrap_or_default();
                    return Err(Error::Digest {
                        what: format!("package {}", deb.file),
                        want,
                        got,
                    });
                }
                fs::rename(&from, &to).on("move a package to", &to)?;
            }
            files::remove_tree(&part)?;
        }
        Ok(debs.iter().map(|d| dir.join(&d.file)).collect())
    }

    fn download(
        &self,
        debs: &[&Deb],
        part: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let total = Some(debs.iter().map(|d| d.size).sum());
        // By name=version: the plan's, whatever another alternative would be now.
        let names: Vec<String> = debs.iter().filter_map(|d| exact(&d.file)).collect();
        let arguments: Vec<&str> = ["download"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        let log = part.join(".log");
        let out = fs::File::create(&log).on("create", &log)?;
        let err = out.try_clone().on("create", &log)?;
        let mut child = self
            .command("apt-get", &arguments)
            .current_dir(part)
            .stdout(out)
            .stderr(err)
            .spawn()
            .on("run", Path::new("apt-get"))?;
        let status = loop {
            if let Some(status) = child.try_wait().on("wait for", Path::new("apt-get"))? {
                break status;
            }
            let done = debs
                .iter()
                .filter_map(|d| part.join(&d.file).metadata().ok())
                .map(|m| m.len())
                .sum();
            progress(Progress::Bytes {
                what: "packages",
                done,
                total,
            });
            std::thread::sleep(Duration::from_millis(100));
        };
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&log).unwrap_or_default();
        Err(failed("apt-get", &arguments, &status.to_string(), &text))
    }
}

/// `libc6=2.36-9` of `libc6_2.36-9_amd64.deb`; apt writes the colon of an epoch as `%3a`.
fn exact(file: &str) -> Option<String> {
    let (name, rest) = file.strip_suffix(".deb")?.split_once('_')?;
    let (version, _) = rest.rsplit_once('_')?;
    Some(format!("{name}={}", version.replace("%3a", ":")))
}

/// Names with a version that can be downloaded, from `apt-cache policy`.
fn candidates(policy: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut name = "";
    for line in policy.lines() {
        if let Some(header) = line.strip_suffix(':').filter(|l| !l.starts_with(' ')) {
            name = header;
        } else if let Some(version) = line.trim().strip_prefix("Candidate:")
            && version.trim() != "(none)"
        {
            names.insert(name);
        }
    }
    names
}

/// What `apt-get --print-uris download` prints: `'URI' file size HASH:digest` a line.
fn uris(text: &str) -> Vec<Deb> {
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
            let mut words = rest.split_whitespace();
            let file = words
                .next()
                .filter(|f| !f.contains('/') && package_of(f).is_some())?;
            let size = words.next()?.parse().ok()?;
            let digest = words
                .next()
                .and_then(|h| h.strip_prefix("SHA256:"))
                .map(|h| format!("sha256:{h}"));
            Some(Deb {
                file: file.to_owned(),
                size,
                digest,
            })
        })
        .collect()
}

fn failed(program: &str, arguments: &[&str], status: &str, output: &[u8]) -> Error {
    Error::Apt {
        command: format!("{program} {}", arguments.join(" ")),
        status: status.to_owned(),
        output: tail(&String::from_utf8_lossy(output), 12),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_prints_is_understood() {
        let policy = "busybox-static:\n  Installed: (none)\n  Candidate: 1:1.35.0-4+b1\n  Version \
                      table:\n     1:1.35.0-4+b1 500\n        500 http://deb.example bookworm/main \
                      amd64 Packages\nlibecj-java:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidates(policy), BTreeSet::from(["busybox-static"]));

        let hash = "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744";
        let line = format!(
            "'http://h/pool/busybox-static_1.35.0-4%2bb1_amd64.deb' \
             busybox-static_1%3a1.35.0-4+b1_amd64.deb 928188 SHA256:{hash}\nother text\n\
             'http://h/x.deb' ../x.deb 1 SHA256:00\n"
        );
        let file = "busybox-static_1%3a1.35.0-4+b1_amd64.deb";
        assert_eq!(
            uris(&line),
            [Deb {
                file: file.into(),
                size: 928_188,
                digest: Some(format!("sha256:{hash}"))
            }]
        );
        assert_eq!(package_of(file), Some("busybox-static"));
        assert_eq!(exact(file).as_deref(), Some("busybox-static=1:1.35.0-4+b1"));
    }

    #[test]
    fn a_package_that_does_not_exist_is_named() {
        let apt = Apt::host("x");
        let wanted = Wanted {
            groups: &["no-such-package-a | no-such-package-b".to_owned()],
            depends: false,
        };
        let e = apt.plan(wanted).unwrap_err().to_string();
        assert!(
            e.starts_with("no package no-such-package-a | no-such-package-b for image `x`"),
            "{e}"
        );
    }
}
