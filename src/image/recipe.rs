//! Recipes: a folder with `image.toml`, a build script and what that needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RunConfig;
use super::digest;
use super::error::{Error, IoContext};
use super::hashcache::HashCache;
use super::reference::valid_name;

/// Version of the format of `image.toml` and of the build's environment; a new one builds anew.
const FORMAT: u32 = 1;
/// The file that makes a folder a recipe.
pub(super) const FILE: &str = "image.toml";
/// More than a recipe's own files are ever together: somebody named a wrong folder.
const MAX_FILES: usize = 10_000;

/// `image.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub format: u32,
    pub name: String,
    /// For people: the image's label `org.opencontainers.image.description`.
    #[serde(default)]
    pub description: String,
    pub script: String,
    /// mtime of all files, seconds since 1970.
    #[serde(default)]
    pub epoch: u64,
    /// Debian packages; `a | b` is the first that there is.
    #[serde(default)]
    pub packages: Vec<String>,
    #[serde(default)]
    pub config: Config,
    /// Files of the user's that the build takes.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
}

/// `[config]`: what the image's OCI configuration says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub cmd: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub workdir: String,
    #[serde(default)]
    pub ports: Vec<String>,
    pub stop_signal: Option<String>,
}

/// `[inputs.NAME]`: a file that `NAME` in upper case in the environment, or `path`, names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    #[serde(default)]
    pub path: String,
    /// Environment that the image gets with it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Packages needed with it.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// Where a recipe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A folder.
    Folder(PathBuf),
    /// The one of this name that is part of the program.
    Embedded(&'static str),
}

impl Source {
    fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Embedded(name) => PathBuf::from(format!("(built in) {name}")),
        }
    }
}

/// A file of an embedded recipe.
pub(super) struct Embedded {
    path: &'static str,
    content: &'static [u8],
    executable: bool,
}

macro_rules! embed {
    ($folder:literal: $($path:literal $executable:literal),* $(,)?) => {
        &[$(Embedded {
            path: $path,
            content: include_bytes!(concat!("../../", $folder, "/", $path)),
            executable: $executable,
        }),*]
    };
}

/// Recipes that are part of the program, so that an installed nslab needs no checkout.
const EMBEDDED: &[(&str, &[Embedded])] = &[(
    "tomcat",
    embed!("images/tomcat":
        "build.sh" true,
        "conf/catalina.properties" false,
        "conf/server.xml" false,
        "conf/web.xml" false,
        "image.toml" false,
        "java/nslab/Launcher.java" false,
        "java/nslab/Realserver.java" false,
        "java/nslab/Standin.java" false,
        "run" true,
        "webapps/thredds/WEB-INF/web.xml" false,
    ),
)];

/// The embedded recipe of that name.
pub(super) fn embedded(name: &str) -> Option<Source> {
    EMBEDDED
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(n, _)| Source::Embedded(n))
}

/// A recipe, read and hashed.
#[derive(Debug)]
pub(super) struct Recipe {
    pub manifest: Manifest,
    pub source: Source,
    /// `sha256:...` over everything that counts: the folder's files, the inputs, the architecture
    /// and the format.
    pub digest: String,
    /// The inputs that are given: the environment variable, the file.
    pub inputs: Vec<(String, PathBuf)>,
    /// Packages, those for given inputs included.
    pub packages: Vec<String>,
}

