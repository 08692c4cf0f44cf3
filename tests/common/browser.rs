//! A real browser, driven over the DevTools protocol through two pipes
//! (`--remote-debugging-pipe`: JSON messages that end in a zero byte).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A headless Chromium with one page.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    id: u64,
    session: Option<String>,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// Chrome where it is there: on Ubuntu, `chromium` is a snap, which sees neither /tmp nor namespaces.
fn program() -> PathBuf {
    let names = ["google-chrome", "google-chrome-stable", "chromium"];
    std::env::var("PATH")
        .unwrap()
        .split(':')
        .flat_map(|dir| names.map(|name| Path::new(dir).join(name)))
        .find(|path| path.exists())
        .expect("neither google-chrome nor chromium is in PATH; scripts/setup test installs one")
}

/// A file of an npm package that `scripts/setup test` has unpacked.
pub fn npm(file: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/npm")
        .join(file);
    assert!(
        path.exists(),
        "{} is missing; scripts/setup test fetches it",
        path.display()
    );
    path
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (browser_in, to) = nix::unistd::pipe().unwrap();
        let (from, browser_out) = nix::unistd::pipe().unwrap();
        // Away from 3 and 4, where the browser wants them.
        let high = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap();
        let (browser_in, browser_out) = (high(browser_in), high(browser_out));
        let (to, from) = (high(to), high(from));
        let mut command = Command::new(program());
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (read, write) = (browser_in.as_raw_fd(), browser_out.as_raw_fd());
        // SAFETY: dup2(2) is async-signal-safe, and both descriptors are open until after spawn.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(read, 3) < 0 || libc::dup2(write, 4) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let mut browser = Self {
            child,
            to: File::from(to),
            from: BufReader::new(File::from(from)),
            id: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let targets = browser.call("Target.getTargets", &json!({}));
        let mut pages = targets["targetInfos"].as_array().unwrap().iter();
        let page = pages.rfind(|t| t["type"] == "page");
        let page = page.expect("a page")["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": page, "flatten": true }),
        );
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method and gives its result.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.id += 1;
        let mut message = json!({ "id": self.id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let message = self.read();
            if message["id"] == self.id {
                let error = &message["error"];
                assert!(error.is_null(), "{method}: {error}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        // A page of a report is far below this; a browser gone mad is not.
        let limit = 64 << 20;
        self.from
            .by_ref()
            .take(limit)
            .read_until(0, &mut bytes)
            .unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser went away");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        let went = self.call("Page.navigate", &json!({ "url": url }));
        if went["loaderId"].is_null() {
            // Another place of the same page: nothing is loaded.
            return;
        }
        while !self
            .events
            .iter()
            .any(|e| e["method"] == "Page.loadEventFired")
        {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// Opens a local file.
    pub fn open_file(&mut self, path: &Path) {
        self.open(&format!("file://{}", path.display()));
    }

    /// The value of an expression; a promise is waited for.
    pub fn eval(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            &json!({
                "expression": expression,
                "returnByValue": true,
                "awaitPromise": true,
                // As from the developer's console: not bound by the page's own policy.
                "allowUnsafeEvalBlockedByCSP": true,
            }),
        );
        let thrown = &result["exceptionDetails"];
        assert!(thrown.is_null(), "{thrown}");
        result["result"]["value"].clone()
    }

    /// Makes the window this wide and high, in CSS pixels, as a phone or not.
    pub fn window(&mut self, width: u32, height: u32, mobile: bool) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile }),
        );
    }

    /// Emulates a medium (`screen`, `print`) and a colour scheme (`light`, `dark`).
    pub fn medium(&mut self, medium: &str, scheme: &str) {
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({
                "media": medium,
                "features": [{ "name": "prefers-color-scheme", "value": scheme }],
            }),
        );
    }

    /// Everything that the page complained about since it was opened: errors and warnings on the
    /// console, exceptions, what its policy kept from it.
    pub fn complaints(&mut self) -> Vec<String> {
        // An answer comes after the events before it.
        self.eval("0");
        self.events
            .iter()
            .filter(|e| {
                let kind = &e["params"]["type"];
                match e["method"].as_str().unwrap_or_default() {
                    "Runtime.exceptionThrown" | "Log.entryAdded" => true,
                    "Runtime.consoleAPICalled" => kind == "error" || kind == "warning",
                    _ => false,
                }
            })
            .map(|e| e["params"].to_string())
            .collect()
    }

    /// Everything that was requested since the page was opened.
    pub fn requests(&mut self) -> Vec<String> {
        self.eval("0");
        self.events
            .iter()
            .filter(|e| e["method"] == "Network.requestWillBeSent")
            .map(|e| e["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Writes what is to be seen of a part of the page, in CSS pixels, as a PNG file.
    pub fn picture(&mut self, path: &Path, width: f64, height: f64, scale: f64) {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": scale });
        let shot = self.call(
            "Page.captureScreenshot",
            &json!({ "format": "png", "clip": clip, "captureBeyondViewport": true }),
        );
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(File::create(path).unwrap())
            .spawn()
            .unwrap();
        let data = shot["data"].as_str().unwrap();
        decode
            .stdin
            .take()
            .unwrap()
            .write_all(data.as_bytes())
            .unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
