//! Parses a docker configuration document and finds the entry for an image, as the kubelet does.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

use crate::image::RepositoryName;
use crate::registry::auth::credentials::Credentials;
use crate::registry::http::hosts::is_docker_hub;

/// The credentials in a `.dockerconfigjson` or `.dockercfg` document.
#[derive(Debug)]
pub struct DockerConfig {
    entries: Vec<ConfigEntry>,
    has_helpers: bool,
}

impl DockerConfig {
    /// The maximum size of a document in bytes, as Kubernetes bounds a Secret.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Parses either form: with the entries under `auths`, or on the top level (`.dockercfg`).
    ///
    /// Entries without credentials are left out; credential helpers are never run.
    ///
    /// # Errors
    /// [`DockerConfigError`], which quotes nothing of the document.
    pub fn parse(document: &[u8]) -> Result<Self, DockerConfigError> {
        if document.len() > Self::MAX_BYTES {
            return Err(DockerConfigError::TooLarge);
        }
        let invalid = |_| DockerConfigError::Malformed;
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_slice(document).map_err(invalid)?;
        let is_set = |name| fields.get(name).is_some_and(|value| !matches!(value, serde_json::Value::Null));
        let has_helpers = is_set("credsStore") || is_set("credHelpers");
        let is_modern = ["auths", "credsStore", "credHelpers"].iter().any(|name| fields.contains_key(*name));
        let logins: BTreeMap<String, serde_json::Value> = match fields.get("auths") {
            Some(auths) => Option::deserialize(auths).map_err(invalid)?.unwrap_or_default(),
            None if is_modern => BTreeMap::new(),
            None => fields,
        };
        let mut entries = Vec::new();
        for (key, login) in logins {
            // Other fields of the top level are no entries.
            let Ok(login) = AuthFields::deserialize(&login) else {
                if is_modern {
                    return Err(DockerConfigError::Malformed);
                }
                continue;
            };
            let (pattern, credentials) = (HostPattern::parse(&key), login.credentials()?);
            entries.extend(pattern.zip(credentials).map(|(pattern, credentials)| ConfigEntry { pattern, credentials }));
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.rank()));
        Ok(Self { entries, has_helpers })
    }

    /// Returns the credentials for `host` (`host[:port]`) and `repository`: those of the longest entry that matches.
    ///
    /// Entries match as in the kubelet: scheme, `/v1/` and `/v2/` are ignored, `*` stands for (part of) one label of
    /// the host, ports are equal, a path is the front part of the repository up to a slash. All names of Docker Hub are
    /// one.
    pub fn credentials_for(&self, host: &str, repository: Option<&RepositoryName>) -> Option<Credentials> {
        let wanted = HostPattern::parse(host)?;
        let path = repository.map_or("", RepositoryName::as_str);
        self.entries.iter().find(|entry| entry.pattern.covers(&wanted, path)).map(|entry| entry.credentials.clone())
    }

    /// Returns true if the document names credential helpers, which are ignored.
    pub fn has_helpers(&self) -> bool {
        self.has_helpers
    }
}

/// A document that is no docker configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// The document is over [`DockerConfig::MAX_BYTES`].
    #[error("the docker configuration is over 1 MiB")]
    TooLarge,
    /// Not JSON of that form.
    #[error("the docker configuration is not a JSON object of logins")]
    Malformed,
    /// An `auth` field that is not the base64 form of `user:password`.
    #[error("an auth field of the docker configuration is not base64 of user:password")]
    Auth,
}

#[derive(Debug)]
struct ConfigEntry {
    pattern: HostPattern,
    credentials: Credentials,
}

/// A key of the document: a host, possibly with wildcards, and the front part of a path.
#[derive(Debug, PartialEq, Eq)]
struct HostPattern {
    host: String,
    port: Option<String>,
    path: String,
}

impl HostPattern {
    fn parse(key: &str) -> Option<Self> {
        let key = key.trim();
        let (scheme, rest) = key.split_once("://").unwrap_or(("", key));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path = match path.split_once('/').unwrap_or((path, "")) {
            ("v1" | "v2", below) => below,
            _ => path,
        };
        let authority = authority.to_ascii_lowercase();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority.as_str(), None),
        };
        let default = if scheme.eq_ignore_ascii_case("http") { "80" } else { "443" };
        let port = port.filter(|port| *port != default).map(str::to_owned);
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if port.is_none() && is_docker_hub(host) { "docker.io" } else { host }.to_owned();
        (!host.is_empty()).then(|| Self { host, port, path: path.to_owned() })
    }

    /// Returns true if this pattern matches the host of `wanted` and `repository`.
    fn covers(&self, wanted: &Self, repository: &str) -> bool {
        let is_below = match repository.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        is_below && self.port == wanted.port && is_host_like(&self.host, &wanted.host)
    }

    /// Returns the precedence: longer paths come first, then hosts without a wildcard, then longer hosts.
    fn rank(&self) -> (usize, bool, usize) {
        (self.path.len(), !self.host.contains('*'), self.host.len())
    }
}

/// Returns true if `host` matches `pattern`, label by label.
pub(crate) fn is_host_like(pattern: &str, host: &str) -> bool {
    let (patterns, labels) = (pattern.split('.'), host.split('.'));
    patterns.clone().count() == labels.clone().count()
        && patterns.zip(labels).all(|(pattern, label)| is_label_like(pattern, label))
}

fn is_label_like(pattern: &str, label: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else {
        return pattern == label;
    };
    let Some(mut left) = label.strip_prefix(front) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFields {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFields {
    /// Returns an identity token before `auth`, that before `username` and `password`; `None` if all are absent.
    fn credentials(self) -> Result<Option<Credentials>, DockerConfigError> {
        let is_set = |secret: &String| !secret.is_empty();
        if let Some(token) = self.identitytoken.filter(is_set) {
            return Ok(Some(Credentials::IdentityToken(token.into())));
        }
        if let Some(auth) = self.auth.filter(is_set) {
            let decoded = STANDARD.decode(auth.trim()).map_err(|_| DockerConfigError::Auth)?;
            let decoded = String::from_utf8(decoded).map_err(|_| DockerConfigError::Auth)?;
            let (username, password) = decoded.split_once(':').ok_or(DockerConfigError::Auth)?;
            // The docker client pads passwords with zero bytes.
            let password = SecretString::from(password.trim_end_matches('\0'));
            return Ok(Some(Credentials::Basic { username: username.to_owned(), password }));
        }
        match (self.username.filter(is_set), self.password) {
            (Some(username), Some(password)) => Ok(Some(Credentials::Basic { username, password: password.into() })),
            _ => Ok(None),
        }
    }
}

/// Base64 with or without padding.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