impl Recipe {
    pub(super) fn load(source: Source, hashes: &mut HashCache) -> Result<Self, Error> {
        let path = source.path();
        let wrong = |why: String| Error::Recipe {
            path: path.join(FILE),
            why,
        };
        let (text, mut lines) = match &source {
            Source::Folder(dir) => {
                let file = dir.join(FILE);
                let text = fs::read_to_string(&file).on("read", &file)?;
                (text, hash_folder(dir, hashes)?)
            }
            Source::Embedded(name) => {
                hash_embedded(name).ok_or_else(|| wrong("no such recipe is built in".into()))?
            }
        };
        let manifest: Manifest = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        check(&manifest).map_err(wrong)?;
        let mut inputs = Vec::new();
        let mut packages = manifest.packages.clone();
        for (name, input) in &manifest.inputs {
            let variable = name.to_uppercase();
            let (file, said) = match std::env::var_os(&variable).filter(|v| !v.is_empty()) {
                Some(value) => (PathBuf::from(value), variable.clone()),
                None if input.path.is_empty() => continue,
                None => (path.join(&input.path), format!("inputs.{name}.path")),
            };
            let file = std::path::absolute(&file).on("find", &file)?;
            if !file.is_file() {
                return Err(wrong(format!("{said}: {} is no file", file.display())));
            }
            lines.push(format!("input {name} {}", hashes.of(&file)?));
            packages.extend(input.packages.iter().cloned());
            inputs.push((variable, file));
        }
        lines.push(format!("format {FORMAT} arch {}", std::env::consts::ARCH));
        let digest = digest::of(lines.join("\n").as_bytes());
        Ok(Self {
            manifest,
            source,
            digest,
            inputs,
            packages,
        })
    }

    /// What the image's processes get.
    pub(super) fn run_config(&self) -> RunConfig {
        let config = &self.manifest.config;
        let mut env = config.env.clone();
        for (name, input) in &self.manifest.inputs {
            if self
                .inputs
                .iter()
                .any(|(variable, _)| *variable == name.to_uppercase())
            {
                env.extend(input.env.clone());
            }
        }
        RunConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: env.into_iter().collect(),
            user: config.user.clone(),
            workdir: PathBuf::from(&config.workdir),
            stop_signal: config.stop_signal.clone(),
        }
    }

    /// The recipe's folder; an embedded one is written to `to` first.
    pub(super) fn folder(&self, to: &Path) -> Result<PathBuf, Error> {
        let files = match &self.source {
            Source::Folder(dir) => return std::path::absolute(dir).on("find", dir),
            Source::Embedded(name) => EMBEDDED.iter().find(|(n, _)| n == name).map(|(_, f)| *f),
        };
        for file in files.unwrap_or_default() {
            let path = to.join(file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).on("create folder", parent)?;
            }
            fs::write(&path, file.content).on("write", &path)?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .on("set mode of", &path)?;
        }
        Ok(to.to_owned())
    }
}

fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.format != FORMAT {
        return Err(format!(
            "format {} is not supported; this is format {FORMAT}",
            manifest.format
        ));
    }
    if !valid_name(&manifest.name) {
        return Err(format!(
            "name {:?}: it must begin with a lower-case letter or a digit and hold only these, \
             '-', '_' and '.'",
            manifest.name
        ));
    }
    let inside = |p: &str| {
        Path::new(p)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)))
    };
    if manifest.script.is_empty() || !inside(&manifest.script) {
        return Err(format!(
            "script {:?} is not in the recipe's folder",
            manifest.script
        ));
    }
    if manifest.config.entrypoint.is_empty() && manifest.config.cmd.is_empty() {
        return Err("config has neither entrypoint nor cmd: nothing would run".into());
    }
    // apt-get takes an argument that begins with '-' as an option.
    let names = manifest
        .packages
        .iter()
        .chain(manifest.inputs.values().flat_map(|i| &i.packages));
    for package in names.flat_map(|group| group.split('|')).map(str::trim) {
        let first = package.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !first
            || !package
                .chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '+' | '-' | '.'))
        {
            return Err(format!("{package:?} is no package name"));
        }
    }
    Ok(())
}

fn hash_embedded(name: &str) -> Option<(String, Vec<String>)> {
    let (_, files) = EMBEDDED.iter().find(|(n, _)| *n == name)?;
    let lines = files
        .iter()
        .map(|f| line(f.path, f.executable, &digest::of(f.content)))
        .collect();
    let toml = files.iter().find(|f| f.path == FILE)?;
    Some((String::from_utf8_lossy(toml.content).into_owned(), lines))
}

fn line(path: &str, executable: bool, digest: &str) -> String {
    format!(
        "file {} {path} {digest}",
        if executable { "x" } else { "-" }
    )
}

