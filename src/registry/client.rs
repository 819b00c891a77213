//! The client of one registry: puts the layers together, and delegates to them.

mod creation;
mod deletion;
mod limits;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use url::Url;

use crate::image::{Descriptor, Digest, Manifest, RepositoryName, Tag};
use crate::registry::auth::Auth;
use crate::registry::auth::issuer::LoginIssuer;
use crate::registry::auth::logins::Logins;
use crate::registry::content::blobs::{BlobStream, Blobs};
use crate::registry::content::head_verdict::Absence;
use crate::registry::content::manifests::{Lookup, ManifestHead, Manifests, Reference};
use crate::registry::error::RegistryError;
use crate::registry::http::Http;
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::egress::EgressPolicy;
use crate::registry::http::hosts::{Hosts, canonical_host};
use crate::registry::http::pacer::{Pacer, RequestLimits};
use crate::registry::http::transport::Transport;
use crate::registry::lists::catalog::{Catalog, RepositoryList};
use crate::registry::lists::page::Keep;
use crate::registry::lists::referrer_page::Referrer;
use crate::registry::lists::referrers::{FallbackTag, ReferrerList, ReferrerLists};
use crate::registry::lists::tags::{FirstTags, TagLists};
use crate::registry::session::Session;
use crate::registry::upload::{UploadOutcome, Uploads};
use crate::registry::vendors::ecr::{Ecr, EcrApi};
use crate::registry::vendors::profiles::{KNOWN_REALMS, upload_profile};
use crate::registry::vendors::{Listing, Vendors};
use crate::terms::RepositoryTemplate;

/// The options of a registry.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `https://host[:port]`, or `http://…` where the owner allows that. Any path is ignored.
    pub url: Url,
    /// The credentials for this registry and its token service.
    pub logins: Logins,
    /// PEM certificates to trust besides the system's: at most 4 MiB and 2,000 certificates. Those that have expired or
    /// cannot be parsed are skipped.
    pub ca_bundle: Option<Vec<u8>>,
    /// Further hosts of this registry: token realm, blob redirects, upload locations. `host` stands for its ports 443
    /// and 80, any other is written as `host:port`.
    pub trusted_hosts: Vec<String>,
    /// The bounds on its use.
    pub limits: RequestLimits,
    /// The settings of repositories that are created there.
    pub templates: Vec<RepositoryTemplate>,
}

/// The identity of a client: tables about the content of a registry are keyed by it, never by host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

/// The client of one registry; cheap to clone, shared by all users of the same Registry object and credentials.
///
/// It repeats requests that meet transient failures up to 4 times, and waits up to 30 s where the registry asks for
/// it; every error that comes out has been through that.
#[derive(Clone)]
pub struct Client(Arc<Layers>);

struct Layers {
    id: ClientId,
    session: Arc<Session>,
    manifests: Manifests,
    blobs: Blobs,
    tags: TagLists,
    catalog: Catalog,
    referrers: ReferrerLists,
    uploads: Uploads,
    vendors: Vendors,
}

impl Client {
    /// Creates a client, without a request to its registry.
    ///
    /// # Errors
    /// `Configuration` if an option cannot be used.
    pub fn new(options: RegistryOptions, egress: Arc<EgressPolicy>) -> Result<Self, RegistryError> {
        let ecr = EcrApi::of_host(&canonical_host(&options.url));
        Self::build(options, egress, (Deadlines::default(), ecr), None)
    }

