//! Images of registries, from a real one (Debian's docker-registry) on loopback that skopeo has
//! filled: plain, with TLS and passwords, and behind a proxy that breaks things.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::{open_dir, require_root, tool};

/// A registry, ended when it goes out of scope.
struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Registry {
    fn plain() -> Self {
        Self::start("", |_| {})
    }

    /// With a certificate for 127.0.0.1 (its issuer's is `ca.crt` in its folder), and a user `me` with the password
    /// `secret`.
    fn private() -> Self {
        Self::start(
            "  tls:\n    certificate: DIR/crt\n    key: DIR/key\n\
             auth:\n  htpasswd:\n    realm: test\n    path: DIR/users\n",
            |dir| {
                let openssl = |words: &str| {
                    let words: Vec<_> = words.split(' ').collect();
                    tool(Command::new("openssl").current_dir(dir).args(words));
                };
                let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
                openssl(&format!(
                    "req -x509 {key} -days 2 -subj /CN=ca -keyout ca.key -out ca.crt"
                ));
                openssl(&format!(
                    "req {key} -subj /CN=127.0.0.1 -keyout key -out request"
                ));
                fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
                openssl(
                    "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                     -extfile names -out crt",
                );
                let users = tool(Command::new("htpasswd").args(["-Bbn", "me", "secret"]));
                fs::write(dir.join("users"), users).unwrap();
            },
        )
    }

    fn start(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = open_dir();
        prepare(dir.path());
        // Free a moment ago; nobody else on this machine's loopback takes ports that fast.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: DIR/data\n\
             http:\n  addr: 127.0.0.1:{port}\n{more}"
        );
        let config = config.replace("DIR", &dir.path().display().to_string());
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry runs; scripts/setup test installs it");
        let this = Self { dir, port, child };
        for _ in 0..1000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return this;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("docker-registry does not listen");
    }

    fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    fn copy(&self, from: &str, image: &str, options: &[&str]) {
        tool(
            Command::new("skopeo")
                .args(["copy", "-q", "--dest-tls-verify=false"])
                .args(options)
                .args([from, &format!("docker://{}", self.name(image))]),
        );
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An image with two layers and files that tell it apart from others, as an OCI image layout.
struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        let this = Self { dir: open_dir() };
        let layout = this.path("layout");
        let at = format!("{}:v1", layout.display());
        let umoci = |args: &[&str]| tool(Command::new("umoci").args(args));
        umoci(&["init", "--layout", layout.to_str().unwrap()]);
        umoci(&["new", "--image", &at]);
        for (name, size) in [("big", 3 << 20), ("small", 100)] {
            let root = this.path(name);
            fs::create_dir(&root).unwrap();
            fs::write(root.join(name), noise(size)).unwrap();
            umoci(&["insert", "--image", &at, root.to_str().unwrap(), "/data"]);
        }
        umoci(&[
            "config",
            "--image",
            &at,
            "--config.cmd",
            "/data/run",
            "--config.user",
            "nobody",
        ]);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same image with layers of zstd, which umoci does not write.
    fn zstd(&self) -> String {
        let to = format!("oci:{}:v1", self.path("zstd").display());
        let format = ["--dest-compress-format", "zstd"];
        tool(
            Command::new("skopeo")
                .args(["copy", "-q"])
                .args(format)
                .args([&self.oci(), &to]),
        );
        to
    }

    fn oci(&self) -> String {
        format!("oci:{}:v1", self.path("layout").display())
    }
}

/// Bytes that do not compress (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[0]
    };
    (0..size).map(next).collect()
}

/// The command line, with a store and a home of its own.
struct Cli {
    dir: tempfile::TempDir,
}

