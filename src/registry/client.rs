//! The client of one registry.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use secrecy::SecretString;
use url::Url;

use super::{EgressPolicy, RegistryError};
use crate::image::{Descriptor, Digest, Manifest, RepositoryName, Tag};

/// How one registry is reached.
pub struct RegistryOptions {
    pub url: Url,
    pub credentials: Credentials,
    /// PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<Vec<u8>>,
    /// Further hosts of this registry (`host` or `host:port`): token realm, blob redirects, upload locations.
    pub trusted_hosts: Vec<String>,
    /// Most requests under way at once.
    pub concurrency: usize,
}

/// Who we are to a registry.
#[derive(Clone)]
pub enum Credentials {
    Anonymous,
    Basic {
        username: String,
        password: SecretString,
    },
    /// An OAuth2 refresh token (`identitytoken` of a docker config).
    IdentityToken(SecretString),
}

/// Tells clients apart: tables about what a registry holds are keyed by it, never by host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

/// The client of one registry; cheap to clone, shared by all that use the same Registry object and credentials.
#[derive(Clone)]
pub struct Client(Arc<()>);

/// A tag or a digest.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    Tag(&'a Tag),
    Digest(&'a Digest),
}

/// What a HEAD on a manifest tells.
pub struct ManifestHead {
    pub digest: Digest,
    pub size: Option<u64>,
}

/// The bytes of a blob on their way; fails at its end if the digest or the size differs.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    Mounted,
    Uploaded,
}

#[allow(unused_variables)]
impl Client {
    pub fn new(options: RegistryOptions, egress: Arc<EgressPolicy>) -> Result<Self, RegistryError> {
        todo!()
    }
    pub fn id(&self) -> ClientId {
        todo!()
    }
    /// `host[:port]`, canonical.
    pub fn host(&self) -> &str {
        todo!()
    }
    /// Whether the registry answers and takes the credentials: `GET /v2/`, with a token where it asks for one.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        todo!()
    }
    /// Every repository (`_catalog`, following `Link`).
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, RegistryError> {
        todo!()
    }
    /// Every tag; `None` when the repository is not there.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, RegistryError> {
        todo!()
    }
    /// Whether a repository is there at a place we may push to (tags/list with n=1, one page).
    pub async fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, RegistryError> {
        todo!()
    }
    /// `None` when it is not there.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        todo!()
    }
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Manifest, RegistryError> {
        todo!()
    }
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        todo!()
    }
    /// Whether the blob is there; when the registry tells a size that differs, `InvalidContent`.
    pub async fn has_blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<bool, RegistryError> {
        todo!()
    }
    pub async fn blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        todo!()
    }
    /// Puts a blob there: POST (with `mount` and `from`) and, unless mounted, PUT of the stream that `open` gives.
    pub async fn upload<F, Fut>(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        mount_from: Option<&RepositoryName>,
        open: F,
    ) -> Result<UploadOutcome, RegistryError>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
    {
        todo!()
    }
}
