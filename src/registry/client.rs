//! The client of one registry.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::Method;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use url::Url;

use crate::image::{Digest, Tag};
use crate::registry::auth::Auth;
use crate::registry::auth::token::Scopes;
use crate::registry::error::{ErrorKind, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::egress::EgressPolicy;
use crate::registry::http::hosts::{Hosts, canonical_host};
use crate::registry::http::limiter::Limiter;
use crate::registry::http::retry::Pause;
use crate::registry::http::transport::Transport;
use crate::registry::lists::referrers::ApiSupport;
use crate::registry::session::{Inner, RegistryRequest};
use crate::registry::upload;
use crate::registry::upload::{Ladder, UploadProfile};
use crate::registry::vendors::digest_apis::ApiVerdicts;
use crate::registry::vendors::ecr::{Ecr, EcrApi};

/// How one registry is reached.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `https://host[:port]`, or `http://…` where the owner allows that. Any path is ignored.
    pub url: Url,
    /// Who we are.
    pub credentials: Credentials,
    /// PEM certificates to trust instead of the system's: at most 256 KiB and 100 certificates.
    pub ca_bundle: Option<Vec<u8>>,
    /// Further hosts of this registry: token realm, blob redirects, upload locations. `host` stands for its ports 443
    /// and 80, any other is written as `host:port`.
    pub trusted_hosts: Vec<String>,
    /// Most blobs that are read, and most that are written, at once; as many small requests of each kind besides. At
    /// least 1. While the registry answers 429 or 503, or connections fail, fewer are made.
    pub concurrency: usize,
}

/// Who we are to a registry.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user name and a password or access token.
    Basic {
        /// The name, without a colon.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// An OAuth2 refresh token (`identitytoken` of a docker config).
    IdentityToken(SecretString),
    /// A temporary access key of AWS, for Amazon ECR. One that lasts is taken as `Basic`, with its id as the name.
    TemporaryKey {
        /// Its id, `ASIA…`.
        id: String,
        /// Its secret access key.
        secret: SecretString,
        /// Its session token.
        session_token: SecretString,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(***)",
            Self::IdentityToken(_) => "IdentityToken(***)",
            Self::TemporaryKey { .. } => "TemporaryKey(***)",
        })
    }
}

/// Tells clients apart: tables about what a registry holds are keyed by it, never by host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

/// The client of one registry; cheap to clone, shared by all that use the same Registry object and credentials.
///
/// It repeats requests that meet transient failures up to 4 times, and waits up to 30 s where the registry asks for
/// it; every error that comes out has been through that.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

/// A tag or a digest.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// Whatever the tag points to at the moment.
    Tag(&'a Tag),
    /// This very content.
    Digest(&'a Digest),
}

impl Reference<'_> {
    /// The text behind `manifests/` in a path.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }

    /// The text behind the name of a repository in a message.
    pub(crate) fn suffix(&self) -> String {
        match self {
            Self::Tag(tag) => format!(":{tag}"),
            Self::Digest(digest) => format!("@{digest}"),
        }
    }
}

/// What a HEAD on a manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest as the registry states it, or computed where it does not.
    pub digest: Digest,
    /// The size in bytes, if told.
    pub size: Option<u64>,
}

/// The bytes of a blob on their way; fails at its end if the digest or the size differs. The last piece comes out
/// only after both were found right.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The registry had it in another repository: no byte was sent.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Client {
    /// A client that has not spoken to its registry yet.
    ///
    /// # Errors
    /// `Configuration` when an option cannot be used.
    pub fn new(options: RegistryOptions, egress: Arc<EgressPolicy>) -> Result<Self, RegistryError> {
        Self::with_deadlines(options, egress, Deadlines::default())
    }

    /// The client of a registry of Amazon ECR that goes by another name, so that its host does not tell its API.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn of_ecr(options: RegistryOptions, egress: Arc<EgressPolicy>, api: EcrApi) -> Result<Self, RegistryError> {
        Self::with_api(options, egress, Deadlines::default(), Some(api))
    }

    pub(crate) fn with_deadlines(
        options: RegistryOptions,
        egress: Arc<EgressPolicy>,
        deadlines: Deadlines,
    ) -> Result<Self, RegistryError> {
        let ecr = EcrApi::of_host(&canonical_host(&options.url));
        Self::with_api(options, egress, deadlines, ecr)
    }

    fn with_api(
        options: RegistryOptions,
        egress: Arc<EgressPolicy>,
        deadlines: Deadlines,
        ecr: Option<EcrApi>,
    ) -> Result<Self, RegistryError> {
        let concurrency = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let ca_bundle = options.ca_bundle.as_deref();
        let site = Hosts::new(&options.url, &options.trusted_hosts)?;
        let ladder = Ladder::new(UploadProfile::of(site.host()));
        Ok(Self(Arc::new(Inner {
            id: ClientId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            site,
            transport: Transport::new(egress, ca_bundle, concurrency, &deadlines)?,
            ecr: ecr.and_then(|api| Ecr::new(api, &options.credentials)),
            auth: Auth::new(options.credentials),
            deadlines,
            pause: Pause::default(),
            token_pause: Pause::default(),
            referrers_api: ApiSupport::default(),
            reads: Limiter::new(concurrency),
            writes: Limiter::new(concurrency),
            chunk_memory: Semaphore::new(upload::chunk_memory(concurrency)),
            ladder,
            digest_apis: ApiVerdicts::default(),
        })))
    }

    /// Different for each client that was ever made in this process.
    pub fn id(&self) -> ClientId {
        self.0.id
    }

    /// `host[:port]`, canonical.
    pub fn host(&self) -> &str {
        self.0.site.host()
    }

    /// Whether the registry answers and takes the credentials: `GET /v2/`, with a token where it asks for one.
    ///
    /// A token service may refuse an anonymous client before it names a repository; that is no failure here.
    ///
    /// # Errors
    /// `NotFound` when there is something else than a registry at that host.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let inner = &self.0;
        let task = inner.task("asking for the API", "");
        let _permit = inner.read_permit().await;
        let request = RegistryRequest::new(Method::GET, inner.site.root(), Scopes::default(), &task);
        match inner.call(&request).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(answer.refusal(&inner.deadlines).await.error(&task)),
            Err(error)
                if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied)
                    && matches!(inner.auth.credentials, Credentials::Anonymous)
                    && inner.auth.is_bearer() =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
impl ClientId {
    /// The id of a client that there is none of.
    pub fn of_test(number: u64) -> Self {
        Self(u64::MAX - number)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.0.id).field("host", &self.host()).finish_non_exhaustive()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
