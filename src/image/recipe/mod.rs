//! Recipes: a folder with `image.toml`, a build script and what that needs.

mod builtin;
mod manifest;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::RunConfig;
use super::digest;
use super::error::{Error, IoContext};
use super::hashcache::HashCache;
use super::reference::Reference;
use manifest::{Config, FORMAT, Manifest};

/// The file that makes a folder a recipe.
pub(super) const FILE: &str = "image.toml";
/// More than a recipe's own files are ever together: somebody named a wrong folder.
const MAX_FILES: usize = 10_000;

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

/// The embedded recipe of that name.
pub(super) fn embedded(name: &str) -> Option<Source> {
    builtin::recipe(name).map(|(name, _)| Source::Embedded(name))
}

/// The image whose layers are below the recipe's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    /// As written, or as the environment has it.
    pub image: String,
    /// A recipe or an image of a registry.
    pub reference: Reference,
    /// `; ` and what to do where it cannot be had, or nothing.
    pub help: String,
}

/// A recipe, read and hashed.
#[derive(Debug)]
pub(super) struct Recipe {
    pub manifest: Manifest,
    pub source: Source,
    /// `sha256:...` over everything that counts: the folder's files, the library's parts that it
    /// uses, the inputs, the base's name, the architecture and the format.
    pub digest: String,
    /// The inputs that are given: the environment variable, the file.
    pub inputs: Vec<(String, PathBuf)>,
    /// Packages, those for given inputs included.
    pub packages: Vec<String>,
    /// The image below, where there is one.
    pub base: Option<Base>,
    config: Config,
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
        manifest::check(&manifest).map_err(wrong)?;
        for part in &manifest.lib {
            let files = builtin::part(part).unwrap_or_default();
            let of_part = builtin::lines(files).into_iter();
            lines.extend(of_part.map(|l| format!("lib {part} {l}")));
        }
        let mut inputs = Vec::new();
        let mut packages = manifest.packages.clone();
        let mut config = manifest.config.clone();
        for (name, input) in &manifest.inputs {
            let variable = name.to_uppercase();
            let (file, said) = match from_environment(&variable) {
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
            config.apply(&input.config);
            inputs.push((variable, file));
        }
        let base = base(&manifest, &inputs).map_err(wrong)?;
        if let Some(base) = &base {
            lines.push(format!("from {}", base.image));
        }
        lines.push(format!("format {FORMAT} arch {}", std::env::consts::ARCH));
        let digest = digest::of(lines.join("\n").as_bytes());
        Ok(Self {
            manifest,
            source,
            digest,
            inputs,
            packages,
            base,
            config,
        })
    }

    /// What the image's processes get; with a base, what they get otherwise.
    pub(super) fn run_config(&self) -> RunConfig {
        let config = &self.config;
        RunConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone().into_iter().collect(),
            user: config.user.clone(),
            workdir: PathBuf::from(&config.workdir),
            stop_signal: config.stop_signal.clone(),
        }
    }

    /// Ports that its process listens on.
    pub(super) fn ports(&self) -> &[String] {
        &self.config.ports
    }

    /// The recipe's folder; an embedded one is written to `to` first.
    pub(super) fn folder(&self, to: &Path) -> Result<PathBuf, Error> {
        match &self.source {
            Source::Folder(dir) => std::path::absolute(dir).on("find", dir),
            Source::Embedded(name) => {
                let files = builtin::recipe(name).map(|(_, files)| files);
                builtin::write(files.unwrap_or_default(), to)?;
                Ok(to.to_owned())
            }
        }
    }

    /// Writes the parts of the library that the recipe uses into the folder `to`.
    pub(super) fn library(&self, to: &Path) -> Result<(), Error> {
        for part in &self.manifest.lib {
            let files = builtin::part(part).unwrap_or_default();
            builtin::write(files, &to.join(part))?;
        }
        Ok(())
    }

    /// An error about its `image.toml`.
    pub(super) fn wrong(&self, why: String) -> Error {
        Error::Recipe {
            path: self.source.path().join(FILE),
            why,
        }
    }

    /// Folders where the name of its base is looked for: where the recipe itself is.
    pub(super) fn beside(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Folder(dir) => dir.parent().map(Path::to_owned).into_iter().collect(),
            Source::Embedded(_) => Vec::new(),
        }
    }
}

fn from_environment(variable: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(variable).filter(|v| !v.is_empty())
}

