//! One image to copy, and its result.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::authority::{Authority, Denied, Mutation};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{ContentSketch, CopyOptions, ImageRequest, Replica};
use crate::registry::{Client, ClientId, ErrorKind, Reference, RegistryError};
use crate::terms::{Side, TagConflict};

/// One image to copy to one tag.
#[derive(Clone)]
pub struct ImageCopy<'a> {
    /// The registry that the image is read from.
    pub source: &'a Client,
    /// The repository at the source.
    pub source_repository: &'a RepositoryName,
    /// The registry that it is written to.
    pub destination: &'a Client,
    /// The repository at the destination.
    pub destination_repository: &'a RepositoryName,
    /// The tag at the destination.
    pub tag: &'a Tag,
    /// The digest at the source, pinned when the copy was planned.
    pub digest: &'a Digest,
    /// The choice of platforms and referrers.
    pub options: &'a CopyOptions,
    /// True if the tag is known to have been at the destination: it is looked at first, and the repository only if it
    /// is gone.
    pub was_there: bool,
    /// The digest that was last verified under the tag, which may be replaced in any case.
    pub written: Option<&'a Digest>,
    /// Every tag of the source repository that stands for referrers, where the caller has listed them lately.
    pub referrer_tags: Option<Arc<BTreeSet<Tag>>>,
    /// The configuration: blobs are mounted only from repositories that it writes to itself.
    pub scope: MountScope,
    /// The destination belongs to another owner: only blobs whose bytes the source has served to this process are
    /// mounted, since any source can claim to have a digest.
    pub across_owners: bool,
    /// Gives or refuses consent to each mutation.
    pub authority: &'a dyn Authority,
    /// Counts the bytes that are read while the copy runs.
    pub counter: &'a ByteCounter,
}

/// The clients of both ends of a copy.
#[derive(Clone)]
pub struct Ends {
    /// The registry that images are read from.
    pub source: Client,
    /// The registry that they are written to.
    pub destination: Client,
}

impl<'a> ImageCopy<'a> {
    /// Returns the copy that `request` describes, between these registries.
    pub fn new(
        request: &'a ImageRequest,
        ends: &'a Ends,
        authority: &'a dyn Authority,
        counter: &'a ByteCounter,
    ) -> Self {
        Self {
            source: &ends.source,
            source_repository: &request.repository,
            destination: &ends.destination,
            destination_repository: &request.target,
            tag: &request.tag,
            digest: &request.digest,
            options: &request.options,
            was_there: request.was_there,
            written: request.written.as_ref(),
            referrer_tags: request.referrer_tags.clone(),
            scope: MountScope::new(&request.scope),
            across_owners: request.across_owners,
            authority,
            counter,
        }
    }
}

/// A repository of one registry.
pub(super) type RepositoryKey = (ClientId, RepositoryName);

/// The identity of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountScope(Arc<str>);

impl MountScope {
    /// Returns the scope of the configuration with this uid.
    pub fn new(uid: &str) -> Self {
        Self(uid.into())
    }
}

/// A counter of the bytes that a copy has read so far. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ByteCounter(Arc<AtomicU64>);

impl ByteCounter {
    /// Returns the bytes of blobs that were read from the source, those of attempts that failed included.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// An image that is at its destination, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The bytes of its manifests and blobs, each counted once.
    pub size: u64,
    /// The bytes of the blobs that this call uploaded; what was there, mounted, or uploaded by another call is not in
    /// it.
    pub moved: u64,
    /// True if it was there before, whole: then nothing was written but, perhaps, referrers.
    pub already_there: bool,
    /// The number of manifests that refer to it; all of them are there, and found there.
    pub referrers: usize,
    /// As [`Replica::listed`].
    pub listed: Option<String>,
    /// The number of foreign layers in its manifests: kept elsewhere by intent, skipped here, and not at the
    /// destination.
    pub foreign_layers: usize,
    /// The digest that the tag has at the destination, where it is another one than at the source: that of an index
    /// which was rewritten.
    pub destination_digest: Option<Digest>,
    /// Its manifests and blobs.
    pub content: ContentSketch,
}

impl Copied {
    /// Returns the replica at the destination.
    pub fn replica(self) -> Replica {
        let Self { size: bytes, destination_digest, listed, content, .. } = self;
        Replica { bytes, destination_digest, listed, content }
    }
}

