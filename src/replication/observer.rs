//! Observes single tags of a source, and sends what a comparison finds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::clock::Clock;
use super::machine::{Finding, Listed, Looked, Looks, Observed};
use super::ports::Access;
use super::sweeps::SweepShare;
use crate::copy::Engine;
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::{Configuration, CreationDate, NamespacedName, Problem};
use crate::registry::{Client, ErrorKind, FallbackTag, Listing, Reference, RegistryError};
use crate::terms::reason;

/// Observes the source of one configuration.
#[derive(Clone)]
pub(super) struct Observer {
    /// The Registries.
    pub access: Arc<dyn Access>,
    /// Keeps the manifests that are read with their tags.
    pub engine: Engine,
    /// Stamps observations.
    pub clock: Clock,
    /// The source Registry.
    pub source: NamespacedName,
    /// The budget for looks at known tags.
    pub sweep: SweepShare,
}

/// The way in which a tag is observed.
#[derive(Clone, Copy)]
pub(super) struct LookMode {
    /// True if the manifest is read with the tag.
    pub is_read: bool,
    /// True if a tag that is absent, or has another digest than it is said to have, is looked at again.
    pub is_repeated: bool,
    /// True if the date of its image is read, too.
    pub is_dated: bool,
}

/// One finding on its way to the state machine.
pub(super) struct Observation {
    /// The finding.
    pub finding: Finding,
    /// Takes the answer to [`Finding::Tags`].
    pub reply: Option<oneshot::Sender<Looks>>,
    /// The place of an image among the findings that wait, kept until it is taken: no request is sent before there is
    /// one.
    _place: Option<OwnedSemaphorePermit>,
}

/// Takes findings. The channel has no bound of its own: images have places, and a repository has a few findings
/// besides.
pub(super) type Findings = mpsc::UnboundedSender<Box<Observation>>;

impl Observer {
    /// Observes one tag; `hinted` is the digest that it is said to have.
    ///
    /// Registries notify a push before the tag can be read (Distribution does, by milliseconds), so a tag that is
    /// absent or has another digest is looked at again for a few seconds. What is seen counts, not what was hinted; but
    /// a look that shows nothing new then proves nothing.
    pub(super) async fn look(
        &self,
        repository: RepositoryName,
        tag: Tag,
        hinted: Option<Digest>,
        mode: LookMode,
    ) -> Looked {
        let Ok(client) = self.access.client(&self.source).await else { return Looked::Unreadable(repository, tag) };
        let mut seen = None;
        for pause in &LOOK_AGAIN_AFTER_MS[..if mode.is_repeated { LOOK_AGAIN_AFTER_MS.len() } else { 1 }] {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            let sent_at = self.clock.now();
            match self.digest(&client, &repository, &tag, mode.is_read).await {
                Ok(digest) => seen = digest.map(|digest| (digest, sent_at)),
                Err(error) => {
                    self.suspect(&error);
                    return Looked::Unreadable(repository, tag);
                }
            }
            if seen.as_ref().is_some_and(|(digest, _)| hinted.as_ref().is_none_or(|hinted| hinted == digest)) {
                break;
            }
        }
        let Some((digest, sent_at)) = seen else { return Looked::Absent(repository, tag) };
        let is_as_hinted = hinted.is_none_or(|hinted| hinted == digest);
        let created =
            if mode.is_dated { self.created(&client, &repository, &digest).await } else { CreationDate::Unknown };
        let with_referrers = false;
        let observed = Observed { repository, tag, digest, sent_at, pushed_at: None, created, with_referrers };
        if is_as_hinted { Looked::Seen(observed) } else { Looked::SeenOtherwise(observed) }
    }

    /// Observes one known tag once the budget allows it; where it `asks`, with the list of the referrers API if the
    /// source has one.
    pub(super) async fn sweep(
        &self,
        repository: RepositoryName,
        tag: Tag,
        asks: bool,
    ) -> (Looked, Option<Vec<Digest>>) {
        self.sweep.wait().await;
        let Ok(client) = self.access.client(&self.source).await else {
            return (Looked::Unreadable(repository, tag), None);
        };
        let mode = LookMode { is_read: false, is_repeated: false, is_dated: false };
        let looked = self.look(repository, tag, None, mode).await;
        let Looked::Seen(Observed { repository, tag, digest, .. }) = &looked else { return (looked, None) };
        if !asks {
            return (looked, None);
        }
        match client.referrers(repository, digest, FallbackTag::Absent).await {
            Ok(listed) if listed.by_api => {
                self.sweep.wait().await; // That was a request, too.
                (looked, Some(listed.digests))
            }
            Ok(_) => (looked, None),
            Err(error) => {
                self.suspect(&error);
                (Looked::Unreadable(repository.clone(), tag.clone()), None)
            }
        }
    }

