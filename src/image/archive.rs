//! Image archives: a tar of an OCI image layout (`skopeo copy ... oci-archive:FILE`), or what
//! `docker save` and `podman save` write
//! (<https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>, "Combined Image JSON +
//! Filesystem Changeset Format"). Either becomes an OCI image layout.
//!
//! An archive may come from anywhere: no name in it is ever used as a path here. Its files are
//! written under numbers, and go to their places by their digests.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::Progress;
use super::counted::{Counted, Meter};
use super::digest::{self, Hashed};
use super::error::{Error, IoContext, LayerError};
use super::layer::Limits;
use super::layout;
use super::tarread::{Kind, Reader};

/// Links that are followed to find a layer: old versions of docker save point from a layer to the
/// same one of another image.
const LINKS: usize = 8;
/// The first bytes of gzip (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of zstd (RFC 8878, 3.1.1), little-endian.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file of an archive, unpacked under a number.
#[derive(Debug, Clone)]
struct Unpacked {
    path: PathBuf,
    digest: String,
    size: u64,
}

/// What an archive holds.
#[derive(Debug, Default)]
struct Index {
    files: HashMap<String, Unpacked>,
    /// Names of links, and what they point to, both from the archive's root.
    links: HashMap<String, String>,
}

/// An image of `docker save`'s `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Makes an OCI image layout of the archive in the empty folder `into`. For an archive of
/// `docker save`, `tag` chooses among its images by name; the layout then has that one only.
pub(super) fn unpack(
    archive: &Path,
    tag: Option<&str>,
    into: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let scratch = tempfile::Builder::new()
        .prefix(".archive-")
        .tempdir_in(into)
        .on("create a folder in", into)?;
    let index = read(archive, scratch.path(), progress)?;
    let blobs = into.join("blobs/sha256");
    fs::create_dir_all(&blobs).on("create folder", &blobs)?;
    if index.files.contains_key("index.json") {
        return place_layout(&index, into);
    }
    let Some(manifest) = index.files.get("manifest.json") else {
        return Err(wrong(
            archive,
            "it has neither an index.json (OCI) nor a manifest.json (docker save)",
        ));
    };
    let saved: Vec<Saved> = fs::read(&manifest.path)
        .map_err(|e| e.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()))
        .map_err(|e| wrong(archive, format!("manifest.json: {e}")))?;
    let image = choose(archive, &saved, tag)?;
    place_saved(archive, &index, image, tag.unwrap_or("latest"), into)
}

fn wrong(archive: &Path, why: impl Into<String>) -> Error {
    Error::Layout {
        path: archive.to_owned(),
        why: why.into(),
    }
}

/// Unpacks every file of the archive into `scratch`.
fn read(
    archive: &Path,
    scratch: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Index, Error> {
    let failed = |source: LayerError| wrong(archive, source.to_string());
    let mut file = File::open(archive).on("open", archive)?;
    let total = file.metadata().on("look at", archive)?.len();
    let start = start_of(&mut file).on("read", archive)?;
    let file = BufReader::with_capacity(256 * 1024, file);
    let counted = Counted::new(file, Meter::new("archive", total, progress));
    let stream: Box<dyn Read + '_> = if start.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(counted))
    } else {
        Box::new(counted)
    };
    let limits = Limits::default();
    let mut reader = Reader::new(stream);
    let mut index = Index::default();
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    while let Some(entry) = reader.next().map_err(failed)? {
        entries += 1;
        bytes = bytes.saturating_add(entry.size);
        for (what, limit, is) in [
            ("entries", limits.entries, entries),
            ("bytes", limits.bytes, bytes),
        ] {
            if is > limit {
                return Err(failed(LayerError::Limit { what, limit }));
            }
        }
        let name = normal(&String::from_utf8_lossy(&entry.path));
        match entry.kind {
            Kind::File if entry.sparse.is_some() => {
                return Err(wrong(archive, format!("`{name}` is a sparse file")));
            }
            Kind::File => {
                let path = scratch.join(index.files.len().to_string());
                let out = File::create_new(&path).on("create", &path)?;
                let mut out = Hashed::new(out);
                // What cannot be read is the archive's fault, what cannot be written the disk's.
                copy(&mut reader, &mut out, archive, &path)?;
                let (_, digest, size) = out.finish();
                if size < entry.size {
                    return Err(wrong(archive, format!("it ends within `{name}`")));
                }
                index.files.insert(name, Unpacked { path, digest, size });
            }
            Kind::Symlink => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = String::from_utf8_lossy(&entry.link);
                let target = normal(&format!("{folder}/{target}"));
                index.links.insert(name, target);
            }
            Kind::Hardlink => {
                let target = normal(&String::from_utf8_lossy(&entry.link));
                index.links.insert(name, target);
            }
            _ => {}
        }
    }
    Ok(index)
}

/// The first bytes of a file, which is then at its start again.
fn start_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start)
}

fn copy(
    from: &mut impl Read,
    to: &mut impl io::Write,
    archive: &Path,
    path: &Path,
) -> Result<(), Error> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).on("read", archive)? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n]).on("write", path)?,
        }
    }
}

