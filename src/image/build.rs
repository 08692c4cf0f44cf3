//! Runs a recipe: packages, the script in namespaces of its own, the layer, the layout.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Progress;
use super::debs::{self, Folders, Wanted};
use super::error::{Error, IoContext};
use super::files;
use super::layout;
use super::pack;
use super::recipe::Recipe;

/// Lines of a failed script that its error shows.
const TAIL: usize = 30;
/// How a script's line begins that names a stage.
const STAGE: &str = "==> ";
/// Programs without which nothing is built, and the packages that have them.
const TOOLS: [(&str, &str); 7] = [
    (
        "apt-get",
        "apt (recipes are built on Debian and Ubuntu; elsewhere use an OCI image layout)",
    ),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("bash", "bash"),
];
/// Where programs are looked for: an ordinary user's PATH may lack sbin, which has chroot.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image below the one that is built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    /// Its name, as the recipe has it.
    pub name: &'a str,
    /// Its layout.
    pub layout: &'a Path,
    /// Its layers, unpacked, the uppermost first.
    pub layers: &'a [PathBuf],
}

/// Where a build works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// Packages and apt's state.
    pub debs: &'a Folders,
    /// An empty folder on the store's filesystem.
    pub work: &'a Path,
    /// An empty folder: the new layout.
    pub out: &'a Path,
}

/// Builds `recipe` and writes its layout; with `fresh` from the current versions of its packages.
pub(super) fn build(
    recipe: &Recipe,
    base: Option<Base<'_>>,
    fresh: bool,
    places: Places<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let name = &recipe.manifest.name;
    let Places { work, out, .. } = places;
    if let Some((tool, package)) = missing_tool(PATH) {
        return Err(Error::Tool {
            recipe: name.clone(),
            tool,
            package,
        });
    }
    probe_namespaces(name)?;

    let mkdir = |sub: &str| -> Result<_, Error> {
        let path = work.join(sub);
        fs::create_dir(&path).on("create folder", &path)?;
        Ok(path)
    };
    let (packages, scratch, root) = (mkdir("debs")?, mkdir("work")?, mkdir("root")?);
    let library = mkdir("lib")?;
    recipe.library(&library)?;
    let folder = recipe.folder(&mkdir("recipe")?)?;
    let script = folder.join(&recipe.manifest.script);
    // Downloading before and packing after the script's own stages; unpacking comes after that.
    let of = 3 + stages(&fs::read_to_string(&script).on("read", &script)?);
    let mut step = 0;
    let mut stage = |text: &str, progress: &mut dyn FnMut(Progress)| {
        step += 1;
        progress(Progress::Stage {
            text: text.to_owned(),
            step: step.min(of),
            of,
        });
    };

    stage("downloading packages", progress);
    let wanted = Wanted {
        groups: &recipe.packages,
        depends: recipe.manifest.depends,
    };
    for deb in debs::provide(name, wanted, fresh, places.debs, progress)? {
        let Some(file) = deb.file_name() else {
            continue;
        };
        let link = packages.join(file);
        std::os::unix::fs::symlink(&deb, &link).on("link", &link)?;
    }

    let mut command = isolated();
    command.arg("bash").arg(&script);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", &scratch)
        .env("TMPDIR", &scratch);
    command
        .env("NSLAB_RECIPE", &folder)
        .env("NSLAB_DEBS", &packages)
        .env("NSLAB_LIB", &library);
    command.env("NSLAB_WORK", &scratch).env("NSLAB_ROOT", &root);
    if let Some(base) = base {
        command.env("NSLAB_BASE", base_variable(base.layers)?);
    }
    command.env("SOURCE_DATE_EPOCH", recipe.manifest.epoch.to_string());
    command.envs(
        recipe
            .inputs
            .iter()
            .map(|(variable, file)| (variable, file)),
    );
    run(name, command, &mut |line| match line.strip_prefix(STAGE) {
        Some(text) => stage(text, progress),
        None => progress(Progress::Log(line.to_owned())),
    })?;

    stage("packing the layer", progress);
    let total = Some(pack::size_of(&root)?);
    let blob = work.join("layer");
    let packed = pack::pack(&root, &blob, recipe.manifest.epoch, &mut |done| {
        progress(Progress::Bytes {
            what: "layer",
            done,
            total,
        });
    })?;
    let image = layout::New {
        tag: "latest",
        description: &recipe.manifest.description,
        config: &recipe.run_config(),
        ports: recipe.ports(),
        base: base.map(|base| layout::Below {
            name: base.name,
            layout: base.layout,
        }),
    };
    layout::write(out, &image, &packed, &blob)?;
    files::remove_tree(work)?;
    stage("unpacking the layer", progress);
    Ok(())
}

