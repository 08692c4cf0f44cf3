//! What the tests of registries and archives share: a registry, an image, the command line.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::{open_dir, tool};

/// A registry, ended when it goes out of scope.
pub struct Registry {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub child: Child,
}

impl Registry {
    pub fn plain() -> Self {
        Self::start("", |_| {})
    }

    /// With a certificate for 127.0.0.1 (its issuer's is `ca.crt` in its folder), and a user `me` with the password
    /// `secret`.
    pub fn private() -> Self {
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

    pub fn start(more: &str, prepare: impl FnOnce(&Path)) -> Self {
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

    pub fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    pub fn copy(&self, from: &str, image: &str, options: &[&str]) {
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
pub struct Sample {
    pub dir: tempfile::TempDir,
}

impl Sample {
    pub fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same image with layers of zstd, which umoci does not write.
    pub fn zstd(&self) -> String {
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

    pub fn oci(&self) -> String {
        format!("oci:{}:v1", self.path("layout").display())
    }
}

/// Bytes that do not compress (xorshift).
pub fn noise(size: usize) -> Vec<u8> {
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
pub struct Cli {
    pub dir: tempfile::TempDir,
}

impl Cli {
    pub fn new() -> Self {
        Self { dir: open_dir() }
    }

    pub fn command(&self, words: &[&str]) -> Command {
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

    pub fn pull(&self, image: &str) -> serde_json::Value {
        serde_json::from_str(&tool(
            &mut self.command(&["image", "pull", "--json", image]),
        ))
        .unwrap()
    }

    pub fn refuses(&self, image: &str) -> String {
        refused(&self.command(&["image", "pull", image]).output().unwrap())
    }

    pub fn log_in(&self, config: &str) {
        fs::create_dir_all(self.dir.path().join(".docker")).unwrap();
        fs::write(self.dir.path().join(".docker/config.json"), config).unwrap();
    }
}

pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // What it did before comes before.
    let at = said.find("error: ").unwrap_or_else(|| panic!("{said}"));
    said[at..].to_owned()
}

/// Checks that an image is the sample, unpacked.
pub fn is_sample(image: &serde_json::Value) {
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
