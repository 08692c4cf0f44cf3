//! What pulling needs of the distribution-spec: who may come in, manifests, blobs. Whatever a
//! registry answers has a bound.

use std::time::Duration;

use http_auth::parse_challenges;
use oci_spec::distribution::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::Credentials;
use super::client::is_loopback;

/// Most bytes of a manifest, as registries and Docker have it.
const MAX_MANIFEST: usize = 4 << 20;
/// Most bytes of a token's or an error's answer (containerd's bound).
const MAX_ANSWER: usize = 1 << 20;
/// How long a token is good that does not say so (distribution's token specification).
const TOKEN_LIFE: u64 = 60;
/// Whom to give a token to, as OAuth 2 wants to know it.
const CLIENT_ID: &str = "nslab";

/// Why a registry gives nothing.
#[derive(Debug)]
pub(super) enum Refused {
    /// It cannot be spoken to.
    Request(reqwest::Error),
    /// It wants credentials, or others.
    Credentials,
    /// It says why (distribution-spec, "Error Codes").
    Codes(Vec<Said>),
    /// It says so by a status alone.
    Status { code: u16, said: String },
    /// What it says is not what the specification says.
    Wrong(String),
}

impl From<reqwest::Error> for Refused {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(error)
    }
}

/// A reason for a refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    /// `MANIFEST_UNKNOWN`
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Said>,
}

/// What a request is sent with.
#[derive(Clone)]
pub(super) enum Pass {
    /// The registry asks for none.
    Open,
    Basic(String, String),
    Bearer {
        token: String,
        /// How long it is good, counted from when it was given.
        life: Duration,
    },
}

/// How a registry wants to be asked.
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// A token server's answer. Both names are in use (token specification, "Token Response Fields").
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A registry, spoken to by one scheme.
pub(super) struct Http {
    client: Client,
    /// `https://host:port/v2/`
    base: String,
}

impl Http {
    pub(super) fn new(client: Client, scheme: &str, image: &Reference) -> Self {
        Self {
            client,
            base: format!("{scheme}://{}/v2/", image.resolve_registry()),
        }
    }

    /// Asks for what it takes to pull an image.
    pub(super) async fn log_in(
        &self,
        image: &Reference,
        credentials: &Credentials,
    ) -> Result<Pass, Refused> {
        let response = self.client.get(&self.base).send().await?;
        let Some(header) = response.headers().get(WWW_AUTHENTICATE) else {
            return Ok(Pass::Open);
        };
        match (challenge(header), credentials) {
            (Some(Challenge::Bearer { realm, service }), _) => {
                self.token(realm, service, image, credentials).await
            }
            (_, Credentials::Basic(user, password)) => {
                Ok(Pass::Basic(user.clone(), password.clone()))
            }
            // It says itself what it thinks of that.
            _ => Ok(Pass::Open),
        }
    }

    /// Gets a token: by a password or nothing (token specification), or by an identity token, which
    /// is a refresh token of OAuth 2
    /// (<https://distribution.github.io/distribution/spec/auth/oauth/>).
    async fn token(
        &self,
        mut realm: Url,
        service: Option<String>,
        image: &Reference,
        credentials: &Credentials,
    ) -> Result<Pass, Refused> {
        let host = realm.host_str().unwrap_or_default();
        let private = realm.scheme() == "https" || is_loopback(host);
        if !private && !matches!(credentials, Credentials::Anonymous) {
            return Err(Refused::Wrong(format!(
                "it wants credentials to be sent to {realm}, which everybody can read on the way"
            )));
        }
        let scope = format!("repository:{}:pull", image.repository());
        let mut fields = vec![("scope", scope.as_str())];
        fields.extend(service.as_deref().map(|service| ("service", service)));
        let request = if let Credentials::Identity(token) = credentials {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT_ID),
                ("refresh_token", token),
            ]);
            // A form is encoded as a query is.
            let mut form = realm.clone();
            form.set_query(None);
            form.query_pairs_mut().extend_pairs(&fields);
            let body = form.query().unwrap_or_default().to_owned();
            let kind = "application/x-www-form-urlencoded";
            self.client
                .post(realm)
                .header(CONTENT_TYPE, kind)
                .body(body)
        } else {
            realm.query_pairs_mut().extend_pairs(&fields);
            let request = self.client.get(realm);
            match credentials {
                Credentials::Basic(user, password) => request.basic_auth(user, Some(password)),
                _ => request,
            }
        };
        let response = request.send().await?;
        let status = response.status();
        let answer = bounded(response, MAX_ANSWER).await?;
        if !status.is_success() {
            // 400 is OAuth 2's `invalid_grant`.
            return Err(match status.as_u16() {
                400 | 401 | 403 => Refused::Credentials,
                _ => refusal(status, &answer),
            });
        }
        let wrong = |why: String| Refused::Wrong(format!("its token server gives no token: {why}"));
        let answer: Given = serde_json::from_slice(&answer).map_err(|e| wrong(e.to_string()))?;
        let token = answer.token.or(answer.access_token);
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| wrong("there is none in its answer".into()))?;
        Ok(Pass::Bearer {
            token,
            life: Duration::from_secs(answer.expires_in.unwrap_or(TOKEN_LIFE)),
        })
    }

    /// The manifest that an image's tag or digest stands for, and the digest that the registry says
    /// it has.
    pub(super) async fn manifest(
        &self,
        image: &Reference,
        accept: &[&str],
        pass: &Pass,
    ) -> Result<(Vec<u8>, Option<String>), Refused> {
        let which = image.digest().or(image.tag()).unwrap_or("latest");
        let url = format!("{}{}/manifests/{which}", self.base, image.repository());
        let request = self.client.get(&url).header(ACCEPT, accept.join(", "));
        let response = with_pass(request, pass).send().await?;
        let response = wanted(response, &[StatusCode::OK]).await?;
        let digest = response.headers().get("docker-content-digest");
        let digest = digest.and_then(|d| d.to_str().ok()).map(str::to_owned);
        Ok((bounded(response, MAX_MANIFEST).await?, digest))
    }

    /// A blob from its byte `from` on, for the caller to read and to bound; from its beginning if
    /// the status says so (200 instead of 206).
    pub(super) async fn blob(
        &self,
        image: &Reference,
        digest: &str,
        from: u64,
        pass: &Pass,
    ) -> Result<Response, Refused> {
        let url = format!("{}{}/blobs/{digest}", self.base, image.repository());
        let mut request = self.client.get(&url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        // A redirection to where the blobs are takes no credentials along: reqwest drops them.
        let response = with_pass(request, pass).send().await?;
        wanted(response, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]).await
    }
}

