//! OCI image layouts made by hand, of any layers and any configuration.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::Digest as _;

pub fn digest(bytes: &[u8]) -> String {
    let hex = |hex: String, byte: &u8| format!("{hex}{byte:02x}");
    let sum = sha2::Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().fold(String::new(), hex))
}

/// Writes a layout of these layers, the lowest first, in place of what is in the folder; `config` is
/// what its configuration has of that name. Gives the digest of its manifest.
pub fn layout(folder: &Path, layers: &[Vec<u8>], config: &Value) -> String {
    let _ = fs::remove_dir_all(folder);
    let mut layout = Layout::new(folder.to_owned());
    for layer in layers {
        layout.layer(layer);
    }
    layout.finish_with(&json!({ "config": config }));
    let index = fs::read(folder.join("index.json")).expect("read");
    let index: Value = serde_json::from_slice(&index).expect("json");
    index["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned()
}

/// An OCI image layout of gzip layers in a folder.
pub struct Layout {
    folder: PathBuf,
    /// Their descriptors, the lowest first.
    pub layers: Vec<Value>,
    pub diff_ids: Vec<String>,
}

impl Layout {
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).expect("mkdir");
        Self {
            folder,
            layers: Vec::new(),
            diff_ids: Vec::new(),
        }
    }

    fn blob(&self, bytes: &[u8]) -> (String, PathBuf) {
        let digest = digest(bytes);
        let path = self
            .folder
            .join("blobs/sha256")
            .join(&digest["sha256:".len()..]);
        fs::write(&path, bytes).expect("write");
        (digest, path)
    }

    /// Adds a layer above the others and gives its blob's path.
    pub fn layer(&mut self, tar: &[u8]) -> PathBuf {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar).expect("gzip");
        let gzip = gzip.finish().expect("gzip");
        let (blob, path) = self.blob(&gzip);
        self.layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": blob,
            "size": gzip.len(),
        }));
        self.diff_ids.push(digest(tar));
        path
    }

    fn put(&self, media_type: &str, value: &Value) -> Value {
        let bytes = value.to_string().into_bytes();
        let (digest, _) = self.blob(&bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Writes all but the layers and gives the layout's path.
    pub fn finish(&self) -> &Path {
        self.finish_with(&json!({}))
    }

    /// The same with more in its configuration; the image is tagged `v1`.
    pub fn finish_with(&self, more: &Value) -> &Path {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut config = json!({
            "architecture": architecture,
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        for (key, value) in more.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let config = self.put("application/vnd.oci.image.config.v1+json", &config);
        let mut manifest = self.put(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({ "schemaVersion": 2, "config": config, "layers": self.layers }),
        );
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        for (name, value) in [
            ("index.json", index),
            ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ] {
            fs::write(self.folder.join(name), value.to_string()).expect("write");
        }
        &self.folder
    }
}
