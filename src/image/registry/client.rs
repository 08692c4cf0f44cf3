//! A client for one registry, and its errors in words.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::auth::{self, Found};
use crate::image::error::Error;

/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);
/// Where Docker keeps certificates of registries, in `<host:port>/ca.crt` (dockerd(8), "certs.d").
const CERTS: &str = "/etc/docker/certs.d";

/// A registry that answers.
pub(super) struct Session<'a> {
    pub client: Client,
    pub image: &'a Reference,
    found: Found,
}

impl<'a> Session<'a> {
    /// Finds credentials and the way in. Registries speak TLS; one on this machine's loopback may
    /// also speak plain HTTP, as Docker has it.
    pub async fn open(image: &'a Reference) -> Result<Self, Error> {
        // Another part of the program may have chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = image.resolve_registry();
        let found = auth::find(image.registry()).map_err(|why| failed(image, why))?;
        let this = |client| Self {
            client,
            image,
            found: found.clone(),
        };
        let tls = this(client(image, ClientProtocol::Https)?);
        let refused = match tls.log_in().await {
            Ok(()) => return Ok(tls),
            Err(e) => e,
        };
        // A certificate, also a bad one, is TLS.
        let no_tls = matches!(&refused, OciDistributionError::RequestError(e)
            if !causes(e).contains("certificate"));
        if is_loopback(host) && no_tls {
            let plain = this(client(image, ClientProtocol::Http)?);
            // When it does not speak HTTP either, what was wrong with TLS is the better word.
            if plain.log_in().await.is_ok() {
                return Ok(plain);
            }
        }
        Err(tls.explain(&refused))
    }

    async fn log_in(&self) -> Result<(), OciDistributionError> {
        self.client
            .auth(self.image, &self.found.auth, RegistryOperation::Pull)
            .await
            .map(drop)
    }

    pub fn auth(&self) -> &RegistryAuth {
        &self.found.auth
    }

    /// What the registry's refusal, or the failure to ask it, means to a person.
    pub fn explain(&self, error: &OciDistributionError) -> Error {
        failed(self.image, self.words(error))
    }

    fn words(&self, error: &OciDistributionError) -> String {
        let registry = self.image.registry();
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => self.credentials(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |code: &OciErrorCode| envelope.errors.iter().any(|e| e.code == *code);
                if has(&OciErrorCode::Unauthorized) || has(&OciErrorCode::Denied) {
                    return self.credentials();
                }
                if has(&OciErrorCode::ManifestUnknown)
                    || has(&OciErrorCode::NameUnknown)
                    || has(&OciErrorCode::NotFound)
                {
                    return format!(
                        "{registry} has no {}; look for a slip in its name or tag",
                        self.image.whole()
                    );
                }
                if has(&OciErrorCode::Toomanyrequests) {
                    return format!(
                        "{registry} allows no more pulls for now; wait, or log in (`docker login`, \
                         `skopeo login`), which raises the limit"
                    );
                }
                let said: Vec<_> = envelope.errors.iter().map(ToString::to_string).collect();
                format!("{registry} refuses: {}", said.join("; "))
            }
            OciDistributionError::ImageManifestNotFoundError(_) => {
                format!("{registry} has no {}", self.image.whole())
            }
            OciDistributionError::RequestError(e) => {
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
            OciDistributionError::ServerError { code, message, .. } => {
                format!("{registry} answers {code}: {}", message.trim())
            }
            other => format!("{registry}: {}", causes(other)),
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

fn client(image: &Reference, protocol: ClientProtocol) -> Result<Client, Error> {
    let proxy = |name: &str| {
        [name.to_uppercase(), name.to_lowercase()]
            .iter()
            .find_map(|n| std::env::var(n).ok())
            .filter(|v| !v.is_empty())
    };
    let config = ClientConfig {
        protocol,
        extra_root_certificates: certificates(image.registry())
            .map_err(|why| failed(image, why))?,
        read_timeout: Some(SILENCE),
        connect_timeout: Some(CONNECT),
        user_agent: concat!("nslab/", env!("CARGO_PKG_VERSION")),
        https_proxy: proxy("https_proxy"),
        http_proxy: proxy("http_proxy"),
        no_proxy: proxy("no_proxy"),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|e| failed(image, causes(&e)))
}

/// Certificates that this registry's own may be signed with, besides the system's roots.
fn certificates(registry: &str) -> Result<Vec<Certificate>, String> {
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
            std::fs::read(&path)
                .map(|data| Certificate {
                    encoding: CertificateEncoding::Pem,
                    data,
                })
                .map_err(|e| format!("cannot read {}: {e}", path.display()))
        })
        .collect()
}

/// Whether `host[:port]` is this machine's loopback.
fn is_loopback(registry: &str) -> bool {
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