/// The cause for which an image was not copied. Displays as one sentence for people.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// The destination failed.
    #[error("{0}")]
    Destination(RegistryError),
    /// The image is larger than any sensible one.
    #[error("{0}")]
    LimitExceeded(String),
    /// The image has none of the platforms that are wanted.
    #[error("{0}")]
    PlatformNotFound(String),
    /// The authority denied a change.
    #[error("{0}")]
    Denied(Denied),
    /// The image is copied; the source lists something that refers to it, and does not have that.
    #[error("{0}")]
    ReferrerNotFound(String),
    /// The source failed.
    #[error("{0}")]
    Source(RegistryError),
    /// The digest is not at the source any more.
    #[error("the image is not at the source any more")]
    SourceChanged,
    /// The source has signatures for the image, and none of them is valid.
    #[error("{0}")]
    SignatureInvalid(String),
    /// The source has no signature for the image.
    #[error("{0}")]
    SignatureMissing(String),
    /// The destination does not take an index that names manifests which are left out.
    #[error("{0}: it does not take an index that lacks platforms: set platformIndex: Rewrite")]
    SparseIndexRefused(RegistryError),
    /// The destination has the tag with other content, which the rule keeps.
    #[error("{0}")]
    TagExists(String),
    /// The destination has the tag with another digest and does not let it be moved.
    #[error("{0}")]
    TagImmutable(String),
    /// The content that was read back differs from the content that was written.
    #[error("{0}")]
    VerificationFailed(String),
}

impl CopyError {
    /// Returns the side that failed so that its Registry object may be wrong: credentials, host name, certificate or
    /// egress.
    pub fn suspect(&self) -> Option<Side> {
        let (side, error) = match self {
            Self::Source(error) => (Side::Source, error),
            Self::Destination(error) => (Side::Destination, error),
            _ => return None,
        };
        use ErrorKind::{EgressRefused, HostUnknown, TlsRefused, Unauthorized};
        matches!(error.kind, Unauthorized | HostUnknown | TlsRefused | EgressRefused).then_some(side)
    }
}

impl ImageCopy<'_> {
    pub(super) async fn permit(&self, mutation: Mutation<'_>) -> Result<Instant, CopyError> {
        self.authority.permit(mutation).await.map_err(CopyError::Denied)
    }

    /// Does `work` as long as there is consent to `mutation`, which is asked for before it begins and again whenever it
    /// runs out. Without consent the work is dropped.
    pub(super) async fn under_consent<T>(
        &self,
        mutation: Mutation<'_>,
        work: impl Future<Output = T>,
    ) -> Result<T, CopyError> {
        let mut work = std::pin::pin!(work);
        loop {
            let until = self.permit(mutation).await?;
            let mut end = std::pin::pin!(tokio::time::sleep_until(until.into()));
            let done = std::future::poll_fn(|context| {
                // The clock is read before the work is polled: a process that was stopped meanwhile must not go on with
                // it.
                if Instant::now() >= until || end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                work.as_mut().poll(context).map(Some)
            });
            if let Some(done) = done.await {
                return Ok(done);
            }
        }
    }

    /// Checks that the content `there` under the tag, another than the one to copy, may be replaced.
    ///
    /// # Errors
    /// [`CopyError::TagExists`].
    pub(super) fn may_replace(&self, there: &Digest) -> Result<(), CopyError> {
        if self.options.on_tag_conflict == TagConflict::Overwrite || self.written == Some(there) {
            return Ok(());
        }
        Err(CopyError::TagExists(format!(
            "the destination has {there} under the tag, which this configuration did not write, and the source has {}: \
             remove the tag there, or set onTagConflict: Overwrite",
            self.digest
        )))
    }

    /// Returns the digest that the tag points at before it is written; it may well be absent.
    pub(super) async fn tag_before_copy(&self) -> Result<Option<Digest>, CopyError> {
        let head = self.destination.probe_manifest(self.destination_repository, Reference::Tag(self.tag)).await;
        Ok(head.map_err(CopyError::Destination)?.map(|head| head.digest))
    }

    /// Returns the digest that the tag points at now.
    pub(super) async fn tag_at_destination(&self) -> Result<Option<Digest>, CopyError> {
        let head = self.destination.head_manifest(self.destination_repository, Reference::Tag(self.tag)).await;
        Ok(head.map_err(CopyError::Destination)?.map(|head| head.digest))
    }

    pub(super) fn repository_key(&self) -> RepositoryKey {
        (self.destination.id(), self.destination_repository.clone())
    }

    pub(super) fn source_key(&self) -> RepositoryKey {
        (self.source.id(), self.source_repository.clone())
    }
}

/// The time for which an observation or a consent holds, unless an authority says otherwise.
pub const CONSENT_LASTS: Duration = Duration::from_secs(4);
