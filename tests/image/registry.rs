//! Images of registries, from a real one (Debian's docker-registry) on loopback that skopeo has
//! filled: plain, and with TLS and passwords.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::served::{Cli, Registry, Sample, is_sample, refused};
use crate::{require_root, tool};

#[test]
fn images_of_a_plain_registry_in_every_form() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    // OCI without media types, as umoci writes it; Docker's schema 2; zstd.
    registry.copy(&sample.oci(), "oci:v1", &[]);
    registry.copy(&sample.oci(), "docker:v1", &["--format", "v2s2"]);
    registry.copy(&sample.zstd(), "zstd:v1", &[]);
    let mut first = None;
    for name in ["oci:v1", "docker:v1", "zstd:v1"] {
        let image = cli.pull(&registry.name(name));
        is_sample(&image);
        // The same content is the same folders, however it travelled.
        let layers = first.get_or_insert_with(|| image["layers"].clone());
        assert_eq!(image["layers"], *layers, "{name}");
    }
    let raw = tool(Command::new("skopeo").args([
        "inspect",
        "--tls-verify=false",
        &format!("docker://{}", registry.name("docker:v1")),
    ]));
    let digest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let digest = digest["Digest"].as_str().unwrap();
    let by_digest = cli.pull(&registry.name(&format!("docker@{digest}")));
    assert_eq!(by_digest["digest"], digest);

    let list = tool(&mut cli.command(&["image", "list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let kinds: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["kind"])
        .collect();
    assert_eq!(kinds, vec!["registry"; 4]);
    // The blobs of the second image with the same ones are no second copy of them.
    let blob = |key: &serde_json::Value| {
        let blobs = Path::new(key["layout"].as_str().unwrap()).join("blobs/sha256");
        fs::read_dir(blobs)
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap())
            .max_by_key(fs::Metadata::len)
            .unwrap()
            .ino()
    };
    let of = |name: &str| {
        let has = |i: &&serde_json::Value| i["name"].as_str().unwrap().contains(name);
        list.as_array().unwrap().iter().find(has).unwrap()
    };
    assert_eq!(blob(of("/docker:v1")), blob(of("/docker@sha256")));
}

#[test]
fn an_index_gives_this_machines_image() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "many:real", &[]);
    let raw = |image: &str| {
        let name = format!("docker://{}", registry.name(image));
        tool(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]))
    };
    let manifest = raw("many:real");
    let digest = tool(Command::new("sh").args([
        "-c",
        &format!("printf %s '{manifest}' | sha256sum | cut -d' ' -f1"),
    ]));
    let entry = |os: &str, arch: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", digest.trim()),
            "size": manifest.len(),
            "platform": { "os": os, "architecture": arch },
        })
    };
    let here = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let put = |tag: &str, entries: Vec<serde_json::Value>| {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        });
        let file = registry.dir.path().join("index.json");
        fs::write(&file, index.to_string()).unwrap();
        tool(
            Command::new("curl")
                .args(["-sSf", "-X", "PUT", "-H"])
                .arg("Content-Type: application/vnd.oci.image.index.v1+json")
                .args(["--data-binary", &format!("@{}", file.display())])
                .arg(format!(
                    "http://127.0.0.1:{}/v2/many/manifests/{tag}",
                    registry.port
                )),
        );
    };
    put(
        "all",
        vec![
            entry("windows", here),
            entry("linux", "s390x"),
            entry("linux", here),
        ],
    );
    put(
        "others",
        vec![entry("windows", here), entry("linux", "s390x")],
    );
    is_sample(&cli.pull(&registry.name("many:all")));
    let others = registry.name("many:others");
    assert_eq!(
        cli.refuses(&others),
        format!(
            "error: image `{others}`: it holds no image for linux/{here}; there is linux/s390x, \
             windows/{here}\n"
        )
    );
}

