//! `image.toml`: what a recipe says of itself. docs/recipes.md has all keys for people.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::builtin;
use crate::image::reference::{self, Reference, valid_name};

/// Version of the format of `image.toml` and of the build's environment; a new one builds anew.
pub(super) const FORMAT: u32 = 1;

/// `image.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct Manifest {
    pub format: u32,
    pub name: String,
    /// For people: the image's label `org.opencontainers.image.description`.
    #[serde(default)]
    pub description: String,
    pub script: String,
    /// Parts of nslab's library of recipes that the script uses.
    #[serde(default)]
    pub lib: Vec<String>,
    /// mtime of all files, seconds since 1970.
    #[serde(default)]
    pub epoch: u64,
    /// Debian packages; `a | b` is the first that there is.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Whether the script gets what the packages depend on, too.
    #[serde(default)]
    pub depends: bool,
    /// Files that are different in each build, as paths in the image: for people, and for tests.
    #[serde(default)]
    #[expect(dead_code, reason = "told, not used: the tests read it")]
    pub not_reproducible: Vec<String>,
    /// The image below.
    pub from: Option<From>,
    #[serde(default)]
    pub config: Config,
    /// Files of the user's that the build takes.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
}

/// `[config]`: what the image's OCI configuration says. With a base, what it says otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct Config {
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

/// `[from]`: the image whose layers are below the one that the script makes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct From {
    /// A recipe's name, or an image of a registry.
    pub image: String,
    /// Environment variable that names another.
    #[serde(default)]
    pub variable: String,
    /// Input with which there is none.
    #[serde(default)]
    pub unless: String,
}

/// `[inputs.NAME]`: a file that `NAME` in upper case in the environment, or `path`, names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::image) struct Input {
    #[serde(default)]
    pub path: String,
    /// Packages needed with it.
    #[serde(default)]
    pub packages: Vec<String>,
    /// What the image's configuration says with it.
    #[serde(default)]
    pub config: Config,
}

impl Config {
    /// Takes over whatever `other` says.
    pub(super) fn apply(&mut self, other: &Self) {
        if !other.entrypoint.is_empty() {
            // As in a Dockerfile: arguments of another program are of no use.
            self.entrypoint.clone_from(&other.entrypoint);
            self.cmd.clone_from(&other.cmd);
        } else if !other.cmd.is_empty() {
            self.cmd.clone_from(&other.cmd);
        }
        self.env.extend(other.env.clone());
        for (mine, others) in [
            (&mut self.user, &other.user),
            (&mut self.workdir, &other.workdir),
        ] {
            if !others.is_empty() {
                mine.clone_from(others);
            }
        }
        let ports = other.ports.iter().filter(|p| !self.ports.contains(p));
        self.ports.extend(ports.cloned().collect::<Vec<_>>());
        if other.stop_signal.is_some() {
            self.stop_signal.clone_from(&other.stop_signal);
        }
    }
}

/// What is wrong with a manifest, if something is.
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
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
            .all(|c| matches!(c, Component::Normal(_)))
    };
    if manifest.script.is_empty() || !inside(&manifest.script) {
        return Err(format!(
            "script {:?} is not in the recipe's folder",
            manifest.script
        ));
    }
    let config = &manifest.config;
    if manifest.from.is_none() && config.entrypoint.is_empty() && config.cmd.is_empty() {
        return Err("config has neither entrypoint nor cmd: nothing would run".into());
    }
    if let Some(part) = manifest.lib.iter().find(|p| builtin::part(p).is_none()) {
        let parts: Vec<_> = builtin::PARTS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "lib: there is no {part:?}; nslab's library has {}",
            parts.join(", ")
        ));
    }
    if let Some(from) = &manifest.from {
        if !from.unless.is_empty() && !manifest.inputs.contains_key(&from.unless) {
            return Err(format!("from.unless: there is no input {:?}", from.unless));
        }
        base(&from.image)?;
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

/// What a base's name means: a recipe or an image of a registry.
pub(super) fn base(image: &str) -> Result<Reference, String> {
    match Reference::parse(image).map_err(|e| format!("from: {e}"))? {
        Reference::Path { .. } => Err(format!(
            "from: {image:?} is a path; a base is a recipe's name or an image of a registry"
        )),
        Reference::Name(name) => Ok(Reference::Name(name)),
        Reference::Remote(_) => reference::remote(image)
            .map(Reference::Remote)
            .map_err(|e| format!("from: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            wrong(&with("lib = [\"rot\"]\nconfig.cmd = [\"x\"]")),
            "lib: there is no \"rot\"; nslab's library has root, tomcat"
        );
        assert_eq!(
            wrong(&with("from = { image = \"a/b:1\", unless = \"war\" }")),
            "from.unless: there is no input \"war\""
        );
        assert_eq!(
            wrong(&with("from.image = \"./layout\"")),
            "from: \"./layout\" is a path; a base is a recipe's name or an image of a registry"
        );
        assert!(wrong(&with("from.image = \"A\"")).starts_with("from: image `A`: it is neither"));
        let unknown = toml::from_str::<Manifest>("format = 1\nnaem = \"x\"").unwrap_err();
        assert!(
            unknown.to_string().contains("unknown field `naem`"),
            "{unknown}"
        );
    }

    #[test]
    fn a_configuration_takes_over_what_another_says() {
        let config = |text: &str| toml::from_str::<Config>(text).expect("toml");
        let mut one = config(
            "entrypoint = [\"a\"]\ncmd = [\"b\"]\nenv = { A = \"1\", B = \"1\" }\nuser = \"u\"\n\
             ports = [\"80/tcp\"]",
        );
        one.apply(&config(
            "entrypoint = [\"c\"]\nenv = { B = \"2\" }\nports = [\"80/tcp\", \"81/tcp\"]",
        ));
        assert_eq!(one.entrypoint, ["c"]);
        assert!(one.cmd.is_empty());
        assert_eq!(one.env.values().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(one.user, "u");
        assert_eq!(one.ports, ["80/tcp", "81/tcp"]);
        one.apply(&config("cmd = [\"d\"]"));
        assert_eq!(
            (&one.entrypoint[..], &one.cmd[..]),
            (&["c".into()][..], &["d".into()][..])
        );
    }
}
