//! Observes a source: its repositories, their tags, the digests of these, and what refers to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::Shared;
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::clock::Clock;
use super::excluded::Examples;
use super::machine::{Coverage, Finding, Listed, Looked, Looks, Observed, ReferrerLooks};
use super::ports::Access;
use crate::copy::Engine;
use crate::image::{Digest, InvalidNames, RepositoryName, Tag, is_referrer_tag};
use crate::locked::Locked;
use crate::plan::{Configuration, NamespacedName, Problem};
use crate::registry::{Client, ErrorKind, FallbackTag, Listing, Reference, RegistryError};
use crate::terms::{ReferrersMode, reason};

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
type Findings = mpsc::UnboundedSender<Observation>;

impl Observer {
    /// Compares the whole source and sends what it finds; ends with [`Finding::Done`].
    pub(super) async fn compare(self, configuration: Arc<Configuration>, findings: Findings) {
        let comparison =
            ComparisonRun { observer: &self, places: Arc::new(Semaphore::new(PLACES)), findings: &findings };
        let coverage = match comparison.run(&configuration).await {
            Ok(true) => Coverage::Whole,
            Ok(false) => Coverage::Partial,
            Err(problem) => {
                comparison.send(Finding::Problem(problem));
                Coverage::Partial
            }
        };
        comparison.send(Finding::Done(coverage));
    }

    /// Observes one tag; `hinted` is the digest that it is said to have. Where `is_read`, its manifest is read with it.
    ///
    /// Registries notify a push before the tag can be read (Distribution does, by milliseconds), so a tag that is
    /// absent or has another digest is looked at again for a few seconds. What is seen counts, not what was hinted.
    pub(super) async fn look(
        &self,
        repository: RepositoryName,
        tag: Tag,
        hinted: Option<Digest>,
        is_read: bool,
    ) -> Looked {
        let Ok(client) = self.access.client(&self.source).await else { return Looked::Unreadable };
        let mut seen = None;
        for pause in LOOK_AGAIN_AFTER_MS {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let sent_at = self.clock.now();
            match self.digest(&client, &repository, &tag, is_read).await {
                Ok(digest) => seen = digest.map(|digest| (digest, sent_at)),
                Err(error) => {
                    self.suspect(&error);
                    return Looked::Unreadable;
                }
            }
            if seen.as_ref().is_some_and(|(digest, _)| hinted.as_ref().is_none_or(|hinted| hinted == digest)) {
                break;
            }
        }
        match seen {
            Some((digest, sent_at)) => Looked::Seen(Observed { repository, tag, digest, sent_at }),
            None => Looked::Absent,
        }
    }

    async fn digest(
        &self,
        client: &Client,
        repository: &RepositoryName,
        tag: &Tag,
        is_read: bool,
    ) -> Result<Option<Digest>, RegistryError> {
        if is_read {
            return self.engine.observe(client, repository, tag).await;
        }
        Ok(client.head_manifest(repository, Reference::Tag(tag)).await?.map(|head| head.digest))
    }

    /// Has the Registry checked whose credentials, name or certificate failed.
    fn suspect(&self, error: &RegistryError) {
        use ErrorKind::{EgressRefused, HostUnknown, TlsRefused, Unauthorized};
        if matches!(error.kind, Unauthorized | HostUnknown | TlsRefused | EgressRefused) {
            self.access.suspect(&self.source);
        }
    }
}

struct ComparisonRun<'a> {
    observer: &'a Observer,
    places: Arc<Semaphore>,
    findings: &'a Findings,
}

