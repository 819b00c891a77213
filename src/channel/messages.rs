//! The messages between worker and operator.
//!
//! Every message states levels, not changes: one that is lost or repeated does no harm.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{ImageRequest, Replica};
use crate::registry::{Credentials, Logins, PathLogin, QuotaStatement, RefusedSet, RegistryOptions, RequestLimits};
use crate::terms::{FailureCode, RepositoryTemplate, Side};

/// The name of one copy: the same configuration, destination, tag and digest have the same name, also after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ItemId(pub String);

/// One image to copy, as the operator hands it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// The name of the copy.
    pub id: ItemId,
    /// The image, its tag and its options.
    #[serde(flatten)]
    pub image: ImageRequest,
}

/// The state of a worker, sent once a second and whenever an image has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Chosen by the process at its start: a second process with the same token is refused.
    pub session: String,
    /// Grows by one with each report; a report that comes late is ignored.
    pub sequence: u64,
    /// The images that it copies at once.
    pub slots: usize,
    /// Every image that it has and that has not ended.
    pub held: Vec<HeldItem>,
    /// Every image that ended and that no answer has acknowledged yet.
    pub ended: Vec<EndedItem>,
    /// The version of the registries' access that it has.
    pub access_version: Option<String>,
    /// The quotas that the registries stated to it.
    #[serde(default)]
    pub quotas: RouteQuotas,
}

/// The quotas that the registries of a lane stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteQuotas {
    /// That of the source.
    pub source: Option<QuotaStatement>,
    /// That of the destination.
    pub destination: Option<QuotaStatement>,
}

/// The part of a process of the limits of both registries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteLimits {
    /// That of the source.
    pub source: RequestLimits,
    /// That of the destination.
    pub destination: RequestLimits,
}

/// An image that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeldItem {
    /// The name of the copy.
    pub id: ItemId,
    /// The repository at the destination.
    pub repository: RepositoryName,
    /// The tag: a newer image for it takes its place at once, also where the operator does not know this copy any more.
    pub tag: Tag,
    /// The bytes of blobs that were read for it so far.
    pub bytes: u64,
}

/// An image that a worker has copied, or failed to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndedItem {
    /// The name of the copy.
    pub id: ItemId,
    /// The image at the destination, or the cause of the failure.
    pub result: Result<Replica, ItemError>,
    /// The bytes of blobs that were read for it.
    pub moved: u64,
}

/// The failure of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemError {
    /// The cause, as statuses show it.
    pub code: FailureCode,
    /// One sentence for people.
    pub message: String,
    /// The wait that a registry asked for, in seconds.
    pub retry_after: Option<u64>,
    /// The side whose Registry may be wrong.
    pub suspect: Option<Side>,
}

/// The orders of the operator, as the answer to a [`Report`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportAnswer {
    /// The sequence number of the report: the ended images in it need not be reported again.
    pub sequence: u64,
    /// The milliseconds after the report was sent in which the worker may mutate for the images of `keep` and `items`.
    pub authority_ms: u64,
    /// Images to copy from now on.
    pub items: Vec<Item>,
    /// Images that it has and goes on with.
    pub keep: Vec<ItemId>,
    /// Images that it has and drops.
    pub cancel: Vec<ItemId>,
    /// Access to both registries, where it is new to the worker.
    pub access: Option<RouteAccess>,
    /// Its part of the limits of both registries at present.
    #[serde(default)]
    pub limits: Option<RouteLimits>,
    /// True if the worker ends, as there is nothing more to do.
    pub end: bool,
}

/// Access to both ends. Lives in memory only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteAccess {
    /// Differs for every change of either access.
    pub version: String,
    /// Access to the registry that images are read from.
    pub source: RegistryAccess,
    /// Access to the registry that they are written to.
    pub destination: RegistryAccess,
    /// The addresses of the cluster that the worker may never reach.
    #[serde(default)]
    pub refused: RefusedSet,
}

/// The options of one registry's client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryAccess {
    /// The URL of the registry.
    pub url: String,
    /// The credentials, by the path of the repositories that they are for.
    pub logins: Vec<(String, RegistryLogin)>,
    /// A clause about logins that exist and cannot be used.
    pub unused_logins: Option<String>,
    /// PEM certificates to trust besides the system's.
    pub ca_bundle: Option<String>,
    /// Further hosts of this registry.
    pub trusted_hosts: Vec<String>,
    /// The settings of repositories that are created there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repository_templates: Vec<RepositoryTemplate>,
    /// Most requests of a kind at once; [`RouteLimits`] has this worker's part of it and of the rates.
    pub concurrency: usize,
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistryLogin {
    /// No credentials.
    Anonymous,
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
    /// A temporary access key of AWS.
    #[serde(rename_all = "camelCase")]
    TemporaryKey {
        /// Its id.
        id: String,
        /// Its secret access key.
        secret: String,
        /// Its session token.
        session_token: String,
    },
}

/// Access to a registry that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the URL of a registry cannot be read: {0}")]
pub struct AccessError(url::ParseError);

