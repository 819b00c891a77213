//! Copies one image: the order of its steps.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::Effect;
use super::closure::Closure;
use super::manifest_cache::ManifestCache;
use super::tables::{ContentKey, Look, Tables};
use super::task::{Copied, CopyError, ImageCopy};
use super::tee::Tee;
use crate::image::{Digest, RepositoryName};
use crate::registry::{Client, ErrorKind, RegistryError};
use crate::terms::ReferrersMode;

/// Copies images. One a process, cheap to clone: what it remembers of destinations is shared by everything that it copies.
///
/// How many images are copied at once is the caller's to decide. Nothing is started that outlives the futures of its methods,
/// but for the request by which [`crate::registry`] gives up an upload session that was cut off.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// How much an engine does at once, and remembers.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Most blobs of one image under way at once; 0 counts as 1.
    pub blobs: usize,
    /// Most entries of each table of what is at destinations: an entry takes about 300 bytes, one that was forgotten costs a
    /// request.
    pub remembered: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { blobs: 8, remembered: 50_000 }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(EngineLimits::default())
    }
}

struct Inner {
    limits: EngineLimits,
    tables: Tables,
    manifests: ManifestCache,
    tee: Tee,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(limits: EngineLimits) -> Self {
        let limits = EngineLimits { blobs: limits.blobs.max(1), ..limits };
        let (tables, manifests) = (Tables::new(limits.remembered), ManifestCache::default());
        Self(Arc::new(Inner { limits, tables, manifests, tee: Tee::default() }))
    }

    /// Copies the image and reads it back: tag, manifests and blobs, each looked at after the tag was written. Dropping the
    /// future stops everything.
    ///
    /// A tag that is at the digest already, and whole, is left alone; one whose content is not whole is repaired.
    ///
    /// # Errors
    /// [`CopyError`] tells the source's failures from the destination's. What was copied until then stays and is found again.
    pub async fn copy(&self, task: &ImageCopy<'_>) -> Result<Copied, CopyError> {
        let moved = AtomicU64::new(0);
        let _under_way = self.tee().begin(task);
        // Those that are started together know of one another before one of them asks for anything.
        tokio::task::yield_now().await;
        let (present, closure) = self.look_around(task).await?;
        let with_referrers = task.options.referrers == ReferrersMode::Replicate;
        // What refers to the image is looked for while it is copied, and follows once its tag is written.
        let (written, attached) = futures::join!(self.write(task, &present, &closure, &moved), async {
            match with_referrers {
                true => self.look_for_referrers(task, &closure).await.map(Some),
                false => Ok(None),
            }
        });
        let already_there = written?;
        let read_back = async {
            match already_there {
                true => Ok(()),
                false => self.read_back(task, &closure, Instant::now()).await,
            }
        };
        let ((), referrers) = futures::try_join!(read_back, async {
            match attached? {
                Some(attached) => self.bring_referrers(task, attached, &moved).await,
                None => Ok(0),
            }
        })?;
        let (size, moved, replica) = (closure.size(), moved.into_inner(), &closure.root().digest);
        let destination_digest = (replica != task.digest).then(|| replica.clone());
        let foreign_layers = closure.foreign_layers();
        Ok(Copied { size, moved, already_there, destination_digest, referrers, foreign_layers })
    }

    /// Looks at a repository that images are about to be copied to; to be called with the consent of its owner only. What fails
    /// here is met again by the copies.
    pub async fn look_ahead(&self, destination: &Client, repository: &RepositoryName) {
        if let Err((_, error)) = self.look_at_repository(destination, repository).await {
            tracing::debug!(error = %error.message, "looking ahead");
        }
    }

    /// Copies the image without what refers to it.
    pub(super) async fn copy_alone(&self, task: &ImageCopy<'_>, moved: &AtomicU64) -> Result<(), CopyError> {
        let _under_way = self.tee().begin(task);
        let (present, closure) = self.look_around(task).await?;
        if self.write(task, &present, &closure, moved).await? {
            return Ok(());
        }
        self.read_back(task, &closure, Instant::now()).await
    }

    /// What there is at both ends.
    async fn look_around(&self, task: &ImageCopy<'_>) -> Result<(Present, Closure), CopyError> {
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let read = async {
            let source = (task.source, task.source_repository, Some(self.manifests()));
            Closure::read(source, task.digest, task.options).await.map_err(|unread| unread.of_source())
        };
        futures::try_join!(self.look_at_tag(task), read)
    }

    /// Makes sure that the image is there under its tag; whether it was there before, whole.
    async fn write(
        &self,
        task: &ImageCopy<'_>,
        present: &Present,
        closure: &Closure,
        moved: &AtomicU64,
    ) -> Result<bool, CopyError> {
        if present.digest.as_ref().is_some_and(|digest| closure.root().has_digest(digest)) {
            if self.is_complete(task, closure, present.at).await? {
                return Ok(true);
            }
            self.forget(task, closure);
        }
        self.push_until_taken(task, closure, present, moved).await?;
        Ok(false)
    }

    /// Pushes the image; once more, from the start, where the registry misses what it was believed to have, and in the end without
    /// asking it what it has.
    async fn push_until_taken(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        present: &Present,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        if !present.repository {
            task.permit(Effect::CreateRepository { repository: task.destination_repository }).await?;
        }
        let mut pauses = PAUSES.iter();
        loop {
            let pushed = self.push(task, closure, present, moved).await;
            match (pushed, pauses.next()) {
                (Err(CopyError::Destination(error) | CopyError::SparseIndexRefused(error)), Some(pause))
                    if error.kind == ErrorKind::ContentMissing =>
                {
                    tracing::debug!(error = %error.message, "pushing again");
                    self.forget(task, closure);
                    if pauses.len() == 0 {
                        self.doubt(task, closure);
                    }
                    tokio::time::sleep(*pause).await;
                }
                (Err(CopyError::Destination(error)), None) if error.kind == ErrorKind::ContentMissing => {
                    let pushes = PAUSES.len() + 1;
                    let message = format!("{error}: it was pushed {pushes} times, in the end with all of its blobs");
                    return Err(CopyError::VerificationFailed(message));
                }
                (pushed, _) => return pushed,
            }
        }
    }