impl ComparisonRun<'_> {
    /// Returns true if everything could be read.
    async fn run(&self, configuration: &Configuration) -> Result<bool, Problem> {
        let client = self.observer.access.client(&self.observer.source).await.map_err(|unusable| Problem {
            stalled: true,
            reason: reason::REGISTRY_NOT_READY,
            message: format!("source Registry {}: {}", self.observer.source.name, unusable.message),
        })?;
        let sent_at = self.observer.clock.now();
        let exact: BTreeSet<RepositoryName> =
            configuration.selection.exact_repositories().into_iter().cloned().collect();
        let (listed, invalid) = self.list(&client, configuration).await?;
        let (names, unmatched): (BTreeSet<RepositoryName>, _) = exact
            .iter()
            .chain(&listed)
            .cloned()
            .partition(|repository| !configuration.selection.matches(repository).is_empty());
        self.send(Finding::Repositories { names: names.clone(), unmatched, invalid, sent_at });
        let observed = futures::stream::iter(names).map(|repository| {
            let is_listed = listed.contains(&repository);
            let client = &client;
            async move { self.repository(client, configuration, repository, is_listed).await }
        });
        let observed = observed.buffer_unordered(REPOSITORIES_AT_ONCE);
        Ok(observed.fold(true, |complete, one| std::future::ready(complete && one)).await)
    }

    /// Lists the repositories if a filter needs that, with the names that are not valid.
    async fn list(
        &self,
        client: &Client,
        configuration: &Configuration,
    ) -> Result<(BTreeSet<RepositoryName>, InvalidNames), Problem> {
        if !configuration.selection.needs_listing() {
            return Ok(Default::default());
        }
        let listed = client.repositories().await.map_err(|error| {
            self.observer.suspect(&error);
            match error.kind {
                ErrorKind::Unsupported => Problem {
                    stalled: true,
                    reason: reason::REPOSITORY_LISTING_UNSUPPORTED,
                    message: format!(
                        "{} does not list its repositories: name them in repositoryFilters with filterType: EXACT_MATCH",
                        client.host()
                    ),
                },
                _ => self.unreadable(&error),
            }
        })?;
        Ok((listed.names.into_iter().collect(), listed.invalid))
    }

    /// Observes one repository. One that is listed and has no tags is empty; one that is only named by a filter is
    /// missing then.
    async fn repository(
        &self,
        client: &Client,
        configuration: &Configuration,
        repository: RepositoryName,
        is_listed: bool,
    ) -> bool {
        self.send(Finding::Opened(repository.clone()));
        let matches = configuration.selection.matches(&repository);
        let with_referrers = matches.iter().any(|m| m.options.referrers == ReferrersMode::Replicate);
        let choice = configuration.selection.tags_of(&repository);
        let examples = Examples::of(&choice);
        let keep = |tag: &Tag| if is_referrer_tag(tag) { with_referrers } else { examples.takes(tag) };
        let sent_at = self.observer.clock.now();
        let Listing { tags, digests, left_out, invalid } = match client.tags_and_digests(&repository, &keep).await {
            Ok(Some(listing)) => listing,
            Ok(None) if is_listed => Listing::default(),
            Ok(None) => {
                let advice = client.advice_on_absent(&repository);
                let advice = advice.as_deref().unwrap_or("push to it, or correct the filter");
                let message = format!("{} has no repository {repository}: {advice}", client.host());
                let problem = Problem { stalled: true, reason: reason::REPOSITORY_NOT_FOUND, message };
                self.send(Finding::Problem(problem));
                return false;
            }
            Err(error) => return self.report(&error),
        };
        let (referrers, tags): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(is_referrer_tag);
        let left_out = (left_out, examples.for_people());
        let listed = Listed { repository: repository.clone(), tags: tags.clone(), sent_at, left_out, invalid };
        let (reply, looks) = oneshot::channel();
        let finding = Finding::Tags(listed);
        let _ = self.findings.send(Observation { finding, reply: Some(reply), _place: None });
        // Without an answer the comparison was stopped.
        let Ok(looks) = looks.await else { return false };
        let observation = ObservedRepository {
            comparison: self,
            client,
            looks,
            digests,
            listed_at: sent_at,
            asked: Locked::default(),
        };
        let is_complete = observation.run(tags, referrers).await;
        if is_complete {
            self.send(Finding::Closed(repository));
        }
        is_complete
    }

    fn send(&self, finding: Finding) {
        // A closed channel means that the comparison was stopped.
        let _ = self.findings.send(Observation { finding, reply: None, _place: None });
    }

    fn report(&self, error: &RegistryError) -> bool {
        self.observer.suspect(error);
        self.send(Finding::Problem(self.unreadable(error)));
        false
    }

    fn unreadable(&self, error: &RegistryError) -> Problem {
        Problem {
            stalled: !error.kind.is_transient(),
            reason: reason::SOURCE_UNREADABLE,
            message: format!("source Registry {}: {}", self.observer.source.name, error.message),
        }
    }
}

/// One repository whose tags are observed.
struct ObservedRepository<'a> {
    comparison: &'a ComparisonRun<'a>,
    client: &'a Client,
    looks: Looks,
    digests: BTreeMap<Tag, Digest>,
    listed_at: jiff::Timestamp,
    /// Images whose referrers were asked for: one that has several tags is asked for once.
    asked: Locked<HashMap<Digest, Arc<OnceCell<()>>>>,
}

