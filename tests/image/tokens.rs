//! Registries that want tokens: Debian's docker-registry with a token server in front of it, and
//! servers that answer too much or want too much.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::served::{Cli, Registry, Sample, is_sample};
use crate::{open_dir, require_root, tool};

/// A request as it came.
struct Request {
    /// `GET /token?x=y`
    line: String,
    head: String,
    body: String,
}

impl Request {
    /// `None` for what is no HTTP: a TLS greeting.
    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) if !head.is_empty() || byte[0].is_ascii_uppercase() => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).ok()?;
        let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let line = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
        Some(Self {
            line,
            head,
            body: String::from_utf8(body).ok()?,
        })
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Answers requests on a port of loopback, one a connection.
fn serve(answer: impl Fn(&Request, &mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // As many as a test's few pulls can take.
        for stream in listener.incoming().take(200) {
            let mut stream = stream.unwrap();
            if let Some(request) = Request::read(&mut stream) {
                answer(&request, &mut stream);
            }
        }
    });
    port
}

fn say(stream: &mut TcpStream, status: &str, more: &str, body: &str) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n{body}"
    );
    let _ = stream.write_all(text.as_bytes());
}

/// `%XX` and `+` undone.
fn decoded(text: &str) -> String {
    let mut parts = text.replace('+', " ");
    for (code, sign) in [("%3A", ":"), ("%2F", "/"), ("%2C", ","), ("%20", " ")] {
        parts = parts.replace(code, sign);
    }
    parts
}

fn fields(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (decoded(k), decoded(v))).collect()
}

/// A token server (<https://distribution.github.io/distribution/spec/auth/token/>) that lets `me`
/// with the password `secret` do everything, whoever has the identity token `good one/2` pull, and
/// nobody else anything.
struct Tokens {
    port: u16,
    dir: tempfile::TempDir,
    /// Lines and bodies of requests.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Tokens {
    fn start() -> Self {
        let dir = open_dir();
        let words =
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tokens -keyout key -out crt";
        tool(
            Command::new("openssl")
                .current_dir(dir.path())
                .args(words.split(' ')),
        );
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, keys) = (seen.clone(), dir.path().to_owned());
        let port = serve(move |request, stream| {
            let (line, body) = (request.line.clone(), request.body.clone());
            log.lock().unwrap().push((line, body));
            let query = request.line.split_once('?').map_or("", |(_, query)| query);
            let post = request.line.starts_with("POST");
            let fields = fields(if post { &request.body } else { query });
            let get = |name: &str| {
                let found = fields.iter().find(|(key, _)| key == name);
                found.map_or("", |(_, value)| value.as_str())
            };
            let actions = if post {
                (get("refresh_token") == "good one/2").then_some("pull")
            } else {
                match header(&request.head, "authorization") {
                    // echo -n me:secret | base64
                    Some("Basic bWU6c2VjcmV0") => Some("pull,push"),
                    Some(_) => None,
                    None => Some(""),
                }
            };
            let Some(actions) = actions else {
                return say(
                    stream,
                    "401 Unauthorized",
                    "",
                    r#"{"details":"who are you?"}"#,
                );
            };
            let token = token(&keys, get("scope"), actions);
            // Each request for a blob has to begin with a new one.
            let answer = if post {
                json!({ "access_token": token, "expires_in": 0 })
            } else {
                json!({ "token": token })
            };
            say(stream, "200 OK", "", &answer.to_string());
        });
        Self { port, dir, seen }
    }

    fn registry(&self) -> Registry {
        let config = format!(
            "auth:\n  token:\n    realm: http://127.0.0.1:{}/token\n    service: a registry\n    \
             issuer: tests\n    rootcertbundle: {}\n",
            self.port,
            self.dir.path().join("crt").display()
        );
        Registry::start(&config, |_| {})
    }
}

/// A token for what of a scope is allowed, signed as docker-registry wants it: a JWT with the
/// certificate in it.
fn token(keys: &PathBuf, scope: &str, allowed: &str) -> String {
    let certificate = fs::read_to_string(keys.join("crt")).unwrap();
    let der: String = certificate
        .lines()
        .filter(|l| !l.starts_with('-'))
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs();
    let name = scope.split(':').nth(1).unwrap_or_default();
    let allowed: Vec<_> = allowed.split(',').filter(|a| scope.contains(a)).collect();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let claims = json!({
        "iss": "tests", "sub": "x", "aud": "a registry", "jti": "1",
        "exp": now + 300, "nbf": now - 60, "iat": now,
        "access": [{ "type": "repository", "name": name, "actions": allowed }],
    });
    let script = r#"
        url() { basenc --base64url -w0 | tr -d =; }
        text=$(printf %s "$1" | url).$(printf %s "$2" | url)
        printf %s "$text.$(printf %s "$text" | openssl dgst -sha256 -sign key -binary | url)""#;
    tool(
        Command::new("sh")
            .current_dir(keys)
            .args(["-euc", script, "sh"])
            .args([header.to_string(), claims.to_string()]),
    )
}

