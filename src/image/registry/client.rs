//! A client for one registry, and its errors in words.

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::distribution::Reference;
use reqwest::Response;

use super::auth::{self, Found};
use super::http::{Http, Pass, Refused};
use crate::image::error::Error;

/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);
/// Where Docker keeps certificates of registries, in `<host:port>/ca.crt` (dockerd(8), "certs.d").
const CERTS: &str = "/etc/docker/certs.d";

/// A registry that answers.
pub(super) struct Session<'a> {
    http: Http,
    pub image: &'a Reference,
    found: Found,
    /// What it lets us in with, and until when.
    pass: RefCell<(Pass, Option<Instant>)>,
}

impl<'a> Session<'a> {
    /// Finds credentials and the way in. Registries speak TLS; one on this machine's loopback may
    /// also speak plain HTTP, as Docker has it.
    pub async fn open(image: &'a Reference) -> Result<Self, Error> {
        // Another part of the program may have chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = image.resolve_registry();
        let found = auth::find(image.registry()).map_err(|why| failed(image, why))?;
        let tls = Self::new(image, &found, "https")?;
        let refused = match tls.log_in().await {
            Ok(()) => return Ok(tls),
            Err(e) => e,
        };
        // A certificate, also a bad one, is TLS.
        let no_tls = matches!(&refused, Refused::Request(e)
            if !causes(e).contains("certificate"));
        if is_loopback(host) && no_tls {
            let plain = Self::new(image, &found, "http")?;
            match plain.log_in().await {
                Ok(()) => return Ok(plain),
                // When it does not speak HTTP either, what was wrong with TLS is the better word.
                Err(Refused::Request(_)) => {}
                Err(e) => return Err(plain.explain(&e)),
            }
        }
        Err(tls.explain(&refused))
    }

    fn new(image: &'a Reference, found: &Found, scheme: &str) -> Result<Self, Error> {
        let certificates = certificates(image.registry()).map_err(|why| failed(image, why))?;
        let http = http_client(&certificates).map_err(|e| failed(image, causes(&e)))?;
        Ok(Self {
            http: Http::new(http, scheme, image),
            image,
            found: found.clone(),
            pass: RefCell::new((Pass::Open, None)),
        })
    }

    async fn log_in(&self) -> Result<(), Refused> {
        let asked = Instant::now();
        let pass = self.http.log_in(self.image, &self.found.auth).await?;
        let until = match &pass {
            // A quarter is left for the request that begins with it.
            Pass::Bearer { life, .. } => asked.checked_add(*life / 4 * 3),
            _ => None,
        };
        self.pass.replace((pass, until));
        Ok(())
    }

    /// A blob from its byte `from` on, as [`Http::blob`] has it.
    pub async fn blob(&self, digest: &str, from: u64) -> Result<Response, Refused> {
        let until = self.pass.borrow().1;
        if until.is_some_and(|until| until <= Instant::now()) {
            self.log_in().await?;
        }
        let pass = self.pass.borrow().0.clone();
        self.http.blob(self.image, digest, from, &pass).await
    }

    /// A manifest as it is, and the digest that the registry says it has.
    pub async fn manifest(
        &self,
        image: &Reference,
        accept: &[&str],
    ) -> Result<(Vec<u8>, Option<String>), Error> {
        let pass = self.pass.borrow().0.clone();
        let manifest = self.http.manifest(image, accept, &pass).await;
        manifest.map_err(|e| self.explain(&e))
    }

    /// What the registry's refusal, or the failure to ask it, means to a person.
    pub fn explain(&self, error: &Refused) -> Error {
        failed(self.image, self.words(error))
    }

