//! What worker and operator say to each other. Every message states levels, not changes: one that is lost or repeated does no harm.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{ImageRequest, Replica};
use crate::registry::{Credentials, RegistryOptions};
use crate::terms::FailureCode;

/// Names one copy: the same configuration, destination, tag and digest have the same name, also after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub String);

/// One image to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its name.
    pub id: ItemId,
    /// The image.
    #[serde(flatten)]
    pub image: ImageRequest,
}

/// What a worker tells, once a second and whenever an image has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Chosen by the process at its start: a second process with the same token is refused.
    pub session: String,
    /// Grows by one with each report; one that comes late is ignored.
    pub sequence: u64,
    /// How many images it copies at once.
    pub slots: usize,
    /// Every image that it has and that has not ended.
    pub held: Vec<Held>,
    /// Every image that ended and that no answer has acknowledged yet.
    pub ended: Vec<Ended>,
    /// Which version of the registries' access it has.
    pub access_version: Option<String>,
}

/// An image that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Which.
    pub id: ItemId,
    /// Its repository.
    pub repository: RepositoryName,
    /// Its tag: a newer image for it takes its place at once, also where nobody knows this one any more.
    pub tag: Tag,
    /// Bytes of blobs that were read for it so far.
    pub bytes: u64,
}

/// An image that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Which.
    pub id: ItemId,
    /// What is at the destination now, or why it failed.
    pub result: Result<Replica, EndedBadly>,
    /// Bytes of blobs that were read for it.
    pub moved: u64,
}

/// Why an image failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedBadly {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// How long a registry asked to wait, in seconds.
    pub retry_after: Option<u64>,
    /// The registry to look at: `true` the source's, `false` the destination's.
    pub suspect_source: Option<bool>,
}

/// What the operator answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The report that this answers: what it told need not be told again.
    pub sequence: u64,
    /// For how many milliseconds after the report was sent the worker may mutate for the images of `keep` and `items`.
    pub authority_ms: u64,
    /// Images to copy from now on.
    pub items: Vec<Item>,
    /// Images that it has and goes on with.
    pub keep: Vec<ItemId>,
    /// Images that it has and drops.
    pub cancel: Vec<ItemId>,
    /// Access to both registries, where it is new to the worker.
    pub access: Option<RouteAccess>,
    /// There is nothing more to do.
    pub end: bool,
}

/// Access to both ends. Lives in memory only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAccess {
    /// Tells one version from another.
    pub version: String,
    /// The source.
    pub source: RegistryAccess,
    /// The destination.
    pub destination: RegistryAccess,
}

/// Access to one registry.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryAccess {
    /// Its URL.
    pub url: String,
    /// Who we are.
    pub login: RegistryLogin,
    /// PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<String>,
    /// Further hosts of this registry.
    pub trusted_hosts: Vec<String>,
    /// Most requests of a kind at once.
    pub concurrency: usize,
}

/// Who we are to a registry.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistryLogin {
    /// Nobody in particular.
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

impl From<&RegistryOptions> for RegistryAccess {
    fn from(options: &RegistryOptions) -> Self {
        let login = match &options.credentials {
            Credentials::Anonymous => RegistryLogin::Anonymous,
            Credentials::Basic { username, password } => {
                RegistryLogin::Basic { username: username.clone(), password: password.expose_secret().to_owned() }
            }
            Credentials::IdentityToken(token) => RegistryLogin::IdentityToken(token.expose_secret().to_owned()),
            Credentials::TemporaryKey { id, secret, session_token } => RegistryLogin::TemporaryKey {
                id: id.clone(),
                secret: secret.expose_secret().to_owned(),
                session_token: session_token.expose_secret().to_owned(),
            },
        };
        Self {
            url: options.url.to_string(),
            login,
            ca_bundle: options.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(bundle).into_owned()),
            trusted_hosts: options.trusted_hosts.clone(),
            concurrency: options.concurrency,
        }
    }
}

impl TryFrom<RegistryAccess> for RegistryOptions {
    type Error = String;

    fn try_from(access: RegistryAccess) -> Result<Self, String> {
        let credentials = match access.login {
            RegistryLogin::Anonymous => Credentials::Anonymous,
            RegistryLogin::Basic { username, password } => {
                Credentials::Basic { username, password: SecretString::from(password) }
            }
            RegistryLogin::IdentityToken(token) => Credentials::IdentityToken(SecretString::from(token)),
            RegistryLogin::TemporaryKey { id, secret, session_token } => Credentials::TemporaryKey {
                id,
                secret: SecretString::from(secret),
                session_token: SecretString::from(session_token),
            },
        };
        Ok(Self {
            url: access.url.parse().map_err(|error| format!("the URL of a registry cannot be read: {error}"))?,
            credentials,
            ca_bundle: access.ca_bundle.map(String::into_bytes),
            trusted_hosts: access.trusted_hosts,
            concurrency: access.concurrency,
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
pub struct GrantRequest {
    /// The process that asks.
    pub session: String,
    /// For which image.
    pub id: ItemId,
    /// What for.
    pub effect: GrantedEffect,
}

/// What needs a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrantedEffect {
    /// The destination repository comes into being.
    CreateRepository,
    /// A tag is pointed at a manifest.
    WriteTag {
        /// The tag: that of the image, or one that stands for what refers to it.
        tag: Tag,
        /// What it will point at.
        digest: Digest,
        /// The other image that it points at now.
        replaces: Option<Digest>,
    },
}

/// The answer to a [`GrantRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrantAnswer {
    /// Allowed for so many milliseconds after the request was sent.
    Granted {
        /// How long.
        for_ms: u64,
    },
    /// Somebody else may still be writing: ask again.
    Wait,
    /// Not allowed.
    Refused {
        /// The authority's word.
        reason: String,
        /// A sentence.
        message: String,
    },
}
