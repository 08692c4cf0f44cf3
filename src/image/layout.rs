//! OCI image layouts
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>): writing one for a
//! recipe, reading any.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    ImageIndex, ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, RootFsBuilder, Sha256Digest,
};

use super::RunConfig;
use super::digest;
use super::error::{Error, IoContext};
use super::pack::Packed;

/// Most bytes of a manifest, index or configuration (what registries allow as well).
const MAX_JSON: u64 = 4 * 1024 * 1024;
/// Annotation with an image's tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
}

/// A layer of an image that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub blob: PathBuf,
    /// Digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    pub compression: Compression,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
}

/// An image of a layout, its manifest and configuration verified; its layers are not yet.
#[derive(Debug)]
pub(super) struct Contents {
    pub digest: String,
    /// The lowest first.
    pub layers: Vec<Layer>,
    pub config: RunConfig,
}

fn wrong(dir: &Path, why: impl Into<String>) -> Error {
    Error::Layout {
        path: dir.to_owned(),
        why: why.into(),
    }
}

/// Path of a blob.
pub(super) fn blob(dir: &Path, digest: &str) -> Result<PathBuf, Error> {
    let hex = digest::sha256_hex(digest).ok_or_else(|| {
        wrong(
            dir,
            format!("only sha256 digests are supported, not `{digest}`"),
        )
    })?;
    Ok(dir.join("blobs/sha256").join(hex))
}

/// Reads the image with this tag, or the only one.
pub(super) fn read(dir: &Path, tag: Option<&str>) -> Result<Contents, Error> {
    let (digest, manifest) = manifest(dir, tag)?;
    let config: ImageConfiguration = json(dir, manifest.config())?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(wrong(
            dir,
            format!(
                "the manifest has {} layers, the configuration {}",
                manifest.layers().len(),
                diff_ids.len()
            ),
        ));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        if digest::sha256_hex(diff_id).is_none() {
            return Err(wrong(dir, format!("`{diff_id}` is no sha256 digest")));
        }
        let digest = descriptor.digest().to_string();
        layers.push(Layer {
            blob: blob(dir, &digest)?,
            digest,
            size: descriptor.size(),
            compression: compression(dir, descriptor.media_type())?,
            diff_id: diff_id.clone(),
        });
    }
    Ok(Contents {
        digest,
        layers,
        config: run_config(&config),
    })
}

/// Digest of the manifest of the image with this tag, without reading the image itself.
pub(super) fn manifest_digest(dir: &Path, tag: Option<&str>) -> Result<String, Error> {
    manifest(dir, tag).map(|(digest, _)| digest)
}

fn manifest(dir: &Path, tag: Option<&str>) -> Result<(String, ImageManifest), Error> {
    let path = dir.join("index.json");
    let index: ImageIndex = parse(dir, "index.json", &read_limited(&path)?)?;
    let tag_of = |d: &Descriptor| {
        d.annotations()
            .as_ref()
            .and_then(|a| a.get(REF_NAME).cloned())
    };
    let mut fitting: Vec<Descriptor> = match tag {
        Some(tag) => index
            .manifests()
            .iter()
            .filter(|d| tag_of(d).as_deref() == Some(tag))
            .cloned()
            .collect(),
        None => index.manifests().clone(),
    };
    // An index for several platforms; one level, as the tools write it.
    if let [only] = &fitting[..]
        && (*only.media_type() == MediaType::ImageIndex
            || only.media_type().to_string().contains("manifest.list"))
    {
        let inner: ImageIndex = json(dir, only)?;
        fitting.clone_from(inner.manifests());
    }
    if fitting.len() > 1 {
        fitting.retain(|d| {
            d.platform()
                .as_ref()
                .is_none_or(|p| *p.architecture() == Arch::default() && *p.os() == Os::Linux)
        });
    }
    match &fitting[..] {
        [one] => Ok((one.digest().to_string(), json(dir, one)?)),
        [] => {
            let tags: Vec<_> = index.manifests().iter().filter_map(tag_of).collect();
            Err(wrong(
                dir,
                match tag {
                    Some(tag) if tags.is_empty() => {
                        format!("no image is tagged `{tag}`, nor any other")
                    }
                    Some(tag) => {
                        format!("no image is tagged `{tag}`; there are: {}", tags.join(", "))
                    }
                    None => format!("it holds no image for linux/{}", Arch::default()),
                },
            ))
        }
        _ => {
            let tags: Vec<_> = fitting.iter().filter_map(tag_of).collect();
            Err(wrong(
                dir,
                format!(
                    "it holds {} images; name one as FOLDER:TAG, of: {}",
                    fitting.len(),
                    tags.join(", ")
                ),
            ))
        }
    }
}

fn compression(dir: &Path, media_type: &MediaType) -> Result<Compression, Error> {
    let name = media_type.to_string();
    match name.as_str() {
        n if n.ends_with("+gzip") || n.ends_with(".tar.gzip") => Ok(Compression::Gzip),
        n if n.rsplit('.').next() == Some("tar") => Ok(Compression::None),
        n if n.ends_with("+zstd") => Err(wrong(
            dir,
            "layers compressed with zstd are not supported yet; `skopeo copy \
             --dest-compress-format gzip` makes it one with gzip",
        )),
        _ => Err(wrong(dir, format!("a layer's type `{name}` is unknown"))),
    }
}

fn run_config(config: &ImageConfiguration) -> RunConfig {
    let config = config.config().clone().unwrap_or_default();
    let pairs = config.env().clone().unwrap_or_default();
    RunConfig {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: pairs
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        user: config.user().clone().unwrap_or_default(),
        workdir: config.working_dir().clone().unwrap_or_default().into(),
        stop_signal: config.stop_signal().clone(),
    }
}