/// The base's layers as one word.
fn base_variable(layers: &[PathBuf]) -> Result<OsString, Error> {
    let first = layers.first().map_or(Path::new(""), |l| l);
    std::env::join_paths(layers)
        .map_err(io::Error::other)
        .on("name in a list", first)
}

/// The first of the needed programs that no folder of `path` has, and its package.
fn missing_tool(path: &str) -> Option<(&'static str, &'static str)> {
    let there = |tool: &str| {
        path.split(':')
            .any(|dir| Path::new(dir).join(tool).exists())
    };
    TOOLS.into_iter().find(|(tool, _)| !there(tool))
}

fn stages(script: &str) -> usize {
    script
        .lines()
        .filter(|l| l.trim_start().starts_with(&format!("echo \"{STAGE}")))
        .count()
}

/// A command in user (unless root), mount, network and pid namespaces that ends with this thread:
/// `setpriv` has the kernel kill `unshare`, that kills the first process of the pid namespace, and
/// the kernel all others in it.
fn isolated() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    command.stdin(Stdio::null());
    command
}

fn probe_namespaces(recipe: &str) -> Result<(), Error> {
    let mut command = isolated();
    command.args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    let output = command
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .output()
        .on("run", Path::new("unshare"))?;
    if output.status.success() {
        return Ok(());
    }
    let on =
        |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let help = if rustix::process::geteuid().is_root() {
        "root lacks CAP_SYS_ADMIN here: in a container, give it (docker: --privileged)"
    } else if on(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "AppArmor forbids user namespaces to ordinary users (Ubuntu 24.04): run it with sudo, or \
         `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    } else if on("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "ordinary users may not make user namespaces here: run it with sudo, or `sudo sysctl \
         kernel.unprivileged_userns_clone=1`"
    } else if on("/proc/sys/user/max_user_namespaces", "0") {
        "user namespaces are turned off here: run it with sudo, or `sudo sysctl \
         user.max_user_namespaces=10000`"
    } else {
        "run it with sudo"
    };
    Err(Error::Namespaces {
        recipe: recipe.to_owned(),
        why: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        help: help.to_owned(),
    })
}

/// Runs the script and passes its lines on.
fn run(recipe: &str, mut command: Command, line: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let (reader, writer) = std::io::pipe().on("make a pipe for", Path::new("the script"))?;
    let second = writer
        .try_clone()
        .on("make a pipe for", Path::new("the script"))?;
    let mut child = command
        .stdout(writer)
        .stderr(second)
        .spawn()
        .on("run", Path::new("setpriv"))?;
    // The command holds the pipe's writing ends, too.
    drop(command);
    let mut tail = VecDeque::with_capacity(TAIL);
    for bytes in BufReader::new(reader).split(b'\n') {
        let Ok(bytes) = bytes else { break };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        line(&text);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    }
    let status = child.wait().on("wait for", Path::new("the script"))?;
    if status.success() {
        return Ok(());
    }
    let text = Vec::from(tail).join("\n");
    Err(Error::Build {
        recipe: recipe.to_owned(),
        status: status.to_string(),
        tail: debs::tail(&text, TAIL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let dir = tempfile::tempdir().expect("tempdir");
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            fs::write(dir.path().join(tool), "").expect("write");
        }
        let (tool, package) =
            missing_tool(dir.path().to_str().expect("utf-8")).expect("unshare is missing");
        let error = Error::Tool {
            recipe: "tomcat".into(),
            tool,
            package,
        };
        assert_eq!(
            error.to_string(),
            "building image `tomcat` needs `unshare`, which is not there; install package util-linux"
        );
    }

    #[test]
    fn stages_of_a_script_are_counted() {
        assert_eq!(
            stages("#!/bin/bash\necho \"==> one\"\n  echo \"==> two\"\n# echo\n"),
            2
        );
    }
}
