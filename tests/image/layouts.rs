//! OCI image layouts: written for other tools, made by other tools, and damaged.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::store::Case;
use crate::{require_root, tool};

#[test]
fn other_tools_read_what_is_written() {
    require_root();
    let case = Case::new();
    let image = case.resolve("tiny").expect("build");
    let layout = case.path("layout");
    case.store.export(&image, &layout).expect("export");
    let oci = format!("oci:{}:latest", layout.display());
    let manifest = tool(Command::new("skopeo").args(["inspect", &oci]));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("json");
    assert_eq!(manifest["Digest"], image.digest.as_str());
    assert_eq!(manifest["Os"], "linux");
    let config = tool(Command::new("skopeo").args(["inspect", "--config", &oci]));
    let config: serde_json::Value = serde_json::from_str(&config).expect("json");
    assert_eq!(
        config["config"],
        serde_json::json!({
            "User": "7:8",
            "ExposedPorts": { "80/tcp": {}, "443/tcp": {}, "53/udp": {} },
            "Env": ["A=1=one", "B=2"],
            "Entrypoint": ["/bin/hello", "world"],
            "Cmd": ["--now"],
            "WorkingDir": "/srv",
            "Labels": { "org.opencontainers.image.description": "A few files" },
            "StopSignal": "SIGINT",
        })
    );
    let bundle = case.path("bundle");
    tool(
        Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:latest", layout.display()))
            .arg(&bundle),
    );
    let list = |root: &Path| {
        tool(
            Command::new("find")
                .arg(root)
                .args(["-printf", "%P %y %m %U:%G %T@ %l\n"]),
        )
        .lines()
        .map(str::to_owned)
        .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(list(&bundle.join("rootfs")), list(&image.layers[0]));
    assert!(list(&image.layers[0]).contains("bin/hello f 755 0:0 86400.0000000000 "));
}

#[test]
fn layouts_of_other_tools_are_read() {
    require_root();
    let case = Case::new();
    let layout = case.path("made");
    let at = |tag: &str| format!("{}:{tag}", layout.display());
    let umoci = |args: &[&str]| tool(Command::new("umoci").args(args));
    // Two layers, the second with a removed file and a removed folder.
    umoci(&["init", "--layout", layout.to_str().expect("utf-8")]);
    umoci(&["new", "--image", &at("v1")]);
    let bundle = case.path("bundle");
    let unpack = || {
        umoci(&[
            "unpack",
            "--image",
            &at("v1"),
            bundle.to_str().expect("utf-8"),
        ])
    };
    unpack();
    fs::create_dir_all(bundle.join("rootfs/dir")).expect("mkdir");
    for name in ["keep", "gone", "dir/inner"] {
        fs::write(bundle.join("rootfs").join(name), name).expect("write");
    }
    umoci(&[
        "repack",
        "--image",
        &at("v1"),
        bundle.to_str().expect("utf-8"),
    ]);
    fs::remove_dir_all(&bundle).expect("remove");
    unpack();
    fs::remove_file(bundle.join("rootfs/gone")).expect("remove");
    fs::remove_dir_all(bundle.join("rootfs/dir")).expect("remove");
    fs::write(bundle.join("rootfs/new"), "new").expect("write");
    umoci(&[
        "repack",
        "--image",
        &at("v1"),
        bundle.to_str().expect("utf-8"),
    ]);
    umoci(&[
        "config",
        "--image",
        &at("v1"),
        "--config.cmd",
        "/new",
        "--config.user",
        "nobody",
    ]);

    let image = case.resolve(&at("v1")).expect("resolve");
    assert_eq!(image.layers.len(), 2);
    assert!(
        image.layers[0].join("new").exists(),
        "the uppermost layer comes first"
    );
    assert_eq!(
        fs::read(image.layers[1].join("gone")).expect("lower"),
        b"gone"
    );
    assert_eq!(image.config.cmd, ["/new"]);
    assert_eq!(image.config.user, "nobody");
    let script =
        "mount -t overlay overlay -o lowerdir=\"$1:$2\" /mnt && cd /mnt && find . | LC_ALL=C sort";
    let merged = tool(
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .args(&image.layers),
    );
    assert_eq!(merged, ".\n./keep\n./new\n");
    // The only image needs no tag; a wrong one is answered with those that there are.
    assert_eq!(
        case.resolve(layout.to_str().expect("utf-8"))
            .expect("no tag")
            .digest,
        image.digest
    );
    let error = case.resolve(&at("v2")).expect_err("v2").to_string();
    assert_eq!(
        error,
        format!(
            "OCI image layout {}: no image is tagged `v2`; there are: v1",
            layout.display()
        )
    );
    // The same content, compressed otherwise, is the same layers.
    let zstd = case.path("zstd");
    tool(
        Command::new("skopeo")
            .args(["copy", "-q", "--dest-compress-format", "zstd"])
            .arg(format!("oci:{}", at("v1")))
            .arg(format!("oci:{}:v1", zstd.display())),
    );
    let recompressed = case.resolve(zstd.to_str().expect("utf-8")).expect("zstd");
    assert_ne!(recompressed.digest, image.digest);
    assert_eq!(recompressed.layers, image.layers);
}

#[test]
fn an_uncompressed_layer_is_the_same_layer() {
    require_root();
    let case = Case::new();
    let image = case.resolve("tiny").expect("build");
    let layout = case.path("layout");
    case.store.export(&image, &layout).expect("export");
    case.store.remove("tiny").expect("remove");
    let blobs = layout.join("blobs/sha256");
    let read = |digest: &serde_json::Value| {
        let hex = digest
            .as_str()
            .and_then(|d| d.strip_prefix("sha256:"))
            .expect("digest");
        fs::read(blobs.join(hex)).expect("blob")
    };
    let put = |bytes: &[u8], descriptor: &mut serde_json::Value| {
        use sha2::Digest;
        let sum = sha2::Sha256::digest(bytes);
        let hex = sum
            .iter()
            .fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
        fs::write(blobs.join(&hex), bytes).expect("write");
        descriptor["digest"] = format!("sha256:{hex}").into();
        descriptor["size"] = bytes.len().into();
    };
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index")).expect("json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&read(&index["manifests"][0]["digest"])).expect("json");
    let mut tar = Vec::new();
    let gzip = read(&manifest["layers"][0]["digest"]);
    flate2::read::GzDecoder::new(&gzip[..])
        .read_to_end(&mut tar)
        .expect("gunzip");
    put(&tar, &mut manifest["layers"][0]);
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    put(manifest.to_string().as_bytes(), &mut index["manifests"][0]);
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    let plain = case
        .resolve(layout.to_str().expect("utf-8"))
        .expect("resolve");
    assert_ne!(plain.digest, image.digest);
    assert_eq!(
        plain.layers, image.layers,
        "the diff id is that of the uncompressed tar"
    );
    assert_eq!(
        fs::read(plain.layers[0].join("bin/hello")).expect("hello"),
        b"hello"
    );
}

