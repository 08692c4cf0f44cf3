//! Writing a layout.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder,
    Sha256Digest,
};

use super::{REF_NAME, blob, wrong};
use crate::image::RunConfig;
use crate::image::digest;
use crate::image::error::{Error, IoContext};
use crate::image::pack::Packed;

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct New<'a> {
    pub tag: &'a str,
    pub description: &'a str,
    pub config: &'a RunConfig,
    /// Ports that its process listens on, as `8080/tcp`.
    pub ports: &'a [String],
}

/// Writes the layout of an image with one layer, whose blob is at `layer` (it is moved), into the
/// empty folder `dir`.
pub(in crate::image) fn write(
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
    manifest.set_platform(Some(
        oci_spec::image::PlatformBuilder::default()
            .architecture(Arch::default())
            .os(Os::Linux)
            .build()
            .map_err(built)?,
    ));
    index(dir, manifest, image.tag)
}

/// The type that a manifest gives itself; umoci's do not.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<MediaType>,
}

/// Completes the layout of an image whose other blobs are in `dir` already, with its manifest as
/// it came from a registry.
pub(in crate::image) fn write_pulled(
    dir: &Path,
    tag: &str,
    manifest: &[u8],
    digest: &str,
) -> Result<(), Error> {
    let path = blob(dir, digest)?;
    fs::write(&path, manifest).on("write", &path)?;
    let typed: Typed = serde_json::from_slice(manifest).map_err(|e| wrong(dir, e.to_string()))?;
    let media_type = typed.media_type.unwrap_or(MediaType::ImageManifest);
    let descriptor = Descriptor::new(media_type, manifest.len() as u64, sha256(dir, digest)?);
    index(dir, descriptor, tag)
}

/// Writes `index.json` with one image, and `oci-layout`.
fn index(dir: &Path, mut manifest: Descriptor, tag: &str) -> Result<(), Error> {
    let built = |e: oci_spec::OciSpecError| wrong(dir, e.to_string());
    manifest.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), tag.to_owned())])));

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