/// The base, unless there is none or an input is given with which there is none.
fn base(manifest: &Manifest, inputs: &[(String, PathBuf)]) -> Result<Option<Base>, String> {
    let Some(from) = &manifest.from else {
        return Ok(None);
    };
    let unless = from.unless.to_uppercase();
    if inputs.iter().any(|(variable, _)| *variable == unless) {
        return Ok(None);
    }
    let other = if from.variable.is_empty() {
        None
    } else {
        from_environment(&from.variable)
    };
    let image = match other {
        Some(name) => name
            .into_string()
            .map_err(|_| format!("{}: it is not UTF-8", from.variable))?,
        None => from.image.clone(),
    };
    let mut help = Vec::new();
    if !from.variable.is_empty() {
        help.push(format!("name another image in {}", from.variable));
    }
    if !unless.is_empty() {
        help.push(format!("name a file in {unless} to build without it"));
    }
    Ok(Some(Base {
        reference: manifest::base(&image)?,
        image,
        help: match help.join(", or ") {
            help if help.is_empty() => help,
            help => format!("; {help}"),
        },
    }))
}

fn hash_embedded(name: &str) -> Option<(String, Vec<String>)> {
    let (_, files) = builtin::recipe(name)?;
    let toml = files.iter().find(|f| f.path == FILE)?;
    let text = String::from_utf8_lossy(toml.content).into_owned();
    Some((text, builtin::lines(files)))
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

    #[test]
    fn the_embedded_recipes_are_the_folders() {
        let mut hashes = HashCache::none();
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
        let mut folders: Vec<String> = fs::read_dir(&images)
            .expect("list")
            .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name != "lib")
            .collect();
        folders.sort();
        let mut names: Vec<_> = builtin::RECIPES.iter().map(|(n, _)| *n).collect();
        names.sort_unstable();
        assert_eq!(folders, names, "a recipe is missing in RECIPES");
        for name in names {
            let folder = Source::Folder(images.join(name));
            let folder = Recipe::load(folder, &mut hashes).expect("folder");
            let built_in = Recipe::load(embedded(name).expect("embedded"), &mut hashes);
            assert_eq!(
                folder.digest,
                built_in.expect("embedded").digest,
                "a file is missing in RECIPES"
            );
        }
        for (part, files) in builtin::PARTS {
            let folder = hash_folder(&images.join("lib").join(part), &mut hashes);
            assert_eq!(
                folder.expect("folder"),
                builtin::lines(files),
                "a file is missing in PARTS"
            );
        }
    }

    /// A recipe in a folder of its own.
    fn load(toml: &str) -> Result<Recipe, String> {
        let dir = tempfile::tempdir().expect("tempdir");
        let head = "format = 1\nname = \"x\"\nscript = \"s\"\n";
        fs::write(dir.path().join(FILE), head.to_owned() + toml).expect("write");
        fs::write(dir.path().join("war"), "").expect("write");
        let source = Source::Folder(dir.path().to_owned());
        Recipe::load(source, &mut HashCache::none()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_base_counts_by_its_name_unless_an_input_is_there() {
        let from = "from = { image = \"a/b:1\", variable = \"NSLAB_TEST_X\", unless = \"w\" }\n";
        let recipe = load(&format!("{from}[inputs.w]\n")).expect("load");
        let base = recipe.base.expect("a base");
        assert_eq!(base.image, "a/b:1");
        assert_eq!(
            base.help,
            "; name another image in NSLAB_TEST_X, or name a file in W to build without it"
        );
        let other = load(&format!("{}[inputs.w]\n", from.replace("b:1", "b:2"))).expect("load");
        assert_ne!(recipe.digest, other.digest);
        let given = format!("{from}[inputs.w]\npath = \"war\"\nconfig.cmd = [\"/x\"]\n");
        let given = load(&given).expect("load");
        assert_eq!(given.base, None);
        assert_eq!(given.run_config().cmd, ["/x"]);
    }

    #[test]
    fn the_script_gets_the_parts_of_the_library_that_it_uses() {
        let with = load("lib = [\"root\"]\nconfig.cmd = [\"/x\"]\n").expect("load");
        let dir = tempfile::tempdir().expect("tempdir");
        with.library(dir.path()).expect("write");
        let written = fs::read_to_string(dir.path().join("root/root.sh")).expect("read");
        assert!(written.contains("libraries()"), "{written}");
        assert!(!dir.path().join("tomcat").exists());
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
}