impl Cli {
    fn new() -> Self {
        Self { dir: open_dir() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nslab"));
        command
            .args(words)
            .env("NSLAB_STORE", self.dir.path().join("store"))
            .env("HOME", self.dir.path())
            .env_remove("SUDO_UID")
            .env_remove("DOCKER_CONFIG")
            .stdin(Stdio::null());
        command
    }

    fn pull(&self, image: &str) -> serde_json::Value {
        serde_json::from_str(&tool(
            &mut self.command(&["image", "pull", "--json", image]),
        ))
        .unwrap()
    }

    fn refuses(&self, image: &str) -> String {
        refused(&self.command(&["image", "pull", image]).output().unwrap())
    }

    fn log_in(&self, config: &str) {
        fs::create_dir_all(self.dir.path().join(".docker")).unwrap();
        fs::write(self.dir.path().join(".docker/config.json"), config).unwrap();
    }
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // What it did before comes before.
    let at = said.find("error: ").unwrap_or_else(|| panic!("{said}"));
    said[at..].to_owned()
}

/// Checks that an image is the sample, unpacked.
fn is_sample(image: &serde_json::Value) {
    assert_eq!(image["config"]["cmd"], serde_json::json!(["/data/run"]));
    assert_eq!(image["config"]["user"], "nobody");
    let layers: Vec<_> = image["layers"].as_array().unwrap().iter().collect();
    assert_eq!(layers.len(), 2, "{image}");
    let file = |layer: usize, name: &str| {
        fs::read(
            Path::new(layers[layer].as_str().unwrap())
                .join("data")
                .join(name),
        )
        .unwrap()
    };
    assert!(
        file(0, "small") == noise(100),
        "the uppermost layer comes first"
    );
    assert!(file(1, "big") == noise(3 << 20));
}

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

/// A proxy in front of a registry: each connection is one request, whose answer `change` may cut
/// or alter.
struct Proxy {
    port: u16,
    /// Request lines and `Range` headers, as they came.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: u16, change: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            // As many as a test's few pulls can take.
            for client in listener.incoming().take(200) {
                let mut client = client.unwrap();
                let Some(request) = head(&mut client) else {
                    continue;
                };
                let line = request.lines().next().unwrap_or_default().to_owned();
                let range = request
                    .lines()
                    .find(|l| l.to_lowercase().starts_with("range:"));
                log.lock()
                    .unwrap()
                    .push(format!("{line} {}", range.unwrap_or_default()));
                let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                server.write_all(request.as_bytes()).unwrap();
                let mut answer = Vec::new();
                let _ = server.read_to_end(&mut answer);
                let _ = client.write_all(&change(&line, answer));
            }
        });
        Self { port, seen }
    }

    fn blobs(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|l| l.contains("/blobs/"))
            .cloned()
            .collect()
    }
}

/// A request's head; `None` for what is no HTTP (a TLS greeting).
fn head(client: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) if !bytes.is_empty() || byte[0] == b'G' || byte[0] == b'H' => bytes.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where an answer's body begins.
fn body(answer: &[u8]) -> usize {
    answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(0, |at| at + 4)
}

#[test]
fn a_broken_download_is_gone_on_with() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "big:v1", &[]);
    // Of each answer that is longer than a megabyte, the first megabyte.
    let proxy = Proxy::start(registry.port, |_, mut answer| {
        answer.truncate(1 << 20);
        answer
    });
    is_sample(&cli.pull(&format!("127.0.0.1:{}/big:v1", proxy.port)));
    let ranges: Vec<u64> = proxy
        .blobs()
        .iter()
        .filter_map(|l| l.split("bytes=").nth(1)?.split('-').next()?.parse().ok())
        .filter(|from| *from > 0)
        .collect();
    assert!(
        ranges.len() >= 3,
        "three megabytes, one at a time: {:?}",
        proxy.blobs()
    );
    assert!(ranges.windows(2).all(|w| w[0] < w[1]), "{ranges:?}");
}

