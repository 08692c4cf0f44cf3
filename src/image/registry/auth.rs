//! Credentials for a registry, from where docker(1), podman(1) and skopeo(1) keep them.
//!
//! The file is `config.json` of the user who ran sudo, for it is that user who logged in. Helpers
//! (`credHelpers`, `credsStore`) run as that user as well: they ask keyrings and agents that root
//! has no way to, and root should not run what a user's file names.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use nix::unistd::{Uid, User};
use serde::Deserialize;

/// What somebody has for a registry.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Credentials {
    Anonymous,
    /// A user and a password or access token.
    Basic(String, String),
    /// An identity token, which a token server gives access tokens for.
    Identity(String),
}

/// Credentials, and where they were found.
#[derive(Clone)]
pub(super) struct Found {
    pub auth: Credentials,
    /// The configuration file, if it has something for this registry.
    pub file: Option<PathBuf>,
}

impl Found {
    fn nothing() -> Self {
        Self {
            auth: Credentials::Anonymous,
            file: None,
        }
    }
}

/// What `config.json` says about helpers; the rest of it is docker_credential's to read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Helpers {
    creds_store: Option<String>,
    cred_helpers: std::collections::HashMap<String, String>,
}

/// A helper's answer (docker-credential-helpers' protocol).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The person whose credentials count.
#[derive(Debug, Clone)]
struct Person {
    home: PathBuf,
    /// Whom to become for a helper, where that is not who we are.
    become_user: Option<User>,
}

impl Person {
    /// Who ran sudo (sudo(8): `SUDO_UID`), else who we are.
    fn find() -> Option<Self> {
        let sudo = std::env::var("SUDO_UID").ok();
        let sudo = sudo
            .filter(|_| nix::unistd::geteuid().is_root())
            .and_then(|uid| uid.parse().ok())
            .and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok()?);
        match sudo {
            Some(user) => Some(Self {
                home: user.dir.clone(),
                become_user: Some(user).filter(|u| !u.uid.is_root()),
            }),
            None => Some(Self {
                home: std::env::var_os("HOME")?.into(),
                become_user: None,
            }),
        }
    }
}

/// The key under which `docker login` stores a registry's credentials.
fn server(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

/// Credentials for a registry, as in an image's name; anonymous if nobody has logged in.
///
/// # Errors
/// In words: a file that is there but cannot be read, a helper that fails.
pub(super) fn find(registry: &str) -> Result<Found, String> {
    let Some(person) = Person::find() else {
        return Ok(Found::nothing());
    };
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let file = folder
        .unwrap_or_else(|| person.home.join(".docker"))
        .join("config.json");
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::nothing()),
        Err(e) => return Err(format!("cannot read {}: {e}", file.display())),
    };
    let auth = in_file(&text, server(registry), |helper| {
        run_helper(helper, server(registry), &person)
    })
    .map_err(|why| format!("{}: {why}", file.display()))?;
    Ok(auth.map_or_else(Found::nothing, |auth| Found {
        auth,
        file: Some(file),
    }))
}

fn in_file(
    text: &[u8],
    server: &str,
    ask: impl Fn(&str) -> Result<Option<Answer>, String>,
) -> Result<Option<Credentials>, String> {
    let helpers: Helpers =
        serde_json::from_slice(text).map_err(|e| format!("it is not what docker writes ({e})"))?;
    // A helper for this registry goes before what the file holds, and the general one after it.
    if let Some(helper) = helpers.cred_helpers.get(server).filter(|h| !h.is_empty()) {
        return Ok(ask(helper)?.map(auth));
    }
    // docker_credential would run the helper of `credsStore` itself, as root.
    let mut without: serde_json::Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if let Some(map) = without.as_object_mut() {
        map.remove("credsStore");
        map.remove("credHelpers");
    }
    let without = without.to_string();
    match docker_credential::get_credential_from_reader(without.as_bytes(), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) if !user.is_empty() => {
            return Ok(Some(Credentials::Basic(user, password)));
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            return Ok(Some(Credentials::Identity(token)));
        }
        Ok(DockerCredential::UsernamePassword(..))
        | Err(
            CredentialRetrievalError::NoCredentialConfigured
            // An empty entry: the secret is the helper's.
            | CredentialRetrievalError::CredentialDecodingError,
        ) => {}
        Err(e) => return Err(e.to_string()),
    }
    match helpers.creds_store.filter(|h| !h.is_empty()) {
        Some(helper) => Ok(ask(&helper)?.map(auth)),
        None => Ok(None),
    }
}