    /// Adds the date to what another configuration has seen of a tag.
    pub(super) async fn add_date(&self, looked: &mut Looked) {
        if let Looked::Seen(observed) | Looked::SeenOtherwise(observed) = looked
            && observed.created == CreationDate::Unknown
            && let Ok(client) = self.access.client(&self.source).await
        {
            observed.created = self.created(&client, &observed.repository, &observed.digest).await;
        }
    }

    async fn created(&self, client: &Client, repository: &RepositoryName, image: &Digest) -> CreationDate {
        let created = self.engine.created(client, repository, image).await;
        created.inspect_err(|error| self.suspect(error)).unwrap_or_default()
    }

    /// Returns the digest of a tag; where `is_read`, its manifest is read with it.
    pub(super) async fn digest(
        &self,
        client: &Client,
        repository: &RepositoryName,
        tag: &Tag,
        is_read: bool,
    ) -> Result<Option<Digest>, RegistryError> {
        if is_read {
            return self.engine.observe(client, repository, tag).await;
        }
        match client.head_manifest(repository, Reference::Tag(tag)).await? {
            // No image: the read says in words what it is.
            Some(head) if head.is_schema_1 || head.size.is_some_and(|size| size < MIN_IMAGE) => {
                Ok(Some(client.manifest(repository, Reference::Tag(tag)).await?.digest))
            }
            head => Ok(head.map(|head| head.digest)),
        }
    }

    /// Lists the tags of a repository that the rules take; `None` if the list is not complete.
    pub(super) async fn list(&self, configuration: &Configuration, repository: &RepositoryName) -> Option<Listed> {
        let client = self.access.client(&self.source).await.ok()?;
        let choice = configuration.selection.tags_of(repository);
        let sent_at = self.clock.now();
        let keep = |tag: &Tag| !is_referrer_tag(tag) && choice.takes(tag);
        match client.tags_and_digests(repository, &keep).await {
            Ok(listing) => {
                let Listing { tags, invalid, .. } = listing?;
                let (narrowed, left_out) = Default::default();
                Some(Listed { repository: repository.clone(), tags, narrowed, sent_at, left_out, invalid })
            }
            Err(error) => {
                self.suspect(&error);
                None
            }
        }
    }

    /// Has the Registry checked whose credentials, name or certificate failed.
    pub(super) fn suspect(&self, error: &RegistryError) {
        use ErrorKind::{EgressRefused, HostUnknown, TlsRefused, Unauthorized};
        if matches!(error.kind, Unauthorized | HostUnknown | TlsRefused | EgressRefused) {
            self.access.suspect(&self.source);
        }
    }
}

/// The way of the findings of one comparison.
pub(super) struct FindingSender<'a> {
    /// The observer of the source.
    pub observer: &'a Observer,
    /// The places of images among the findings that wait.
    pub places: Arc<Semaphore>,
    /// Takes the findings.
    pub findings: Findings,
}

impl FindingSender<'_> {
    /// Sends one finding.
    pub(super) fn send(&self, finding: Finding) {
        self.give(Observation { finding, reply: None, _place: None });
    }

    /// Sends the observation of an image, which keeps its place until it is taken.
    pub(super) fn send_image(&self, observed: Observed, place: Option<OwnedSemaphorePermit>) {
        self.give(Observation { finding: Finding::Image(observed), reply: None, _place: place });
    }

    /// Sends the tags of a repository, and returns the observations to make of them; `None` if the comparison was
    /// stopped.
    pub(super) async fn looks(&self, listed: Listed) -> Option<Looks> {
        let (reply, looks) = oneshot::channel();
        self.give(Observation { finding: Finding::Tags(listed), reply: Some(reply), _place: None });
        looks.await.ok()
    }

    fn give(&self, observation: Observation) {
        // A closed channel means that the comparison was stopped.
        let _ = self.findings.send(Box::new(observation));
    }

    /// Sends the failure of a list, or of a tag that stands for referrers.
    pub(super) fn report(&self, error: &RegistryError) {
        self.observer.suspect(error);
        self.send(Finding::Problem(self.unreadable(error)));
    }

    /// Returns the problem that a failure of the source is.
    pub(super) fn unreadable(&self, error: &RegistryError) -> Problem {
        Problem {
            stalled: !error.kind.is_transient(),
            reason: reason::SOURCE_UNREADABLE,
            message: format!("source Registry {}: {}", self.observer.source.name, error.message),
        }
    }
}

/// The bytes that a manifest has at least: its config has a digest of 64 digits and a media type.
const MIN_IMAGE: u64 = 100;

const LOOK_AGAIN_AFTER_MS: [u64; 6] = [0, 20, 100, 400, 1500, 3000];