#[test]
fn tokens_for_a_password_for_nothing_and_for_an_identity_token() {
    require_root();
    let tokens = Tokens::start();
    let (registry, sample) = (tokens.registry(), Sample::new());
    registry.copy(
        &sample.oci(),
        "team/mine:v1",
        &["--dest-creds", "me:secret"],
    );
    let image = registry.name("team/mine:v1");
    let host = format!("127.0.0.1:{}", registry.port);
    let log_in = |cli: &Cli, entry: &str| {
        cli.log_in(&format!(r#"{{"auths":{{"{host}":{entry}}}}}"#));
        cli.dir.path().join(".docker/config.json")
    };

    let cli = Cli::new();
    assert_eq!(
        cli.refuses(&image),
        format!(
            "error: image `{image}`: {host} wants credentials, or there is no such image: \
             `docker login {host}` or `skopeo login --authfile ~/.docker/config.json {host}`, as \
             the user who runs sudo, stores them\n"
        )
    );
    // echo -n me:wrong | base64
    for entry in [
        r#"{"auth":"bWU6d3Jvbmc="}"#,
        r#"{"auth":"bWU6","identitytoken":"bad"}"#,
    ] {
        let file = log_in(&cli, entry);
        assert_eq!(
            cli.refuses(&image),
            format!(
                "error: image `{image}`: {host} does not accept the credentials of {} for it, or \
                 there is no such image: log in again (`docker login {host}`)\n",
                file.display()
            )
        );
    }
    // As the field's own tool writes it.
    let file = cli.dir.path().join(".docker/config.json");
    fs::remove_file(&file).unwrap();
    tool(
        Command::new("skopeo")
            .args(["login", "--tls-verify=false", "-u", "me", "-p", "secret"])
            .arg(format!("--authfile={}", file.display()))
            .arg(&host),
    );
    is_sample(&cli.pull(&image));

    let cli = Cli::new();
    log_in(&cli, r#"{"auth":"bWU6","identitytoken":"good one/2"}"#);
    let before = tokens.seen.lock().unwrap().len();
    is_sample(&cli.pull(&image));
    let seen = tokens.seen.lock().unwrap()[before..].to_vec();
    let mut form = fields(&seen[0].1);
    form.sort();
    let want = [
        ("client_id", "nslab"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "good one/2"),
        ("scope", "repository:team/mine:pull"),
        ("service", "a registry"),
    ];
    let want = want.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(form, want);
    // The identity token goes to nobody but the token server, and only in a body.
    assert!(
        seen.iter().all(|(line, _)| line == "POST /token"),
        "{seen:?}"
    );
    // One to begin with, and one for each of three blobs: they are good for no time at all.
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn endless_answers_end() {
    require_root();
    let cli = Cli::new();
    for (endless, status, mebibytes) in [
        ("/manifests/", "200 OK", 4),
        ("/manifests/", "404 Not Found", 1),
        ("/token", "200 OK", 1),
        ("/token", "500 Internal Server Error", 1),
        ("/blobs/", "404 Not Found", 1),
    ] {
        let sent = Arc::new(Mutex::new(0_usize));
        let count = sent.clone();
        let port = serve(move |request, stream| {
            if request.line.contains(endless) {
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{{\"token\":\"");
                let _ = stream.write_all(head.as_bytes());
                // A gigabyte at most, should nobody mind.
                for _ in 0..1 << 10 {
                    if stream.write_all(&vec![b'x'; 1 << 20]).is_err() {
                        break;
                    }
                    *count.lock().unwrap() += 1;
                }
            } else if endless == "/token" {
                let port = stream.local_addr().unwrap().port();
                let ask =
                    format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\"\r\n");
                say(stream, "401 Unauthorized", &ask, "");
            } else if request.line.contains("/manifests/") {
                let digest = format!("sha256:{}", "0".repeat(64));
                let manifest = json!({
                    "schemaVersion": 2,
                    "config": { "mediaType": "x/y", "digest": digest, "size": 9 },
                    "layers": [],
                });
                say(stream, "200 OK", "", &manifest.to_string());
            } else {
                say(stream, "200 OK", "", "{}");
            }
        });
        let image = format!("127.0.0.1:{port}/x:v1");
        assert_eq!(
            cli.refuses(&image),
            format!(
                "error: image `{image}`: 127.0.0.1:{port}: an answer is longer than {mebibytes} MiB\n"
            )
        );
        // What was under way in the kernel's buffers counts as sent.
        std::thread::sleep(Duration::from_millis(100));
        let sent = *sent.lock().unwrap();
        assert!(sent < 64, "{endless} {status}: {sent} MiB");
    }
}

#[test]
fn credentials_go_nowhere_in_the_clear() {
    require_root();
    let cli = Cli::new();
    // Nobody has this address (RFC 5737); nothing is sent to it.
    let port = serve(|_, stream| {
        let ask = "WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\",service=\"x\"\r\n";
        say(stream, "401 Unauthorized", ask, "");
    });
    cli.log_in(&format!(
        r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#
    ));
    let image = format!("127.0.0.1:{port}/x:v1");
    assert_eq!(
        cli.refuses(&image),
        format!(
            "error: image `{image}`: 127.0.0.1:{port}: it wants credentials to be sent to \
             http://192.0.2.1/token, which everybody can read on the way\n"
        )
    );
}