/// A helper says by the user's name that its secret is an identity token.
fn auth(answer: Answer) -> Credentials {
    if answer.username == "<token>" {
        return Credentials::Identity(answer.secret);
    }
    Credentials::Basic(answer.username, answer.secret)
}

/// Asks `docker-credential-<helper> get`. `None`: it knows nothing of this registry.
fn run_helper(helper: &str, server: &str, person: &Person) -> Result<Option<Answer>, String> {
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        return Err(format!("{helper:?} is no name of a credential helper"));
    }
    let mut command = Command::new(&program);
    command
        .arg("get")
        .env("HOME", &person.home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = &person.become_user {
        // setuid(2) by the standard library drops the supplementary groups first.
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("USER", &user.name)
            .env("LOGNAME", &user.name);
        let bus = format!("/run/user/{}", user.uid);
        if Path::new(&bus).is_dir() {
            command.env("XDG_RUNTIME_DIR", bus);
        }
    }
    let failed = |e: std::io::Error| format!("cannot run {program}: {e}");
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why on its output.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map(Some)
            .map_err(|e| format!("{program} answers something else than credentials ({e})"));
    }
    // The message by which helpers say so, and Docker recognises it.
    if said.contains("credentials not found") {
        return Ok(None);
    }
    let said = if said.is_empty() {
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    } else {
        said
    };
    Err(format!("{program} failed ({}): {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(helper: &str) -> Result<Option<Answer>, String> {
        panic!("{helper} was asked");
    }

    fn helper(name: &'static str) -> impl Fn(&str) -> Result<Option<Answer>, String> {
        move |helper| {
            assert_eq!(helper, name);
            Ok(Some(Answer {
                username: "h".into(),
                secret: "s".into(),
            }))
        }
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic(user.into(), password.into())
    }

    #[test]
    fn the_file_then_the_general_helper() {
        // echo -n me:secret | base64
        let file = br#"{"auths":{"r.example:5000":{"auth":"bWU6c2VjcmV0"},"e.example":{}},
                        "credsStore":"pass"}"#;
        let me = in_file(file, "r.example:5000", nobody).unwrap();
        assert_eq!(me, Some(basic("me", "secret")));
        let other = in_file(file, "e.example", helper("pass")).unwrap();
        assert_eq!(other, Some(basic("h", "s")));
    }

    #[test]
    fn a_registrys_own_helper_goes_first() {
        let file = br#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}},
                        "credHelpers":{"r.example":"own"},"credsStore":"pass"}"#;
        assert_eq!(
            in_file(file, "r.example", helper("own")).unwrap(),
            Some(basic("h", "s"))
        );
        assert!(in_file(file, "r.example", |_| Ok(None)).unwrap().is_none());
    }

    #[test]
    fn docker_hub_has_a_key_of_its_own() {
        let file = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0"}}}"#;
        assert_eq!(
            in_file(file, server("docker.io"), nobody).unwrap(),
            Some(basic("me", "secret"))
        );
    }

    #[test]
    fn identity_tokens_of_files_and_helpers() {
        let token = || Some(Credentials::Identity("x".into()));
        // As docker writes it: echo -n me: | base64
        let file = br#"{"auths":{"r.example":{"auth":"bWU6","identitytoken":"x"}}}"#;
        assert_eq!(in_file(file, "r.example", nobody).unwrap(), token());
        let helper = |_: &str| {
            Ok(Some(Answer {
                username: "<token>".into(),
                secret: "x".into(),
            }))
        };
        let file = br#"{"credsStore":"pass"}"#;
        assert_eq!(in_file(file, "r.example", helper).unwrap(), token());
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let said = in_file(b"[", "r.example", nobody).unwrap_err();
        assert!(said.starts_with("it is not what docker writes ("), "{said}");
        assert!(in_file(b"{}", "r.example", nobody).unwrap().is_none());
    }
}