/// Reads a JSON blob, its size and digest checked.
fn json<T: serde::de::DeserializeOwned>(dir: &Path, descriptor: &Descriptor) -> Result<T, Error> {
    let want = descriptor.digest().to_string();
    let bytes = read_limited(&blob(dir, &want)?)?;
    let got = digest::of(&bytes);
    if got != want || bytes.len() as u64 != descriptor.size() {
        return Err(Error::Digest {
            what: format!("blob {want} in {}", dir.display()),
            want,
            got,
        });
    }
    parse(dir, &want, &bytes)
}

fn parse<T: serde::de::DeserializeOwned>(dir: &Path, what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| wrong(dir, format!("{what}: {e}")))
}

fn read_limited(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).on("open", path)?;
    file.take(MAX_JSON + 1)
        .read_to_end(&mut bytes)
        .on("read", path)?;
    if bytes.len() as u64 > MAX_JSON {
        let source = std::io::Error::other("it is larger than 4 MiB");
        return Err(source).on("read", path);
    }
    Ok(bytes)
}

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct New<'a> {
    pub tag: &'a str,
    pub description: &'a str,
    pub config: &'a RunConfig,
    /// Ports that its process listens on, as `8080/tcp`.
    pub ports: &'a [String],
}

/// Writes the layout of an image with one layer, whose blob is at `layer` (it is moved), into the
/// empty folder `dir`.
pub(super) fn write(
    dir: &Path,
    image: &New<'_>,
    packed: &Packed,
    layer: &Path,
) -> Result<(), Error> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).on("create folder", &blobs)?;
    let target = blob(dir, &packed.digest)?;
    fs::rename(layer, &target).on("move the layer to", &target)?;
    let built = |e: oci_spec::OciSpecError| wrong(dir, e.to_string());
    let put = |media_type: MediaType, value: &serde_json::Value| -> Result<Descriptor, Error> {
        let bytes = canonical(value);
        let digest = digest::of(&bytes);
        let path = blob(dir, &digest)?;
        fs::write(&path, &bytes).on("write", &path)?;
        Ok(Descriptor::new(
            media_type,
            bytes.len() as u64,
            sha256(dir, &digest)?,
        ))
    };

    let configuration = configuration(image, &packed.diff_id).map_err(built)?;
    let configuration = put(MediaType::ImageConfig, &value(dir, &configuration)?)?;

    let layer = Descriptor::new(
        MediaType::ImageLayerGzip,
        packed.size,
        sha256(dir, &packed.digest)?,
    );
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(configuration)
        .layers(vec![layer])
        .build()
        .map_err(built)?;
    let mut manifest = put(MediaType::ImageManifest, &value(dir, &manifest)?)?;
    manifest.set_annotations(Some(HashMap::from([(
        REF_NAME.to_owned(),
        image.tag.to_owned(),
    )])));
    manifest.set_platform(Some(
        oci_spec::image::PlatformBuilder::default()
            .architecture(Arch::default())
            .os(Os::Linux)
            .build()
            .map_err(built)?,
    ));

    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()
        .map_err(built)?;
    let header = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()
        .map_err(built)?;
    for (name, value) in [
        ("oci-layout", value(dir, &header)?),
        ("index.json", value(dir, &index)?),
    ] {
        let path = dir.join(name);
        fs::write(&path, canonical(&value)).on("write", &path)?;
    }
    Ok(())
}

/// The OCI configuration of an image with this one layer.
fn configuration(
    image: &New<'_>,
    diff_id: &str,
) -> Result<ImageConfiguration, oci_spec::OciSpecError> {
    let New {
        description,
        config,
        ports,
        ..
    } = *image;
    let mut process = ConfigBuilder::default().env(
        config
            .env
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>(),
    );
    if !config.entrypoint.is_empty() {
        process = process.entrypoint(config.entrypoint.clone());
    }
    if !config.cmd.is_empty() {
        process = process.cmd(config.cmd.clone());
    }
    if !config.user.is_empty() {
        process = process.user(config.user.clone());
    }
    if let Some(workdir) = config.workdir.to_str().filter(|w| !w.is_empty()) {
        process = process.working_dir(workdir);
    }
    if !ports.is_empty() {
        process = process.exposed_ports(ports.to_vec());
    }
    if !description.is_empty() {
        let label = (
            "org.opencontainers.image.description".to_owned(),
            description.to_owned(),
        );
        process = process.labels(HashMap::from([label]));
    }
    if let Some(signal) = &config.stop_signal {
        process = process.stop_signal(signal.clone());
    }
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![diff_id.to_owned()])
        .build()?;
    let history = HistoryBuilder::default()
        .created_by("nslab image build")
        .build()?;
    ImageConfigurationBuilder::default()
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(process.build()?)
        .rootfs(rootfs)
        .history(vec![history])
        .build()
}

fn value(dir: &Path, of: &impl serde::Serialize) -> Result<serde_json::Value, Error> {
    serde_json::to_value(of).map_err(|e| wrong(dir, e.to_string()))
}

/// JSON with sorted keys: oci-spec keeps maps in hash maps, whose order differs in each run.
fn canonical(value: &serde_json::Value) -> Vec<u8> {
    fn write(value: &serde_json::Value, out: &mut String) {
        match value {
            serde_json::Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(&map[key], out);
                }
                out.push('}');
            }
            serde_json::Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out.into_bytes()
}

fn sha256(dir: &Path, digest: &str) -> Result<Sha256Digest, Error> {
    digest::sha256_hex(digest)
        .and_then(|hex| hex.parse().ok())
        .ok_or_else(|| wrong(dir, format!("`{digest}` is no sha256 digest")))
}
