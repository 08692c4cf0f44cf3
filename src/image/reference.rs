//! What an image reference in a lab file or on the command line means.

use std::path::{Path, PathBuf};

use oci_spec::distribution::Reference as Remote;

use super::error::Error;

/// How skopeo(1) and podman(1) write that a reference is a registry's.
const DOCKER: &str = "docker://";

/// A reference, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// A bare word: the name of a recipe, or else of an image of Docker Hub.
    Name(String),
    /// An image of a registry. A short name is completed as Docker does it: `nginx:1.27` is
    /// `docker.io/library/nginx:1.27`, and without tag and digest the tag is `latest`.
    Remote(Remote),
    /// A path: a recipe, an OCI image layout, or an archive (of a layout, or of `docker save`).
    Path {
        /// As written, without the tag.
        path: PathBuf,
        /// Which image of a layout or an archive.
        tag: Option<String>,
    },
}

impl Reference {
    pub(super) fn parse(reference: &str) -> Result<Self, Error> {
        if reference.starts_with('/') || reference.starts_with("./") || reference.starts_with("../")
        {
            // A colon may also be part of the path's name, or of the tag's (`docker save` has
            // `nginx:1.27` as an image's name).
            let (path, tag) = if Path::new(reference).exists() {
                (reference, None)
            } else {
                tagged(reference).map_or((reference, None), |(p, t)| (p, Some(t.to_owned())))
            };
            if tag.as_deref() == Some("") {
                return Err(refuse(reference, "the tag after `:` is empty"));
            }
            return Ok(Self::Path {
                path: path.into(),
                tag,
            });
        }
        if valid_name(reference) {
            return Ok(Self::Name(reference.to_owned()));
        }
        remote(reference).map(Self::Remote)
    }
}

/// The image of a registry that this names.
pub(super) fn remote(reference: &str) -> Result<Remote, Error> {
    let name = reference.strip_prefix(DOCKER).unwrap_or(reference);
    name.parse().map_err(|e| {
        refuse(
            reference,
            format!(
                "it is neither a recipe's name, nor a path that begins with `./` or `/`, nor an \
                 image of a registry such as `nginx:1.27` or `host:5000/name@sha256:...` ({e})"
            ),
        )
    })
}

fn refuse(reference: &str, why: impl Into<String>) -> Error {
    Error::Reference {
        reference: reference.to_owned(),
        why: why.into(),
    }
}

/// The longest path that is there, and what follows its colon; else the part before the last colon.
fn tagged(reference: &str) -> Option<(&str, &str)> {
    let mut splits = reference.rmatch_indices(':').map(|(at, _)| {
        let (path, tag) = reference.split_at(at);
        (path, &tag[1..])
    });
    let last = splits.clone().next();
    splits
        .find(|(path, _)| Path::new(path).exists())
        .or(last.filter(|(_, tag)| !tag.contains('/')))
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
    fn names_and_paths() {
        assert_eq!(parse("tomcat"), Ok(Reference::Name("tomcat".into())));
        let path = |p: &str, t: Option<&str>| {
            Ok(Reference::Path {
                path: p.into(),
                tag: t.map(str::to_owned),
            })
        };
        assert_eq!(parse("./image"), path("./image", None));
        assert_eq!(parse("./image:v1"), path("./image", Some("v1")));
        assert_eq!(parse("/srv/a:b/image"), path("/srv/a:b/image", None));
        assert_eq!(parse("../image:v1"), path("../image", Some("v1")));
        assert_eq!(
            parse("/dev/null:docker.io/library/nginx:1.27"),
            path("/dev/null", Some("docker.io/library/nginx:1.27"))
        );
        assert_eq!(
            parse("./image:").unwrap_err(),
            "image `./image:`: the tag after `:` is empty"
        );
    }

    #[test]
    fn images_of_registries_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (written, whole) in [
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            (
                "docker://nginx",
                "docker.io/library/nginx:latest".to_owned(),
            ),
            (
                "unidata/thredds-docker:5.6",
                "docker.io/unidata/thredds-docker:5.6".to_owned(),
            ),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("127.0.0.1:5055/a/b:v1", "127.0.0.1:5055/a/b:v1".to_owned()),
            (
                &format!("quay.io/x/y@{digest}"),
                format!("quay.io/x/y@{digest}"),
            ),
        ] {
            let Ok(Reference::Remote(remote)) = parse(written) else {
                panic!("{written}: {:?}", parse(written));
            };
            assert_eq!(remote.whole(), whole);
        }
        let e = parse("Nginx").unwrap_err();
        assert!(
            e.starts_with("image `Nginx`: it is neither a recipe's name, nor a path"),
            "{e}"
        );
        assert!(e.ends_with("(invalid reference format)"), "{e}");
        assert!(parse("host:5000/x@sha256:0").is_err());
    }
}