impl From<&Credentials> for RegistryLogin {
    fn from(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Anonymous => Self::Anonymous,
            Credentials::Basic { username, password } => {
                Self::Basic { username: username.clone(), password: password.expose_secret().to_owned() }
            }
            Credentials::IdentityToken(token) => Self::IdentityToken(token.expose_secret().to_owned()),
            Credentials::TemporaryKey { id, secret, session_token } => Self::TemporaryKey {
                id: id.clone(),
                secret: secret.expose_secret().to_owned(),
                session_token: session_token.expose_secret().to_owned(),
            },
        }
    }
}

impl From<RegistryLogin> for Credentials {
    fn from(login: RegistryLogin) -> Self {
        match login {
            RegistryLogin::Anonymous => Self::Anonymous,
            RegistryLogin::Basic { username, password } => {
                Self::Basic { username, password: SecretString::from(password) }
            }
            RegistryLogin::IdentityToken(token) => Self::IdentityToken(SecretString::from(token)),
            RegistryLogin::TemporaryKey { id, secret, session_token } => Self::TemporaryKey {
                id,
                secret: SecretString::from(secret),
                session_token: SecretString::from(session_token),
            },
        }
    }
}

impl From<&RegistryOptions> for RegistryAccess {
    fn from(options: &RegistryOptions) -> Self {
        let logins = options.logins.entries().iter().map(|entry| (entry.path.clone(), (&entry.credentials).into()));
        Self {
            url: options.url.to_string(),
            logins: logins.collect(),
            unused_logins: options.logins.unused().map(str::to_owned),
            ca_bundle: options.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(bundle).into_owned()),
            trusted_hosts: options.trusted_hosts.clone(),
            repository_templates: options.templates.clone(),
            concurrency: options.limits.concurrency,
        }
    }
}

impl TryFrom<RegistryAccess> for RegistryOptions {
    type Error = AccessError;

    fn try_from(access: RegistryAccess) -> Result<Self, AccessError> {
        let logins = access.logins.into_iter().map(|(path, login)| PathLogin { path, credentials: login.into() });
        Ok(Self {
            url: access.url.parse().map_err(AccessError)?,
            logins: Logins::new(logins.collect(), access.unused_logins),
            ca_bundle: access.ca_bundle.map(String::into_bytes),
            trusted_hosts: access.trusted_hosts,
            limits: RequestLimits::of_concurrency(access.concurrency),
            templates: access.repository_templates,
        })
    }
}

impl std::fmt::Debug for RouteAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteAccess").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Asks for a commit grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrantRequest {
    /// The session of the process that asks.
    pub session: String,
    /// The copy that the grant is for.
    pub id: ItemId,
    /// The change that it allows.
    #[serde(rename = "effect")]
    pub mutation: GrantedMutation,
}

/// A change at the destination that needs a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum GrantedMutation {
    /// The destination repository comes into being.
    CreateRepository,
    /// A tag is pointed at a manifest.
    WriteTag {
        /// The tag: that of the image, or one that stands for what refers to it.
        tag: Tag,
        /// The digest that it will point at.
        digest: Digest,
        /// The digest of the other image that it points at now.
        replaces: Option<Digest>,
    },
}

/// The answer to a [`GrantRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum GrantAnswer {
    /// The change is allowed for a while.
    Granted {
        /// The duration in milliseconds, from the time at which the request was sent.
        for_ms: u64,
    },
    /// Another process may still be writing: ask again.
    Wait,
    /// A policy, a claim or the Registry forbids the change.
    #[serde(rename = "refused")]
    Denied {
        /// The authority's word for the cause.
        reason: String,
        /// One sentence for people.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gets_each_login_of_a_registry_with_its_path() {
        let basic = |username: &str| Credentials::Basic { username: username.to_owned(), password: "p".into() };
        let credentials = [
            ("team/app", basic("app")),
            ("team", Credentials::IdentityToken("t".into())),
            ("a", Credentials::TemporaryKey { id: "i".to_owned(), secret: "s".into(), session_token: "t".into() }),
            ("", Credentials::Anonymous),
        ];
        let entries = credentials.map(|(path, credentials)| PathLogin { path: path.to_owned(), credentials });
        let options = RegistryOptions {
            url: "https://r.example".parse().unwrap(),
            logins: Logins::new(entries.into(), Some("a helper is not run".to_owned())),
            ca_bundle: Some(b"pem".to_vec()),
            trusted_hosts: vec!["[::1]:5000".to_owned()],
            limits: RequestLimits::of_concurrency(4),
            templates: vec![serde_json::from_str(r#"{"prefix":"prod","scanOnPush":true}"#).unwrap()],
        };
        let sent = serde_json::to_string(&RegistryAccess::from(&options)).unwrap();
        let access: RegistryAccess = serde_json::from_str(&sent).unwrap();
        let received = RegistryOptions::try_from(access).unwrap();
        assert_eq!(received.logins.fingerprint(), options.logins.fingerprint());
        assert_eq!(received.logins.unused(), Some("a helper is not run"));
        assert_eq!((received.url, received.ca_bundle), (options.url, options.ca_bundle));
        assert_eq!((received.trusted_hosts, received.templates), (options.trusted_hosts, options.templates));
    }
}