    /// Creates the client that takes the place of this one: requests and bytes of both are scheduled together.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn successor(&self, options: RegistryOptions, egress: Arc<EgressPolicy>) -> Result<Self, RegistryError> {
        let ecr = EcrApi::of_host(&canonical_host(&options.url));
        let is_same = canonical_host(&options.url) == self.host();
        let pacer = is_same.then(|| self.0.session.http().pacer().clone());
        Self::build(options, egress, (Deadlines::default(), ecr), pacer)
    }

    /// Creates the client of a registry of Amazon ECR whose host name does not reveal its API, as that of a test
    /// server.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_ecr_api(
        options: RegistryOptions,
        egress: Arc<EgressPolicy>,
        api: EcrApi,
    ) -> Result<Self, RegistryError> {
        Self::build(options, egress, (Deadlines::default(), Some(api)), None)
    }

    fn build(
        options: RegistryOptions,
        egress: Arc<EgressPolicy>,
        (deadlines, ecr): (Deadlines, Option<EcrApi>),
        pacer: Option<Arc<Pacer>>,
    ) -> Result<Self, RegistryError> {
        let RegistryOptions { url, logins, ca_bundle, trusted_hosts, limits, templates } = options;
        let concurrency = limits.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let hosts = Hosts::new(&url, &trusted_hosts, &KNOWN_REALMS)?;
        let profile = upload_profile(hosts.host());
        let transport = Transport::new(egress, ca_bundle.as_deref(), concurrency, &deadlines)?;
        if let Some(skipped) = transport.skipped_certificates() {
            tracing::warn!(host = hosts.host(), skipped, "certificates of a CA bundle cannot be used");
        }
        let http = Arc::new(Http::new(hosts, transport, deadlines, limits, pacer));
        let ecr = ecr.and_then(|api| Ecr::new(http.clone(), api, logins.credentials(None))).map(Arc::new);
        let issuer = ecr.clone().map(|ecr| ecr as Arc<dyn LoginIssuer>);
        let session = Arc::new(Session::new(http.clone(), Auth::new(http, logins, issuer)));
        let (manifests, blobs) = (Manifests::new(session.clone()), Blobs::new(session.clone()));
        let tags = TagLists::new(session.clone());
        Ok(Self(Arc::new(Layers {
            id: ClientId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            catalog: Catalog::new(session.clone()),
            referrers: ReferrerLists::new(session.clone(), manifests.clone()),
            uploads: Uploads::new(session.clone(), blobs.clone(), profile, concurrency),
            vendors: Vendors::new(session.clone(), tags.clone(), ecr, templates),
            session,
            manifests,
            blobs,
            tags,
        })))
    }

    /// Returns the identity, which differs for each client that was ever created in this process.
    pub fn id(&self) -> ClientId {
        self.0.id
    }

    /// Returns the canonical `host[:port]`, without the default port of its scheme.
    pub fn host(&self) -> &str {
        self.0.session.http().hosts().host()
    }

    /// Checks that the registry answers and accepts the credentials: `GET /v2/`, with a token where it asks for one.
    ///
    /// A token service may refuse an anonymous client before it names a repository; that is no failure here.
    ///
    /// # Errors
    /// `NotFound` if there is something else than a registry at that host.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        self.0.session.ping().await
    }

    /// Resolves a tag, or checks a digest; `None` if the manifest does not exist.
    ///
    /// If the registry refuses HEAD or states no digest, the manifest is read and its digest computed. A 404 to HEAD is
    /// confirmed by GET: some registries answer so for a manifest that they have. A tag that may not be read is absent
    /// if the list of tags may be read and lacks it: virtual repositories of Artifactory answer 403 for a tag that does
    /// not exist (RTFACT-13797).
    ///
    /// # Errors
    /// `InvalidContent` if the registry states another digest than the requested one.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        self.look_up(repository, reference, Absence::Confirmed).await
    }

    /// Like [`Client::head_manifest`], for a manifest that may well be absent, as before a copy: once GET has confirmed
    /// a 404 to HEAD, others are believed for an hour.
    ///
    /// # Errors
    /// As [`Client::head_manifest`].
    pub async fn probe_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        self.look_up(repository, reference, Absence::Believed).await
    }

    async fn look_up(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        absence: Absence,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        match (self.0.manifests.head(repository, reference, absence).await?, reference) {
            (Lookup::Found(head), _) => Ok(Some(head)),
            (Lookup::Absent, _) => Ok(None),
            (Lookup::Denied(_), Reference::Tag(tag)) if self.0.tags.lacks(repository, tag).await => Ok(None),
            (Lookup::Denied(denied), _) => Err(denied),
        }
    }

    /// Reads a manifest, and verifies it against the requested digest, or the one that the registry states with a tag.
    ///
    /// Content that was damaged on its way is read again, twice at most, over a new connection.
    ///
    /// # Errors
    /// `NotFound`; `InvalidContent` for another digest or a document that is no manifest; `TooLarge` over 8 MiB.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Manifest, RegistryError> {
        self.0.manifests.read(repository, reference).await
    }

    /// Writes a manifest, byte for byte.
    ///
    /// # Errors
    /// `ContentMissing` if the registry misses content that the manifest names; `ManifestInvalid` if it does not accept
    /// the manifest; `InvalidContent` if it states another digest than the manifest has.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        self.0.manifests.write(repository, reference, manifest).await
    }

    /// Returns true if the blob exists. If HEAD is refused, the first byte is requested.
    ///
    /// # Errors
    /// `InvalidContent` if the registry states another size; anything but success and 404.
    pub async fn has_blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<bool, RegistryError> {
        self.0.blobs.exists(repository, blob, Absence::Believed).await
    }

    /// Like [`Client::has_blob`], for a blob that is to be there: a 404 to HEAD is confirmed by a GET of its first byte.
    ///
    /// # Errors
    /// As [`Client::has_blob`].
    pub async fn confirm_blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<bool, RegistryError> {
        self.0.blobs.exists(repository, blob, Absence::Confirmed).await
    }

    /// Returns those of `blobs` that the registry states to have, by few calls. The others need [`Client::has_blob`]:
    /// they may be absent, or the registry has no such API.
    pub async fn blobs_at_once(&self, repository: &RepositoryName, blobs: &[&Descriptor]) -> HashSet<Digest> {
        self.0.vendors.existing_blobs(repository, blobs).await
    }

    /// Streams the bytes of a blob.
    ///
    /// A connection that breaks is resumed up to 3 times: by a range if the registry serves that, else from the start,
    /// without the bytes that came out before.
    ///
    /// # Errors
    /// At once `NotFound` and other refusals; in the stream `Unavailable`, and `InvalidContent` in place of the last
    /// piece if size or digest differ.
    pub async fn blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        self.0.blobs.read(repository, blob).await
    }

    /// Like [`Client::blob`], after a read gave wrong bytes: over a new connection, and never by a range.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub async fn reread_blob(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        self.0.blobs.reread(repository, blob).await
    }

    /// Uploads a blob: POST (with `mount` and `from`) and, unless mounted, PUT of the stream that `open` returns.
    ///
    /// A registry that does not take that gets the bytes with PATCH, whole or in chunks; the way that it takes is
    /// remembered for an hour. `open` is called again for each attempt. The last byte of the stream is sent only after
    /// the stream has ended without an error, so content that turns out to be wrong never becomes a blob.
    ///
    /// # Errors
    /// Errors of `open` and its stream come out unchanged. Only within an upload in chunks it is opened again, up to
    /// 3 times, and bytes that the registry has are not sent again.
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
        self.0.uploads.upload(repository, blob, mount_from, open).await
    }

    /// Lists every repository (`_catalog`, following `Link`), and counts the names that no repository can have.
    ///
    /// # Errors
    /// `Unsupported` if the registry offers no catalog, or not to these credentials; `Unauthorized` if it refuses the
    /// credentials as such; `TooLarge` over 32 MiB of names.
    pub async fn repositories(&self) -> Result<RepositoryList, RegistryError> {
        self.0.catalog.repositories().await
    }

    /// Lists the tags that `keep` selects, with their digests as far as the registry lists them; `None` if the
    /// repository does not exist. Of the other tags only the number is kept, however many there are.
    ///
    /// # Errors
    /// `TooLarge` over 32 MiB of tags that are kept. Anything that keeps the list from being complete is an error. A 404
    /// that does not come from a registry is one too, and no absent repository.
    pub async fn tags_and_digests(
        &self,
        repository: &RepositoryName,
        keep: Keep<'_, Tag>,
    ) -> Result<Option<Listing>, RegistryError> {
        self.0.vendors.tags_and_digests(repository, keep).await
    }

    /// Returns the first page of the tags; `None` if the repository does not exist. Takes one request.
    ///
    /// # Errors
    /// As [`Client::tags_and_digests`].
    pub async fn first_tags(&self, repository: &RepositoryName) -> Result<Option<FirstTags>, RegistryError> {
        self.0.tags.first(repository).await
    }

    /// Lists the referrers of `subject`. A registry that was found to have no API is not asked for it again for an
    /// hour.
    ///
    /// # Errors
    /// Everything but a clear answer: a failed read never counts as an empty list. `TooLarge` over 1,000 referrers.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        fallback: FallbackTag,
    ) -> Result<ReferrerList, RegistryError> {
        self.0.referrers.all(repository, subject, fallback).await
    }

    /// Like [`Client::referrers`], without those of other artifact types than `types` if the registry or the list
    /// states their type; if neither does, the type is `None`, and only the manifest may state it.
    ///
    /// # Errors
    /// As [`Client::referrers`]; referrers that are left out do not count.
    pub async fn referrers_of_types(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        fallback: FallbackTag,
        types: &[String],
    ) -> Result<Vec<Referrer>, RegistryError> {
        self.0.referrers.of_types(repository, subject, fallback, types).await
    }

    /// Reads the index under the fallback tag of `subject`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        self.0.referrers.fallback_index(repository, subject).await
    }
}

#[cfg(test)]
impl Client {
    pub(crate) fn with_deadlines(
        options: RegistryOptions,
        egress: Arc<EgressPolicy>,
        deadlines: Deadlines,
    ) -> Result<Self, RegistryError> {
        Self::build(options, egress, (deadlines, None), None)
    }

    /// Lists every tag, by the distribution API alone.
    pub(crate) async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, RegistryError> {
        let selected = self.0.tags.select(repository, &|_| true, &mut |_| ()).await?;
        Ok(selected.map(|selected| selected.tags.into_iter().collect()))
    }

    pub(crate) fn http(&self) -> &Http {
        self.0.session.http()
    }

    /// Returns the uploads of a client that was never cloned.
    pub(crate) fn uploads_mut(&mut self) -> &mut Uploads {
        &mut Arc::get_mut(&mut self.0).expect("the client was never cloned").uploads
    }
}

#[cfg(test)]
impl ClientId {
    /// Returns a fake id for tests.
    pub(crate) fn of_test(number: u64) -> Self {
        Self(u64::MAX - number)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.0.id).field("host", &self.host()).finish_non_exhaustive()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
