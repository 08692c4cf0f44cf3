//! Registries behind a proxy that cuts and alters what they say.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::require_root;
use crate::served::{Cli, Registry, Sample, is_sample};

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