    async fn push(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        present: &Present,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        self.push_content(task, closure, moved).await?;
        self.write_tag(task, closure, present).await
    }

    /// Pushes everything below the root manifest.
    pub(super) async fn push_content(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        let blobs = futures::stream::iter(&closure.blobs).map(Ok);
        blobs.try_for_each_concurrent(self.0.limits.blobs, |blob| self.ensure_blob(task, blob, moved)).await?;
        self.push_children(task, closure).await
    }

    /// What the tag points at at the destination. A repository that nothing is known of is looked at as a whole, which tells
    /// of all tags that it does not have.
    async fn look_at_tag(&self, task: &ImageCopy<'_>) -> Result<Present, CopyError> {
        let (tables, key) = (self.tables(), task.repository_key());
        let look = match tables.look(&key) {
            Some(look) => Some(look),
            None if tables.repository_exists(&key) == Some(true) => None,
            None if task.was_there => {
                let at = Instant::now();
                if let Some(digest) = task.tag_at_destination().await? {
                    tables.note_repository(key, true);
                    return Ok(Present { digest: Some(digest), at, repository: true });
                }
                let look = self.look_at_repository(task.destination, task.destination_repository).await;
                Some(look.map_err(|(_, error)| CopyError::Destination(error))?)
            }
            None => match self.look_at_repository(task.destination, task.destination_repository).await {
                Ok(look) => Some(look),
                Err((at, error)) => return self.look_without_list(task, at, error).await,
            },
        };
        let is_written = tables.written_tags.recall(&(task.repository_key(), task.tag.clone())).is_some();
        match look.as_ref().map(|look| (look.found.as_ref(), look.at)) {
            Some((None, at)) if !is_written => Ok(Present { digest: None, at, repository: false }),
            Some((Some(found), at)) if found.is_all && !found.tags.contains(task.tag) && !is_written => {
                Ok(Present { digest: None, at, repository: true })
            }
            _ => {
                let at = Instant::now();
                Ok(Present { digest: task.tag_at_destination().await?, at, repository: true })
            }
        }
    }

    /// One look for all who need it, and one failure for all who waited for it.
    async fn look_at_repository(
        &self,
        client: &Client,
        repository: &RepositoryName,
    ) -> Result<Arc<Look>, (Instant, RegistryError)> {
        let (tables, key) = (self.tables(), (client.id(), repository.clone()));
        let mut turn = tables.repository_turns.at(key.clone()).await;
        if let Some(look) = tables.look(&key) {
            return Ok(look);
        }
        let at = Instant::now();
        if let Some(error) = turn.inherited() {
            return Err((at, error));
        }
        match client.first_tags(repository).await {
            Ok(found) => Ok(tables.note_look(key, Look { found, at })),
            Err(error) => {
                turn.fail(error.clone());
                Err((at, error))
            }
        }
    }

    /// Who may push but not list may still look at a tag: one that is there tells that the repository is.
    async fn look_without_list(
        &self,
        task: &ImageCopy<'_>,
        at: Instant,
        error: RegistryError,
    ) -> Result<Present, CopyError> {
        if error.kind.is_transient() {
            return Err(CopyError::Destination(error));
        }
        match task.tag_at_destination().await? {
            Some(digest) => Ok(Present { digest: Some(digest), at, repository: true }),
            None => Err(CopyError::Destination(error)),
        }
    }

    /// Forgets everything about the content of the image: what the registry says next is believed.
    pub(super) fn forget(&self, task: &ImageCopy<'_>, closure: &Closure) {
        let manifests = closure.manifests.iter().map(|manifest| ContentKey::manifest(task, manifest));
        let blobs = closure.blobs.iter().map(|blob| ContentKey::blob(task, blob));
        for key in manifests.chain(blobs) {
            self.tables().present.forget(&key);
            self.tables().verified.forget(&key);
        }
        self.tables().began_empty.forget(&task.repository_key());
        for blob in &closure.blobs {
            let crossing = task.crossing_key(blob);
            if self.tables().mountable.recall(&crossing).as_ref() == Some(task.destination_repository) {
                self.tables().mountable.forget(&crossing);
            }
        }
    }

    /// Believes nothing of what the registry says it has of the image's blobs: the next push sends them.
    fn doubt(&self, task: &ImageCopy<'_>, closure: &Closure) {
        closure.blobs.iter().for_each(|blob| self.tables().doubted.note(ContentKey::blob(task, blob), ()));
    }

    /// What was read of sources lately.
    pub(super) fn manifests(&self) -> &ManifestCache {
        &self.0.manifests
    }

    /// What is read for several destinations.
    pub(super) fn tee(&self) -> &Tee {
        &self.0.tee
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.0.tables
    }
}

/// What was at a destination before an image was copied to it.
pub(super) struct Present {
    /// What the tag pointed at.
    pub(super) digest: Option<Digest>,
    /// When that was looked at.
    pub(super) at: Instant,
    /// Whether the repository was there.
    pub(super) repository: bool,
}

/// What is waited for before an image is pushed again that the registry did not take.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];