#[test]
fn damage_is_noticed_before_anything_is_used() {
    require_root();
    let case = Case::new();
    let image = case.resolve("tiny").expect("build");
    let layout = case.path("layout");
    case.store.export(&image, &layout).expect("export");
    case.store.remove("tiny").expect("remove");
    assert!(!image.layers[0].exists());
    let reference = layout.to_str().expect("utf-8").to_owned();
    let largest = || {
        fs::read_dir(layout.join("blobs/sha256"))
            .expect("list")
            .map(|e| e.expect("entry").path())
            .find(|p| fs::read(p).expect("read").starts_with(&[0x1f, 0x8b]))
            .expect("a layer")
    };
    let blob = largest();
    let whole = fs::read(&blob).expect("read");
    let unused = |case: &Case| {
        assert_eq!(case.litter(), Vec::<PathBuf>::new());
        assert_eq!(
            fs::read_dir(case.path("store/layers"))
                .expect("list")
                .count(),
            0
        );
    };
    // One bit of gzip's own header: the content stays right, the blob's digest does not.
    let mut damaged = whole.clone();
    damaged[4] ^= 1;
    fs::write(&blob, &damaged).expect("write");
    let error = case.resolve(&reference).expect_err("damaged").to_string();
    assert!(
        error.contains("is damaged: its digest is sha256:"),
        "{error}"
    );
    unused(&case);
    fs::write(&blob, &whole[..whole.len() - 9]).expect("write");
    let error = case.resolve(&reference).expect_err("cut off").to_string();
    assert!(error.starts_with("layer sha256:"), "{error}");
    unused(&case);
    fs::write(&blob, [&whole[..], b"more"].concat()).expect("write");
    case.resolve(&reference).expect_err("more");
    unused(&case);
    fs::write(&blob, &whole).expect("write");
    assert_eq!(
        case.resolve(&reference).expect("whole").digest,
        image.digest
    );
    // A manifest that was tampered with.
    let manifest = layout
        .join("blobs/sha256")
        .join(&image.digest["sha256:".len()..]);
    let text = fs::read_to_string(&manifest)
        .expect("read")
        .replace("\"size\":", "\"size\": ");
    fs::write(&manifest, text).expect("write");
    let error = case.resolve(&reference).expect_err("tampered").to_string();
    assert!(error.contains("is damaged"), "{error}");
}