#[test]
fn certificates_and_credentials() {
    require_root();
    let (registry, sample, cli) = (Registry::private(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "mine:v1", &["--dest-creds", "me:secret"]);
    let image = registry.name("mine:v1");
    let host = format!("127.0.0.1:{}", registry.port);
    let certificate = registry.dir.path().join("ca.crt");
    let run = |words: &[&str]| {
        let mut command = cli.command(words);
        command.env("SSL_CERT_FILE", &certificate);
        command
    };
    let refuses = || refused(&run(&["image", "pull", &image]).output().unwrap());

    let unknown = cli.refuses(&image);
    assert!(
        unknown.contains("UnknownIssuer")
            && unknown.contains(&format!("/etc/docker/certs.d/{host}/ca.crt")),
        "{unknown}"
    );
    assert_eq!(
        refuses(),
        format!(
            "error: image `{image}`: {host} wants credentials, or there is no such image: \
             `docker login {host}` or `skopeo login --authfile ~/.docker/config.json {host}`, as \
             the user who runs sudo, stores them\n"
        )
    );
    let config = cli.dir.path().join(".docker/config.json");
    // echo -n me:wrong | base64
    cli.log_in(&format!(
        r#"{{"auths":{{"{host}":{{"auth":"bWU6d3Jvbmc="}}}}}}"#
    ));
    assert_eq!(
        refuses(),
        format!(
            "error: image `{image}`: {host} does not accept the credentials of {} for it, or there \
             is no such image: log in again (`docker login {host}`)\n",
            config.display()
        )
    );
    // As the field's own tool writes it.
    fs::remove_file(&config).unwrap();
    tool(
        Command::new("skopeo")
            .args(["login", "--tls-verify=false", "-u", "me", "-p", "secret"])
            .arg(format!("--authfile={}", config.display()))
            .arg(&host),
    );
    let pulled = tool(&mut run(&["image", "pull", "--json", &image]));
    is_sample(&serde_json::from_str(&pulled).unwrap());

    // A helper of the user who ran sudo runs as that user.
    let helpers = cli.dir.path().join("bin");
    fs::create_dir(&helpers).unwrap();
    let helper = helpers.join("docker-credential-test");
    fs::write(
        &helper,
        "#!/bin/sh\n[ $(id -u) = 65534 ] || { echo \"runs as $(id -u)\"; exit 1; }\nread -r host\n\
         [ \"$host\" = \"$EXPECT\" ] || { echo \"asked for $host\"; exit 1; }\n\
         echo '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n",
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", helpers.display(), std::env::var("PATH").unwrap());
    cli.log_in(r#"{"credsStore":"test"}"#);
    let with_helper = |user: &str| {
        run(&["image", "pull", &image])
            .env("PATH", &path)
            .env("EXPECT", &host)
            .env("SUDO_UID", user)
            .env("DOCKER_CONFIG", cli.dir.path().join(".docker"))
            .output()
            .unwrap()
    };
    let output = with_helper("65534");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        refused(&with_helper("0")),
        format!(
            "error: image `{image}`: {}: docker-credential-test failed (exit status: 1): runs as 0\n",
            config.display()
        )
    );
}

#[test]
fn errors_say_what_to_do() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "here:v1", &[]);
    let host = format!("127.0.0.1:{}", registry.port);
    for image in ["here:v2", "nowhere:v1"] {
        let name = registry.name(image);
        assert_eq!(
            cli.refuses(&name),
            format!(
                "error: image `{name}`: {host} has no {name}; look for a slip in its name or tag\n"
            )
        );
    }
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = format!("127.0.0.1:{free}/x:v1");
    let said = cli.refuses(&nobody);
    assert!(
        said.starts_with(&format!(
            "error: image `{nobody}`: cannot speak to 127.0.0.1:{free}: "
        )) && said.contains("Connection refused"),
        "{said}"
    );
    assert!(
        cli.refuses("./here")
            .contains("it is neither a recipe's name")
    );
}

#[test]
fn a_full_disk_is_told_and_nothing_half_is_used() {
    require_root();
    let (registry, sample) = (Registry::plain(), Sample::new());
    registry.copy(&sample.oci(), "big:v1", &[]);
    let cli = Cli::new();
    let store = cli.dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let image = registry.name("big:v1");
    // In a mount namespace of its own: nothing is left mounted, whatever happens.
    let script = format!(
        "mount -t tmpfs -o size=2m none {0} && {1} image pull {image}; code=$?\n\
         ls {0}/images {0}/layers {0}/oci; find {0}/partial -size +64k; exit $code",
        store.display(),
        env!("CARGO_BIN_EXE_nslab"),
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .env("NSLAB_STORE", &store)
        .env("HOME", cli.dir.path())
        .output()
        .unwrap();
    let said = refused(&output);
    assert!(said.contains("No space left on device"), "{said}");
    let listed = String::from_utf8_lossy(&output.stdout);
    let names: Vec<_> = listed
        .lines()
        .filter(|l| !l.is_empty() && !l.ends_with(':'))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}