/// A name in the archive without `.`, `..` and doubled slashes: a key, not a path.
fn normal(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Index {
    /// A file by its name, through links.
    fn find(&self, name: &str) -> Option<&Unpacked> {
        let mut name = normal(name);
        for _ in 0..LINKS {
            if let Some(file) = self.files.get(&name) {
                return Some(file);
            }
            name.clone_from(self.links.get(&name)?);
        }
        None
    }
}

/// Moves the files of a layout to their places. Names that a layout does not have are left out, and
/// a blob goes to the place of what it is, not of what it is called.
fn place_layout(index: &Index, into: &Path) -> Result<(), Error> {
    for (name, file) in &index.files {
        let to = match name.as_str() {
            "index.json" | "oci-layout" => into.join(name),
            _ if name.starts_with("blobs/") => layout::blob(into, &file.digest)?,
            _ => continue,
        };
        fs::rename(&file.path, &to).on("move a blob to", &to)?;
    }
    Ok(())
}

/// The image that `tag` names, or the only one.
fn choose<'a>(archive: &Path, saved: &'a [Saved], tag: Option<&str>) -> Result<&'a Saved, Error> {
    let names = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    // `docker save` writes `nginx:1.27`, podman `docker.io/library/nginx:1.27`; a tag alone will
    // do as well.
    let fits = |image: &&Saved| {
        tag.is_none_or(|tag| {
            names(image).iter().any(|name| {
                name == tag
                    || name
                        .strip_suffix(tag)
                        .is_some_and(|rest| rest.ends_with([':', '/']))
            })
        })
    };
    let fitting: Vec<_> = saved.iter().filter(fits).collect();
    match &fitting[..] {
        [one] => Ok(one),
        others => {
            let all: Vec<_> = saved.iter().flat_map(names).collect();
            let what = match (tag, others.is_empty()) {
                (Some(tag), true) => format!("no image is called `{tag}`"),
                (None, true) => "it holds no image".to_owned(),
                _ => format!("it holds {} images; name one as FILE:NAME", others.len()),
            };
            Err(wrong(
                archive,
                if all.is_empty() {
                    what
                } else {
                    format!("{what}, of: {}", all.join(", "))
                },
            ))
        }
    }
}

/// Makes a layout of one image of `docker save`, with a manifest of Docker's schema 2.
fn place_saved(
    archive: &Path,
    index: &Index,
    image: &Saved,
    tag: &str,
    into: &Path,
) -> Result<(), Error> {
    let find = |name: &str| {
        index
            .find(name)
            .ok_or_else(|| wrong(archive, format!("`{name}` is missing in it")))
    };
    let mut layers = Vec::new();
    for name in &image.layers {
        let file = find(name)?;
        let start = File::open(&file.path)
            .and_then(|mut f| start_of(&mut f))
            .on("read", &file.path)?;
        let media_type = if start.starts_with(&GZIP) {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        } else if start.starts_with(&ZSTD) {
            "application/vnd.oci.image.layer.v1.tar+zstd"
        } else {
            "application/vnd.oci.image.layer.v1.tar"
        };
        layers.push(descriptor(media_type, file));
    }
    let config = find(&image.config)?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json", config),
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let mut placed = std::collections::BTreeSet::new();
    for name in image.layers.iter().chain([&image.config]) {
        let file = find(name)?;
        // The same layer may be listed twice.
        if placed.insert(file.digest.clone()) {
            let to = layout::blob(into, &file.digest)?;
            fs::rename(&file.path, &to).on("move a blob to", &to)?;
        }
    }
    layout::write_pulled(into, tag, &manifest, &digest::of(&manifest))
}

fn descriptor(media_type: &str, file: &Unpacked) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type,
        "digest": file.digest,
        "size": file.size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_and_never_lead_out() {
        assert_eq!(normal("./blobs//sha256/x"), "blobs/sha256/x");
        assert_eq!(normal("../../etc/passwd"), "etc/passwd");
        assert_eq!(normal("a/../b/layer.tar"), "b/layer.tar");
        assert_eq!(normal("/"), "");
    }

    #[test]
    fn images_of_docker_save_by_name_or_tag() {
        let image = |tags: &[&str]| Saved {
            config: "c".into(),
            repo_tags: Some(tags.iter().map(|t| (*t).to_owned()).collect()),
            layers: vec![],
        };
        let saved = [
            image(&["docker.io/library/nginx:1.27"]),
            image(&["x:old", "x:new"]),
        ];
        let of = |tag| choose("a.tar".as_ref(), &saved, tag);
        assert_eq!(
            of(Some("nginx:1.27")).unwrap().repo_tags,
            saved[0].repo_tags
        );
        assert_eq!(of(Some("new")).unwrap().repo_tags, saved[1].repo_tags);
        assert_eq!(
            of(Some("ew")).unwrap_err().to_string(),
            "OCI image layout a.tar: no image is called `ew`, of: docker.io/library/nginx:1.27, \
             x:old, x:new"
        );
        assert!(
            of(None)
                .unwrap_err()
                .to_string()
                .contains("it holds 2 images; name one")
        );
        assert!(choose("a.tar".as_ref(), &saved[..1], None).is_ok());
    }
}