/// The reading of every tag that stands for referrers, shared by the images, which come after it.
type ReferrerTags<'a> = Shared<futures::future::BoxFuture<'a, bool>>;

impl ObservedRepository<'_> {
    /// Returns true if everything could be read.
    async fn run(&self, tags: BTreeSet<Tag>, referrers: BTreeSet<Tag>) -> bool {
        let referrer_tags: ReferrerTags<'_> = self.referrer_tags(referrers).boxed().shared();
        let observed = futures::stream::iter(tags).map(|tag| self.image(tag, referrer_tags.clone()));
        let observed = observed.buffered(TAGS_AT_ONCE).fold(true, |complete, one| std::future::ready(complete && one));
        let (are_complete, is_complete) = futures::join!(observed, referrer_tags.clone());
        are_complete && is_complete
    }

    async fn image(&self, tag: Tag, referrer_tags: ReferrerTags<'_>) -> bool {
        let place = self.comparison.places.clone().acquire_owned().await.ok();
        let (digest, _) = futures::join!(self.digest(&tag), referrer_tags);
        let (digest, sent_at) = match digest {
            Ok(Some(digest)) => digest,
            // It has gone since the list, or the list is wrong.
            Ok(None) => {
                self.comparison.send(Finding::Gone);
                return true;
            }
            Err(error) => return self.comparison.report(&error),
        };
        let is_complete = self.looks.referrers != ReferrerLooks::Everywhere || self.referrers(&digest).await;
        let repository = self.looks.repository.clone();
        let finding = Finding::Image(Observed { repository, tag, digest, sent_at });
        let _ = self.comparison.findings.send(Observation { finding, reply: None, _place: place });
        is_complete
    }

    /// Returns the digest of a tag, and when it was asked for: as it is promised, as it is listed, or else as the
    /// source says.
    async fn digest(&self, tag: &Tag) -> Result<Option<(Digest, jiff::Timestamp)>, RegistryError> {
        if let Some(digest) = self.looks.settled.get(tag).or_else(|| self.digests.get(tag)) {
            return Ok(Some((digest.clone(), self.listed_at)));
        }
        let sent_at = self.comparison.observer.clock.now();
        let is_read = self.looks.new.contains(tag);
        let digest = self.comparison.observer.digest(self.client, &self.looks.repository, tag, is_read).await?;
        Ok(digest.map(|digest| (digest, sent_at)))
    }

    async fn referrer_tags(&self, tags: BTreeSet<Tag>) -> bool {
        if self.looks.referrers == ReferrerLooks::Nowhere {
            return true;
        }
        let observer = self.comparison.observer;
        let digests = futures::stream::iter(tags).map(|tag| async move {
            let digest = observer.digest(self.client, &self.looks.repository, &tag, self.looks.is_first).await?;
            Ok::<_, RegistryError>(digest.map(|digest| (tag, digest)))
        });
        let found =
            digests.buffered(TAGS_AT_ONCE).try_filter_map(|found| std::future::ready(Ok(found))).try_collect().await;
        match found {
            Ok(found) => {
                self.comparison.send(Finding::ReferrerTags(self.looks.repository.clone(), found));
                true
            }
            Err(error) => self.comparison.report(&error),
        }
    }

    /// Asks the referrers API about an image, once however many tags it has.
    async fn referrers(&self, subject: &Digest) -> bool {
        let cell = {
            let mut asked = self.asked.lock();
            asked.entry(subject.clone()).or_default().clone()
        };
        let asked = cell.get_or_try_init(|| async {
            let listed = self.client.referrers(&self.looks.repository, subject, FallbackTag::Absent).await?;
            if listed.by_api {
                let (repository, subject) = (self.looks.repository.clone(), subject.clone());
                self.comparison.send(Finding::Referrers { repository, subject, listed: listed.digests });
            }
            Ok::<_, RegistryError>(())
        });
        match asked.await {
            Ok(()) => true,
            Err(error) => self.comparison.report(&error),
        }
    }
}

const LOOK_AGAIN_AFTER_MS: [u64; 6] = [0, 20, 100, 400, 1500, 3000];
const REPOSITORIES_AT_ONCE: usize = 4;
/// The client of the registry decides how many requests really are under way.
const TAGS_AT_ONCE: usize = 32;
/// Images that were observed and wait to be taken.
const PLACES: usize = 128;
