//! Writing a layout.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder,
    Sha256Digest,
};

use serde_json::Value;

use super::read::{self, Compression};
use super::{REF_NAME, blob, wrong};
use crate::image::RunConfig;
use crate::image::digest;
use crate::image::error::{Error, IoContext};
use crate::image::pack::Packed;

/// Annotations that say what an image was put on (image-spec, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct New<'a> {
    pub tag: &'a str,
    pub description: &'a str,
    pub config: &'a RunConfig,
    /// Ports that its process listens on, as `8080/tcp`.
    pub ports: &'a [String],
    /// The image that it is put on.
    pub base: Option<Below<'a>>,
}

/// An image whose layers are below a new one's.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Below<'a> {
    pub name: &'a str,
    /// Its layout, which has no other image.
    pub layout: &'a Path,
}

/// Digest of the manifest of the image that a layout's only image was put on.
pub(in crate::image) fn base_digest(dir: &Path) -> Option<String> {
    read::annotations(dir).ok()?.remove(BASE_DIGEST)
}

/// Writes the layout of an image into the empty folder `dir`: its own layer, whose blob is at
/// `layer` (it is moved), on its base's.
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
    let put = |media_type: MediaType, value: &Value| -> Result<Descriptor, Error> {
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
    let mut configuration = value(dir, &configuration)?;
    let mut layers = Vec::new();
    let mut annotations = HashMap::new();
    if let Some(base) = image.base {
        let (contents, below) = read::read_whole(base.layout)?;
        for layer in &contents.layers {
            let target = blob(dir, &layer.digest)?;
            share(&layer.blob, &target)?;
            let media_type = match layer.compression {
                Compression::None => MediaType::ImageLayer,
                Compression::Gzip => MediaType::ImageLayerGzip,
                Compression::Zstd => MediaType::ImageLayerZstd,
            };
            layers.push(Descriptor::new(
                media_type,
                layer.size,
                sha256(dir, &layer.digest)?,
            ));
        }
        configuration = on_base(below, configuration);
        annotations.insert(BASE_NAME.to_owned(), base.name.to_owned());
        annotations.insert(BASE_DIGEST.to_owned(), contents.digest);
    }
    let configuration = put(MediaType::ImageConfig, &configuration)?;

    layers.push(Descriptor::new(
        MediaType::ImageLayerGzip,
        packed.size,
        sha256(dir, &packed.digest)?,
    ));
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(configuration)
        .layers(layers)
        .build()
        .map_err(built)?;
    if !annotations.is_empty() {
        manifest.set_annotations(Some(annotations));
    }
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

/// The same blob at a second place: a hard link, or a copy where the layout is on another
/// filesystem. Two layers of an image may be the same.
fn share(from: &Path, to: &Path) -> Result<(), Error> {
    if to.exists() || fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(|_| ()).on("copy", from)
}

/// The configuration of a base, with what a new one says instead and in addition (image-spec,
/// config.md). What nslab knows nothing of, such as a health check, stays as it is.
fn on_base(mut base: Value, new: Value) -> Value {
    let Value::Object(new) = new else { return base };
    for (key, value) in new {
        let below = &mut base[key.as_str()];
        match (key.as_str(), value) {
            // The base says what it is made for.
            ("architecture" | "os", _) => {}
            ("config", Value::Object(new)) => process_on_base(below, new),
            ("rootfs", Value::Object(mut new)) => {
                append(&mut below["diff_ids"], new.remove("diff_ids"));
            }
            ("history", new) => append(below, Some(new)),
            (_, value) => *below = value,
        }
    }
    base
}

fn process_on_base(base: &mut Value, new: serde_json::Map<String, Value>) {
    if new.contains_key("Entrypoint") {
        // The base's arguments were for the base's program.
        base["Cmd"] = Value::Null;
    }
    for (key, value) in new {
        let below = &mut base[key.as_str()];
        match (key.as_str(), value) {
            ("Env", Value::Array(new)) => {
                let name = |pair: &Value| {
                    let pair = pair.as_str().unwrap_or_default();
                    pair.split('=').next().unwrap_or_default().to_owned()
                };
                let names: Vec<_> = new.iter().map(name).collect();
                if let Value::Array(below) = below {
                    below.retain(|pair| !names.contains(&name(pair)));
                }
                append(below, Some(Value::Array(new)));
            }
            (_, Value::Object(new)) if below.is_object() => {
                for (key, value) in new {
                    below[key.as_str()] = value;
                }
            }
            (_, value) => *below = value,
        }
    }
}

/// Appends a list to one that may not be there.
fn append(list: &mut Value, more: Option<Value>) {
    let (mut all, more) = (
        list.as_array().cloned().unwrap_or_default(),
        more.and_then(|m| m.as_array().cloned()).unwrap_or_default(),
    );
    all.extend(more);
    *list = Value::Array(all);
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

fn value(dir: &Path, of: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(of).map_err(|e| wrong(dir, e.to_string()))
}

/// JSON with sorted keys: oci-spec keeps maps in hash maps, whose order differs in each run.
fn canonical(value: &Value) -> Vec<u8> {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.keys().collect();
                keys.sort();
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(&map[key], out);
                }
                out.push('}');
            }
            Value::Array(items) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_base_keeps_what_the_new_configuration_does_not_say() {
        let base = json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/entrypoint.sh"], "Cmd": ["run"],
                "ExposedPorts": { "8443/tcp": {} }, "Healthcheck": { "Test": ["CMD", "true"] },
            },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:a"] },
        });
        let new = |process: Value| {
            json!({
                "architecture": "arm64", "os": "linux", "config": process,
                "rootfs": { "type": "layers", "diff_ids": ["sha256:b"] },
                "history": [{ "created_by": "nslab image build" }],
            })
        };
        let process = json!({ "Env": ["A=2", "B=3"], "ExposedPorts": { "80/tcp": {} } });
        let both = on_base(base.clone(), new(process));
        assert_eq!(
            both,
            json!({
                "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
                "config": {
                    "Env": ["PATH=/bin", "A=2", "B=3"],
                    "Entrypoint": ["/entrypoint.sh"], "Cmd": ["run"],
                    "ExposedPorts": { "8443/tcp": {}, "80/tcp": {} },
                    "Healthcheck": { "Test": ["CMD", "true"] },
                },
                "rootfs": { "type": "layers", "diff_ids": ["sha256:a", "sha256:b"] },
                "history": [{ "created_by": "nslab image build" }],
            })
        );
        let own = on_base(base, new(json!({ "Entrypoint": ["/run"] })));
        assert_eq!(own["config"]["Entrypoint"], json!(["/run"]));
        assert_eq!(own["config"]["Cmd"], Value::Null);
    }
}