    fn words(&self, error: &Refused) -> String {
        let registry = self.image.registry();
        match error {
            Refused::Credentials => self.credentials(),
            Refused::Codes(said) => {
                let has = |code: &str| said.iter().any(|e| e.code == code);
                if has("UNAUTHORIZED") || has("DENIED") {
                    return self.credentials();
                }
                if has("MANIFEST_UNKNOWN") || has("NAME_UNKNOWN") || has("NOT_FOUND") {
                    return format!(
                        "{registry} has no {}; look for a slip in its name or tag",
                        self.image.whole()
                    );
                }
                if has("TOOMANYREQUESTS") {
                    return format!(
                        "{registry} allows no more pulls for now; wait, or log in (`docker login`, \
                         `skopeo login`), which raises the limit"
                    );
                }
                let said = said.iter().map(|e| format!("{}: {}", e.code, e.message));
                format!(
                    "{registry} refuses: {}",
                    said.collect::<Vec<_>>().join("; ")
                )
            }
            Refused::Request(e) => {
                let chain = causes(e);
                let help = if chain.contains("UnknownIssuer") || chain.contains("certificate") {
                    format!(
                        "; if its certificate is your own, put its issuer's into \
                         {CERTS}/{registry}/ca.crt or among the system's"
                    )
                } else {
                    String::new()
                };
                format!("cannot speak to {registry}: {chain}{help}")
            }
            Refused::Status { code, said } => format!("{registry} answers {code}: {}", said.trim()),
            Refused::Wrong(why) => format!("{registry}: {why}"),
        }
    }

    fn credentials(&self) -> String {
        let registry = self.image.registry();
        match &self.found.file {
            Some(file) => format!(
                "{registry} does not accept the credentials of {} for it, or there is no such \
                 image: log in again (`docker login {registry}`)",
                file.display()
            ),
            None => format!(
                "{registry} wants credentials, or there is no such image: `docker login {registry}` \
                 or `skopeo login --authfile ~/.docker/config.json {registry}`, as the user who \
                 runs sudo, stores them"
            ),
        }
    }
}

fn failed(image: &Reference, why: String) -> Error {
    Error::Registry {
        reference: image.whole(),
        why,
    }
}

fn proxy(name: &str) -> Option<String> {
    [name.to_uppercase(), name.to_lowercase()]
        .iter()
        .find_map(|n| std::env::var(n).ok())
        .filter(|v| !v.is_empty())
}

fn http_client(certificates: &[Vec<u8>]) -> Result<reqwest::Client, reqwest::Error> {
    let without = || proxy("no_proxy").and_then(|list| reqwest::NoProxy::from_string(&list));
    let roots = certificates
        .iter()
        .map(|pem| reqwest::Certificate::from_pem(pem))
        .collect::<Result<Vec<_>, _>>()?;
    let mut client = reqwest::Client::builder()
        .tls_certs_merge(roots)
        .read_timeout(SILENCE)
        .connect_timeout(CONNECT)
        .user_agent(concat!("nslab/", env!("CARGO_PKG_VERSION")));
    if let Some(url) = proxy("https_proxy") {
        client = client.proxy(reqwest::Proxy::https(url)?.no_proxy(without()));
    }
    if let Some(url) = proxy("http_proxy") {
        client = client.proxy(reqwest::Proxy::http(url)?.no_proxy(without()));
    }
    client.build()
}

/// Certificates (PEM) that this registry's own may be signed with, besides the system's roots.
fn certificates(registry: &str) -> Result<Vec<Vec<u8>>, String> {
    // The name has been parsed: host and port, no `/` and no `..`.
    let folder = Path::new(CERTS).join(registry);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot list {}: {e}", folder.display())),
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "crt"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        })
        .collect()
}

/// Whether `host[:port]` is this machine's loopback.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// An error with everything that it was caused by; reqwest alone says "error sending request".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_by_name_and_number() {
        for yes in [
            "localhost:5000",
            "localhost",
            "127.0.0.1:5055",
            "127.1.2.3",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "example.org",
            "10.0.0.1:5000",
            "localhost.example.org:80",
            "docker.io",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
