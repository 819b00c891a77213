//! The copy engine: one image with everything that refers to it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::image_copier::ImageCopier;
use super::image_dates::ImageDates;
use super::known_repositories::KnownRepositories;
use super::manifest_cache::ManifestCache;
use super::referrer_copier::ReferrerCopier;
use super::referrer_finder::ReferrerFinder;
use super::signatures::check_signatures;
use super::task::{Copied, CopyError, ImageCopy};
use super::tee::ActiveCopy;
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::CreationDate;
use crate::registry::{Client, ErrorKind, Reference, RegistryError};
use crate::terms::ReferrersMode;

/// Copies images. One a process, cheap to clone: its memory of destinations is shared by everything that it copies.
///
/// The caller decides how many images are copied at once. Nothing is started that outlives the futures of its methods,
/// but for the request by which [`crate::registry`] gives up an upload session that was cut off.
#[derive(Clone)]
pub struct Engine {
    repositories: Arc<KnownRepositories>,
    cache: Arc<ManifestCache>,
    images: Arc<ImageCopier>,
    finder: Arc<ReferrerFinder>,
    referrers: Arc<ReferrerCopier>,
    dates: Arc<ImageDates>,
}

/// The bounds of one [`Engine`]: parallelism and memory.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Most blobs of one image under way at once; 0 counts as 1.
    pub blobs: usize,
    /// Most entries of each of ten tables about destinations: an entry takes about 300 bytes, one that was forgotten
    /// costs a request. Those that are asked for again and again are not forgotten.
    pub remembered: usize,
}

/// The dates of images that are remembered: all of several repositories are needed at once.
const REMEMBERED_DATES: usize = 50_000;

impl Default for EngineLimits {
    fn default() -> Self {
        Self { blobs: 8, remembered: 10_000 }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(EngineLimits::default())
    }
}

impl Engine {
    /// Returns an engine that knows nothing yet.
    pub fn new(limits: EngineLimits) -> Self {
        let repositories = Arc::new(KnownRepositories::new(limits.remembered));
        let cache = Arc::new(ManifestCache::default());
        let images = ImageCopier::new(limits.blobs.max(1), limits.remembered, repositories.clone(), cache.clone());
        let images = Arc::new(images);
        let finder = Arc::new(ReferrerFinder::new(cache.clone(), limits.remembered));
        let referrers = Arc::new(ReferrerCopier::new(images.clone(), finder.clone(), repositories.clone()));
        let dates = Arc::new(ImageDates::new(cache.clone(), REMEMBERED_DATES));
        Self { repositories, cache, images, finder, referrers, dates }
    }

    /// Announces a copy until the result is dropped: copies of the same image read what they need together from then on.
    /// [`Engine::copy`] does so too; copies that may begin at different moments are announced before the first one does.
    pub fn announce(&self, task: &ImageCopy<'_>) -> ActiveCopy<'_> {
        self.images.begin(task)
    }

    /// Copies the image and reads it back: tag, manifests and blobs, each looked at after the tag was written. Dropping
    /// the future stops everything.
    ///
    /// A tag that is at the digest already, and whole, is left alone; one whose content is not whole is repaired.
    ///
    /// # Errors
    /// [`CopyError`], by side. Content that was copied until then stays, and is found again.
    pub async fn copy(&self, task: &ImageCopy<'_>) -> Result<Copied, CopyError> {
        let moved = AtomicU64::new(0);
        let _active = self.announce(task);
        if let Some(key) = &task.options.signed_by {
            Box::pin(check_signatures(task.source, task.source_repository, task.digest, key)).await?;
        }
        let (before, closure) = self.images.look_at_ends(task).await?;
        let with_referrers = task.options.referrers == ReferrersMode::Replicate;
        // Referrers are looked for while the image is copied, and follow once its tag is written.
        let (written, attached) = futures::join!(self.images.write(task, &before, &closure, &moved), async {
            if with_referrers { self.finder.find(task, &closure).await.map(Some) } else { Ok(None) }
        });
        let already_there = written?;
        let read_back = async { if already_there { Ok(()) } else { self.images.read_back(task, &closure).await } };
        let ((), (referrers, listed)) = futures::try_join!(read_back, async {
            let Some(attached) = attached? else { return Ok((0, None)) };
            let listed = attached.fingerprint(task.digest);
            Ok((Box::pin(self.referrers.bring(task, attached, &moved)).await?, listed))
        })?;
        let (size, moved, replica) = (closure.size(), moved.into_inner(), &closure.root().digest);
        let destination_digest = (replica != task.digest).then(|| replica.clone());
        let foreign_layers = closure.foreign_layers();
        let content = closure.content();
        Ok(Copied { size, moved, already_there, destination_digest, referrers, listed, foreign_layers, content })
    }

    /// Lists a repository that images are about to be copied to; to be called with the consent of its owner only. A
    /// failure is left to the copies, which meet it again.
    pub async fn look_ahead(&self, destination: &Client, repository: &RepositoryName) {
        if let Err(error) = self.repositories.look_ahead(destination, repository).await {
            tracing::debug!(error = %error.message, "looking ahead");
        }
    }

    /// Returns the digest of a source tag; `None` if the tag is gone. The tag is about to be copied, or lists referrers
    /// of an image that is. As long as there is room the manifest is read at once, and kept for [`Engine::copy`]: one
    /// request instead of two.
    ///
    /// # Errors
    /// As [`Client::head_manifest`]. A manifest that cannot be parsed is no error here: its copy reports it.
    pub async fn observe(
        &self,
        source: &Client,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Digest>, RegistryError> {
        if self.cache.has_room() {
            match source.manifest(repository, Reference::Tag(tag)).await {
                Ok(manifest) => {
                    let digest = manifest.digest.clone();
                    self.cache.keep((source.id(), repository.clone(), digest.clone()), manifest);
                    if is_referrer_tag(tag) {
                        self.finder.note_list((source.id(), repository.clone()), tag, &digest);
                    }
                    return Ok(Some(digest));
                }
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                Err(error) if matches!(error.kind, ErrorKind::InvalidContent | ErrorKind::TooLarge) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(source.head_manifest(repository, Reference::Tag(tag)).await?.map(|head| head.digest))
    }

    /// Returns the date at which an image was created, as its configuration states it: of an index, that of its first
    /// image. It is read once for each digest, as long as it is remembered.
    ///
    /// # Errors
    /// The manifest or the configuration cannot be read.
    pub async fn created(
        &self,
        source: &Client,
        repository: &RepositoryName,
        image: &Digest,
    ) -> Result<CreationDate, RegistryError> {
        Box::pin(self.dates.of(source, repository, image)).await
    }
}