/// One line a file, sorted by path.
fn hash_folder(dir: &Path, hashes: &mut HashCache) -> Result<Vec<String>, Error> {
    let wrong = |path: &Path, why: &str| Error::Recipe {
        path: path.to_owned(),
        why: why.into(),
    };
    let mut found = BTreeMap::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, rel)) = folders.pop() {
        for entry in fs::read_dir(&folder).on("list", &folder)? {
            let entry = entry.on("list", &folder)?;
            let path = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| wrong(&path, "its name is not UTF-8"))?;
            let rel = if rel.is_empty() {
                name
            } else {
                format!("{rel}/{name}")
            };
            let meta = path.symlink_metadata().on("look at", &path)?;
            if meta.is_dir() {
                folders.push((path, rel));
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o111 != 0;
                found.insert(rel.clone(), line(&rel, executable, &hashes.of(&path)?));
            } else {
                return Err(wrong(&path, "a recipe may hold only files and folders"));
            }
            if found.len() > MAX_FILES {
                return Err(wrong(
                    dir,
                    "more than 10000 files: is this a recipe's folder?",
                ));
            }
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("images/tomcat")
    }

    #[test]
    fn the_embedded_recipe_is_the_folders() {
        let mut hashes = HashCache::none();
        let folder = Recipe::load(Source::Folder(repository()), &mut hashes).expect("folder");
        let built_in =
            Recipe::load(embedded("tomcat").expect("embedded"), &mut hashes).expect("embedded");
        assert_eq!(
            folder.digest, built_in.digest,
            "a file is missing in EMBEDDED"
        );
    }

    #[test]
    fn any_change_of_the_folder_changes_the_digest() {
        let dir = tempfile::tempdir().expect("tempdir");
        let load = || {
            Recipe::load(
                Source::Folder(dir.path().to_owned()),
                &mut HashCache::none(),
            )
            .map(|r| r.digest)
            .map_err(|e| e.to_string())
        };
        fs::write(
            dir.path().join(FILE),
            "format = 1\nname = \"x\"\nscript = \"s\"\nconfig.cmd = [\"/x\"]\n",
        )
        .expect("write");
        fs::write(dir.path().join("s"), "1").expect("write");
        let first = load().expect("load");
        assert_eq!(load(), Ok(first.clone()));
        fs::write(dir.path().join("s"), "2").expect("write");
        let second = load().expect("load");
        fs::set_permissions(dir.path().join("s"), fs::Permissions::from_mode(0o755)).expect("mode");
        let third = load().expect("load");
        fs::write(dir.path().join("t"), "").expect("write");
        let fourth = load().expect("load");
        assert_eq!(
            std::collections::HashSet::from([&first, &second, &third, &fourth]).len(),
            4
        );
        fs::remove_file(dir.path().join("t")).expect("remove");
        assert_eq!(load(), Ok(third));
        std::os::unix::fs::symlink("s", dir.path().join("l")).expect("symlink");
        assert!(load().unwrap_err().contains("only files and folders"));
    }

    #[test]
    fn a_wrong_image_toml_is_explained() {
        let wrong = |text: &str| {
            let manifest: Manifest = toml::from_str(text).expect("toml");
            check(&manifest).unwrap_err()
        };
        let with = |s: &str| format!("format = 1\nname = \"x\"\nscript = \"s\"\n{s}");
        assert_eq!(
            wrong(&with("")),
            "config has neither entrypoint nor cmd: nothing would run"
        );
        assert_eq!(
            wrong(&with(
                "packages = [\"a | -o=Dir::Etc=x\"]\nconfig.cmd = [\"x\"]"
            )),
            "\"-o=Dir::Etc=x\" is no package name"
        );
        assert_eq!(
            wrong("format = 2\nname = \"x\"\nscript = \"s\""),
            "format 2 is not supported; this is format 1"
        );
        assert_eq!(
            wrong("format = 1\nname = \"x\"\nscript = \"../s\""),
            "script \"../s\" is not in the recipe's folder"
        );
        assert!(
            wrong("format = 1\nname = \"../x\"\nscript = \"s\"").starts_with("name \"../x\": ")
        );
        let unknown = toml::from_str::<Manifest>("format = 1\nnaem = \"x\"").unwrap_err();
        assert!(
            unknown.to_string().contains("unknown field `naem`"),
            "{unknown}"
        );
    }
}