fn with_pass(request: RequestBuilder, pass: &Pass) -> RequestBuilder {
    match pass {
        Pass::Open => request,
        Pass::Basic(user, password) => request.basic_auth(user, Some(password)),
        Pass::Bearer { token, .. } => match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            // What is no header value gives nobody access.
            Err(_) => request,
        },
    }
}

/// Reads an answer of at most so many bytes.
async fn bounded(mut response: Response, most: usize) -> Result<Vec<u8>, Refused> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if answer.len() + chunk.len() > most {
            return Err(Refused::Wrong(format!(
                "an answer is longer than {} MiB",
                most >> 20
            )));
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// The way in that a registry asks for, a token before a password.
fn challenge(header: &HeaderValue) -> Option<Challenge> {
    let challenges = parse_challenges(header.to_str().ok()?).ok()?;
    let bearer = challenges.iter().find_map(|challenge| {
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let param = |name: &str| {
            let mut params = challenge.params.iter();
            let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Challenge::Bearer {
            realm: param("realm")?.parse().ok()?,
            service: param("service"),
        })
    });
    let basic = || {
        let mut schemes = challenges.iter().map(|challenge| challenge.scheme);
        schemes.find(|scheme| scheme.eq_ignore_ascii_case("basic"))
    };
    bearer.or_else(|| basic().map(|_| Challenge::Basic))
}

/// An answer with one of these statuses, or what the registry says instead.
async fn wanted(response: Response, statuses: &[StatusCode]) -> Result<Response, Refused> {
    let status = response.status();
    if statuses.contains(&status) {
        return Ok(response);
    }
    Err(refusal(status, &bounded(response, MAX_ANSWER).await?))
}

fn refusal(status: StatusCode, answer: &[u8]) -> Refused {
    if status == StatusCode::UNAUTHORIZED {
        return Refused::Credentials;
    }
    match serde_json::from_slice::<Envelope>(answer) {
        Ok(envelope) if status.is_client_error() => Refused::Codes(envelope.errors),
        _ => Refused::Status {
            code: status.as_u16(),
            said: String::from_utf8_lossy(answer).into_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let read = |text: &'static str| challenge(&HeaderValue::from_static(text));
        let Some(Challenge::Bearer { realm, service }) =
            read(r#"Bearer realm="https://a.example/token",service="a b",scope="x:y:pull""#)
        else {
            panic!("no bearer");
        };
        assert_eq!(realm.as_str(), "https://a.example/token");
        assert_eq!(service.as_deref(), Some("a b"));
        assert!(matches!(
            read(r#"Basic realm="x", bearer realm="https://a.example/""#),
            Some(Challenge::Bearer { service: None, .. })
        ));
        assert!(matches!(read(r#"Basic realm="x""#), Some(Challenge::Basic)));
        assert!(read(r#"Bearer realm="no url""#).is_none());
        assert!(read("Negotiate").is_none());
    }
}
