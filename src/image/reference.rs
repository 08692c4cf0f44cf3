//! What an image reference in a lab file or on the command line means.

use std::path::{Path, PathBuf};

use super::error::Error;

/// A reference, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// The name of a recipe.
    Recipe(String),
    /// A folder: a recipe or an OCI image layout.
    Folder {
        /// As written, without the tag.
        path: PathBuf,
        /// Which image of a layout.
        tag: Option<String>,
    },
}

impl Reference {
    pub(super) fn parse(reference: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Reference {
            reference: reference.to_owned(),
            why: why.to_owned(),
        };
        if reference.starts_with('/') || reference.starts_with("./") || reference.starts_with("../")
        {
            // A colon may also be part of a folder's name.
            let (path, tag) = match reference.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') && !Path::new(reference).exists() => {
                    (path, Some(tag.to_owned()))
                }
                _ => (reference, None),
            };
            if tag.as_deref() == Some("") {
                return Err(refuse("the tag after `:` is empty"));
            }
            if Path::new(path).is_file() {
                return Err(refuse(
                    "image archives are not supported yet; unpack it to an OCI image layout, for \
                     example with `skopeo copy oci-archive:FILE oci:FOLDER`",
                ));
            }
            return Ok(Self::Folder {
                path: path.into(),
                tag,
            });
        }
        if valid_name(reference) {
            return Ok(Self::Recipe(reference.to_owned()));
        }
        Err(refuse(
            "it is neither a recipe's name nor a path that begins with `./` or `/`; registries are \
             not supported yet: `skopeo copy docker://NAME oci:FOLDER` makes a folder that nslab \
             takes",
        ))
    }
}

/// Whether a recipe can have this name: it becomes part of file names.
pub(super) fn valid_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<Reference, String> {
        Reference::parse(s).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_folders() {
        assert_eq!(parse("tomcat"), Ok(Reference::Recipe("tomcat".into())));
        let folder = |p: &str, t: Option<&str>| {
            Ok(Reference::Folder {
                path: p.into(),
                tag: t.map(str::to_owned),
            })
        };
        assert_eq!(parse("./image"), folder("./image", None));
        assert_eq!(parse("./image:v1"), folder("./image", Some("v1")));
        assert_eq!(parse("/srv/a:b/image"), folder("/srv/a:b/image", None));
        assert_eq!(parse("../image:v1"), folder("../image", Some("v1")));
    }

    #[test]
    fn what_comes_later_is_said_so() {
        for registry in [
            "docker.io/library/nginx",
            "nginx:1.27",
            "host:5000/x@sha256:0",
            "Nginx",
        ] {
            let e = parse(registry).unwrap_err();
            assert!(e.contains("registries are not supported yet"), "{e}");
            assert!(e.starts_with(&format!("image `{registry}`: ")), "{e}");
        }
        let e = parse("/etc/passwd").unwrap_err();
        assert!(e.contains("image archives are not supported yet"), "{e}");
        assert_eq!(
            parse("./image:").unwrap_err(),
            "image `./image:`: the tag after `:` is empty"
        );
    }
}