#[test]
fn what_a_killed_pull_has_is_not_pulled_again() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "big:v1", &[]);
    // The large blob stops for good after half of it, until told otherwise.
    let broken = Arc::new(AtomicUsize::new(1));
    let switch = broken.clone();
    let proxy = Proxy::start(registry.port, move |line, mut answer| {
        if line.contains("/blobs/")
            && answer.len() > (1 << 20)
            && switch.load(Ordering::SeqCst) == 1
        {
            answer.truncate(1 << 21);
            switch.store(2, Ordering::SeqCst);
        } else if line.contains("/blobs/") && switch.load(Ordering::SeqCst) == 2 {
            answer.clear();
        }
        answer
    });
    let image = format!("127.0.0.1:{}/big:v1", proxy.port);
    let said = cli.refuses(&image);
    assert!(
        said.contains("broke off after ") && said.contains("run it again to go on"),
        "{said}"
    );
    let partial = cli.dir.path().join("store/partial");
    let left = fs::read_dir(&partial)
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len());
    let left = left.max().unwrap();
    assert!(left > 1 << 20, "{left} bytes are kept");
    assert!(
        fs::read_dir(cli.dir.path().join("store/images"))
            .unwrap()
            .next()
            .is_none(),
        "no image is recorded"
    );
    broken.store(0, Ordering::SeqCst);
    let before = proxy.blobs().len();
    is_sample(&cli.pull(&image));
    assert!(
        proxy.blobs()[before..]
            .iter()
            .any(|l| l.contains(&format!("bytes={left}-"))),
        "{:?}",
        &proxy.blobs()[before..]
    );
    assert!(
        fs::read_dir(&partial).unwrap().next().is_none(),
        "nothing partial is left"
    );
}

#[test]
fn altered_blobs_and_manifests_are_refused() {
    require_root();
    let (registry, sample, cli) = (Registry::plain(), Sample::new(), Cli::new());
    registry.copy(&sample.oci(), "big:v1", &[]);
    for what in ["/blobs/", "/manifests/"] {
        let proxy = Proxy::start(registry.port, move |line, mut answer| {
            let at = body(&answer) + 60;
            if line.contains(what) && at < answer.len() {
                answer[at] ^= 1;
            }
            answer
        });
        let said = cli.refuses(&format!("127.0.0.1:{}/big:v1", proxy.port));
        assert!(said.to_lowercase().contains("digest"), "{said}");
    }
    let store = cli.dir.path().join("store");
    for left in ["images", "layers", "oci"] {
        let entries: Vec<_> = fs::read_dir(store.join(left)).unwrap().collect();
        assert!(entries.is_empty(), "{left}: {entries:?}");
    }
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

#[test]
fn archives_of_both_kinds() {
    require_root();
    let (sample, cli) = (Sample::new(), Cli::new());
    let copy = |kind: &str, file: &str, name: &str| {
        let to = format!("{kind}:{}:{name}", sample.path(file).display());
        tool(Command::new("skopeo").args(["copy", "-q", &sample.oci(), &to]));
    };
    copy("oci-archive", "oci.tar", "v1");
    copy("docker-archive", "docker.tar", "example.org/sample:v1");
    tool(
        Command::new("gzip")
            .arg("-k")
            .arg(sample.path("docker.tar")),
    );
    // By reference, as a lab file has it.
    let at = |file: &str| sample.path(file).display().to_string();
    let store = nslab::image::Store::open(&cli.dir.path().join("store")).unwrap();
    let resolve = |reference: &str| {
        let image = store.resolve(reference, &[], &mut |_| {})?;
        Ok::<_, nslab::image::Error>(serde_json::json!({
            "layers": image.layers,
            "config": image.config,
        }))
    };
    let mut first = None;
    for file in [
        "oci.tar",
        "oci.tar:v1",
        "docker.tar",
        "docker.tar:v1",
        "docker.tar.gz",
        "docker.tar:example.org/sample:v1",
    ] {
        let image = resolve(&at(file)).unwrap();
        is_sample(&image);
        let layers = first.get_or_insert_with(|| image["layers"].clone());
        assert_eq!(image["layers"], *layers, "{file}");
    }
    let said = resolve(&at("docker.tar:v2")).unwrap_err().to_string();
    assert!(
        said.ends_with("no image is called `v2`, of: example.org/sample:v1"),
        "{said}"
    );
    fs::write(sample.path("no.tar"), noise(2000)).unwrap();
    assert!(resolve(&at("no.tar")).is_err());
    // A file that has changed is read again.
    copy("oci-archive", "second.tar", "v1");
    fs::copy(sample.path("second.tar"), sample.path("oci.tar")).unwrap();
    is_sample(&resolve(&at("oci.tar")).unwrap());
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .filter(|i| i.name == at("oci.tar"))
            .count(),
        1
    );
}
