//! OCI image layouts by hand: no tool that has to be there, no time, and any layers that a test wants.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `sha256:...` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("sha256:{hex}")
}

/// Writes a layout with one image, its layers (the lowest first) as they are; gives the digest of
/// its manifest. `config` is the `config` of its configuration.
pub fn layout(dir: &Path, layers: &[Vec<u8>], config: &Value) -> String {
    let blobs = dir.join("blobs/sha256");
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(&blobs).expect("make the layout");
    let blob = |bytes: &[u8], kind: &str| {
        let digest = digest(bytes);
        fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).expect("write a blob");
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    };
    let text = |value: &Value| serde_json::to_vec(value).expect("json");
    let tars: Vec<_> = layers.iter().map(|l| blob(l, "layer.v1.tar")).collect();
    let ids: Vec<_> = layers.iter().map(|l| digest(l)).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let config = blob(&text(&config), "config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": tars });
    let manifest = blob(&text(&manifest), "manifest.v1+json");
    let digest = manifest["digest"].as_str().expect("a digest").to_owned();
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), text(&index)).expect("write the index");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    digest
}
