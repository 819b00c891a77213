//! Parses a docker configuration document and finds the entry for an image, as the kubelet does.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::logins::{Logins, PathLogin};
use crate::registry::http::hosts::is_docker_hub;
use crate::registry::http::text::clean;

/// The credentials in a `.dockerconfigjson` or `.dockercfg` document.
#[derive(Debug, Default)]
pub struct DockerConfig {
    entries: Vec<ConfigEntry>,
    /// The credential helpers that hosts are said to have.
    helpers: Vec<(HostPattern, String)>,
    /// The helper of all hosts.
    store: Option<String>,
}

impl DockerConfig {
    /// The maximum size of a document in bytes, as Kubernetes bounds a Secret.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Parses either form: with the entries under `auths`, or on the top level (`.dockercfg`).
    ///
    /// Entries without credentials are left out; credential helpers are never run. An entry that cannot be read is
    /// kept as such, and spoils no other.
    ///
    /// # Errors
    /// [`DockerConfigError`], which quotes nothing of the document.
    pub fn parse(document: &[u8]) -> Result<Self, DockerConfigError> {
        if document.len() > Self::MAX_BYTES {
            return Err(DockerConfigError::TooLarge);
        }
        let invalid = |_| DockerConfigError::Malformed;
        let fields: BTreeMap<String, Value> = serde_json::from_slice(document).map_err(invalid)?;
        let is_modern = ["auths", "credsStore", "credHelpers"].iter().any(|name| fields.contains_key(*name));
        let store = fields.get("credsStore").and_then(Value::as_str).and_then(helper_name);
        let helpers = fields.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let helpers = helpers.filter_map(|(key, name)| Some((HostPattern::parse(key)?, helper_name(name.as_str()?)?)));
        let helpers = helpers.collect();
        let logins: BTreeMap<String, Value> = match fields.get("auths") {
            Some(auths) => Option::deserialize(auths).map_err(invalid)?.unwrap_or_default(),
            None if is_modern => BTreeMap::new(),
            None => fields,
        };
        let mut entries = Vec::new();
        for (key, login) in logins {
            let login = match login.is_object() {
                true => AuthFields::deserialize(&login).map_err(|_| EntryFault::Form),
                false => Err(EntryFault::Form),
            };
            // Other fields of the top level are no entries.
            if login.is_err() && !is_modern {
                continue;
            }
            let login = login.and_then(AuthFields::credentials).transpose();
            let entry = HostPattern::parse(&key).zip(login);
            entries.extend(entry.map(|(pattern, login)| ConfigEntry { pattern, login }));
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.rank()));
        Ok(Self { entries, helpers, store })
    }

    /// Returns all logins for `host` (`host[:port]`), which may be none. Logins that exist and cannot be used are
    /// named.
    ///
    /// Entries match as in the kubelet: scheme, `/v1/` and `/v2/` are ignored, `*` stands for (part of) one label of
    /// the host, ports are equal, a path is the front part of the repository up to a slash. All names of Docker Hub are
    /// one.
    pub fn logins_for(&self, host: &str) -> Logins {
        let Some(wanted) = HostPattern::parse(host) else { return Logins::default() };
        let (mut logins, mut unused) = (Vec::new(), Vec::new());
        for ConfigEntry { pattern, login } in self.entries.iter().filter(|entry| entry.pattern.is_of_host(&wanted)) {
            match login {
                Ok(credentials) => {
                    logins.push(PathLogin { path: pattern.path.clone(), credentials: credentials.clone() });
                }
                Err(fault) => unused.push(format!("its entry {} cannot be read ({fault})", pattern.shown())),
            }
        }
        match self.helpers.iter().find(|(pattern, _)| pattern.is_of_host(&wanted)) {
            Some((_, name)) => unused.push(format!("it names the credential helper {name}, and helpers are not run")),
            None if logins.is_empty() => {
                let store = |name| format!("it keeps logins in the credential store {name}, and helpers are not run");
                unused.extend(self.store.as_ref().map(store));
                unused.extend(self.similar(&wanted));
            }
            None => {}
        }
        let unused = (!unused.is_empty()).then(|| format!("of the docker configuration, {}", unused.join("; ")));
        Logins::new(logins, unused)
    }

    /// Returns a clause about a login for the host that is `wanted`, at another port.
    fn similar(&self, wanted: &HostPattern) -> Option<String> {
        let similar = self.entries.iter().find(|entry| is_host_like(&entry.pattern.host, &wanted.host))?;
        Some(format!("its entry {} is for another port", similar.pattern.shown()))
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
}

/// The fault of one entry; quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum EntryFault {
    #[error("auth is not base64 of user:password")]
    Auth,
    #[error("it is not an object of strings")]
    Form,
}

#[derive(Debug)]
struct ConfigEntry {
    pattern: HostPattern,
    login: Result<Credentials, EntryFault>,
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
        // Without a port an entry is for https: plain http names its own.
        let is_plain = scheme.eq_ignore_ascii_case("http");
        let port = if is_plain { Some(port.unwrap_or("80")) } else { port.filter(|port| *port != "443") };
        let port = port.map(str::to_owned);
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if port.is_none() && is_docker_hub(host) { "docker.io" } else { host }.to_owned();
        (!host.is_empty()).then(|| Self { host, port, path: path.to_owned() })
    }

    /// Returns true if this pattern matches host and port of `wanted`.
    fn is_of_host(&self, wanted: &Self) -> bool {
        self.port == wanted.port && is_host_like(&self.host, &wanted.host)
    }

    /// Returns the pattern as a message repeats it.
    fn shown(&self) -> String {
        let port = self.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
        let path = if self.path.is_empty() { "" } else { "/" };
        clean(&format!("{}{port}{path}{}", self.host, self.path))
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
    fn credentials(self) -> Result<Option<Credentials>, EntryFault> {
        let is_set = |secret: &String| !secret.is_empty();
        if let Some(token) = self.identitytoken.filter(is_set) {
            return Ok(Some(Credentials::IdentityToken(token.into())));
        }
        if let Some(auth) = self.auth.filter(is_set) {
            let decoded = STANDARD.decode(auth.trim()).map_err(|_| EntryFault::Auth)?;
            let decoded = String::from_utf8(decoded).map_err(|_| EntryFault::Auth)?;
            let (username, password) = decoded.split_once(':').ok_or(EntryFault::Auth)?;
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

/// Returns the name of a credential helper, if it can be one.
fn helper_name(text: &str) -> Option<String> {
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    is_name.then(|| text.chars().take(64).collect())
}

/// Base64 with or without padding.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
