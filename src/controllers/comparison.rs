//! Observes a source: which of its repositories match, which tags they have, and which digests these have.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::Context;
use crate::api::{Referrers, Registry, reason};
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::{Configuration, TagChoice, Trouble};
use crate::registry::{Client, ErrorKind, Listing, Reference, RegistryError};

/// One thing that was found.
#[derive(Debug)]
pub enum Finding {
    /// The comparison is over; `complete` if everything could be read.
    Done {
        /// Whether everything could be read.
        complete: bool,
    },
    /// The source has this image.
    Image {
        /// Its repository.
        repository: RepositoryName,
        /// Its tag.
        tag: Tag,
        /// What the tag points at.
        digest: Digest,
    },
    /// What the referrers API of the source lists for an image.
    Listed {
        /// The repository.
        repository: RepositoryName,
        /// The image.
        subject: Digest,
        /// What refers to it.
        referrers: Vec<Digest>,
    },
    /// A tag that stands for referrers was pushed.
    ReferrerTag {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it points at.
        digest: Digest,
    },
    /// Every tag of a repository that stands for referrers, complete; told before its images.
    ReferrerTags {
        /// The repository.
        repository: RepositoryName,
        /// The tags, with what they point at.
        tags: BTreeMap<Tag, Digest>,
    },
    /// Every image of a repository was asked what refers to it, and everything could be read.
    ReferrersAsked(RepositoryName),
    /// Every repository that matches, complete.
    Repositories(BTreeSet<RepositoryName>),
    /// Every tag of a repository that some rule takes, complete.
    Tags {
        /// The repository.
        repository: RepositoryName,
        /// Its tags.
        tags: BTreeSet<Tag>,
    },
    /// Something could not be read.
    Trouble(Trouble),
}

/// What a comparison need not ask.
#[derive(Debug, Default)]
pub struct KnownBefore {
    /// Repositories whose images were lately asked what refers to them.
    pub referrers: HashSet<RepositoryName>,
    /// What tags point at that are promised never to move.
    pub settled: HashMap<(RepositoryName, Tag), Digest>,
}

/// Compares the whole source and sends what it finds; waits while nobody takes it.
pub async fn compare(
    context: Arc<Context>,
    registry: Arc<Registry>,
    configuration: Arc<Configuration>,
    known: KnownBefore,
    findings: mpsc::Sender<Finding>,
) {
    let complete = match observe(&context, &registry, &configuration, &known, &findings).await {
        Ok(complete) => complete,
        Err(trouble) => {
            let _ = findings.send(Finding::Trouble(trouble)).await;
            false
        }
    };
    context.metrics.comparisons.inc();
    let _ = findings.send(Finding::Done { complete }).await;
}

/// Observes a single tag, for a hint; `hinted` is the digest that it is said to have.
///
/// Registries notify a push before the tag can be read (Distribution does, by milliseconds), so a tag that is not there or does
/// not have that digest yet is looked at again for a few seconds. What is seen counts, not what was hinted.
pub async fn observe_tag(
    context: &Context,
    registry: &Registry,
    repository: RepositoryName,
    tag: Tag,
    hinted: Option<Digest>,
) -> Option<Finding> {
    let client = context.registries.client(registry).await.ok()?;
    let mut seen = None;
    for pause in LOOK_AGAIN_AFTER_MS {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match client.head_manifest(&repository, Reference::Tag(&tag)).await {
            Ok(head) => seen = head.map(|head| head.digest),
            Err(error) => {
                told(context, registry, &error);
                return Some(Finding::Trouble(unreadable(registry, &error)));
            }
        }
        if seen.is_some() && (hinted.is_none() || seen == hinted) {
            break;
        }
    }
    let digest = seen?;
    Some(match is_referrer_tag(&tag) {
        true => Finding::ReferrerTag { repository, tag, digest },
        false => Finding::Image { repository, tag, digest },
    })
}

async fn observe(
    context: &Context,
    registry: &Registry,
    configuration: &Configuration,
    known: &KnownBefore,
    findings: &mpsc::Sender<Finding>,
) -> Result<bool, Trouble> {
    let client = context.registries.client(registry).await.map_err(|unusable| Trouble {
        stalled: true,
        reason: reason::REGISTRY_NOT_READY,
        message: format!("source Registry {}: {}", registry.name_any(), unusable.message),
    })?;
    let repositories = repositories(context, registry, &client, configuration).await?;
    let _ = findings.send(Finding::Repositories(repositories.clone())).await;
    let observed = futures::stream::iter(repositories).map(|repository| {
        let matches = configuration.selection.matches(&repository);
        let referrers = match matches.iter().any(|m| m.options.referrers == Referrers::Replicate) {
            false => Looks::Nowhere,
            true if known.referrers.contains(&repository) => Looks::Tags,
            true => Looks::Everywhere,
        };
        let tags = configuration.selection.tags_of(&repository);
        let observation = Observation { context, registry, client: &client, repository, tags, known, findings };
        async move { observation.run(referrers).await }
    });
    let observed = observed.buffer_unordered(REPOSITORIES_AT_ONCE);
    Ok(observed.fold(true, |complete, one| async move { complete && one }).await)
}

async fn repositories(
    context: &Context,
    registry: &Registry,
    client: &Client,
    configuration: &Configuration,
) -> Result<BTreeSet<RepositoryName>, Trouble> {
    let selection = &configuration.selection;
    let mut found: BTreeSet<RepositoryName> = selection.exact_repositories().into_iter().cloned().collect();
    if selection.needs_listing() {
        let listed = client.repositories().await.map_err(|error| {
            told(context, registry, &error);
            match error.kind {
                ErrorKind::Unsupported => Trouble {
                    stalled: true,
                    reason: reason::REPOSITORY_LISTING_UNSUPPORTED,
                    message: format!(
                        "{} does not list its repositories: name them in repositoryFilters with filterType: EXACT_MATCH",
                        client.host()
                    ),
                },
                _ => unreadable(registry, &error),
            }
        })?;
        found.extend(listed.into_iter().filter(|repository| !selection.matches(repository).is_empty()));
    }
    Ok(found)
}

/// Where referrers are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Nowhere,
    Tags,
    Everywhere,
}

/// One repository that is observed.
struct Observation<'a> {
    context: &'a Context,
    registry: &'a Registry,
    client: &'a Client,
    repository: RepositoryName,
    tags: TagChoice,
    known: &'a KnownBefore,
    findings: &'a mpsc::Sender<Finding>,
}

impl Observation<'_> {
    /// Whether everything could be read.
    async fn run(&self, looks: Looks) -> bool {
        let repository = &self.repository;
        let keep = |tag: &Tag| if is_referrer_tag(tag) { looks != Looks::Nowhere } else { self.tags.takes(tag) };
        let Listing { tags, digests, .. } = match self.client.tags_and_digests(repository, &keep).await {
            Ok(Some(listing)) => listing,
            Ok(None) => {
                let message =
                    format!("{} has no repository {repository}: push to it, or correct the filter", self.client.host());
                let trouble = Trouble { stalled: true, reason: reason::REPOSITORY_NOT_FOUND, message };
                self.tell(Finding::Trouble(trouble)).await;
                return false;
            }
            Err(error) => return self.report(&error).await,
        };
        let (referrers, tags): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(is_referrer_tag);
        self.tell(Finding::Tags { repository: repository.clone(), tags: tags.clone() }).await;
        let mut complete = looks == Looks::Nowhere || self.observe_referrer_tags(referrers).await;
        let seen = Mutex::default();
        // Each has its place among the findings before it asks: nothing is waited for while requests are under way.
        let observed = futures::stream::iter(tags).map(|tag| async {
            let place = self.findings.reserve().await.ok();
            let digest = self.digest_of(&tag, &digests).await;
            let looked = match &digest {
                Ok(Some(digest)) if looks == Looks::Everywhere => self.observe_listed(digest, &seen).await,
                _ => true,
            };
            (tag, digest, looked, place)
        });
        let mut observed = std::pin::pin!(observed.buffer_unordered(TAGS_AT_ONCE));
        while let Some((tag, digest, looked, place)) = observed.next().await {
            complete &= looked && digest.is_ok();
            let finding = match digest {
                Ok(Some(digest)) => Finding::Image { repository: repository.clone(), tag, digest },
                Ok(None) => continue, // Gone since it was listed.
                Err(error) => self.trouble(&error),
            };
            if let Some(place) = place {
                place.send(finding);
            }
        }
        if complete && looks == Looks::Everywhere {
            self.tell(Finding::ReferrersAsked(repository.clone())).await;
        }
        complete
    }

    /// What a tag points at: as it was promised, as it is listed, or else as the source says.
    async fn digest_of(&self, tag: &Tag, listed: &BTreeMap<Tag, Digest>) -> Result<Option<Digest>, RegistryError> {
        let settled = self.known.settled.get(&(self.repository.clone(), tag.clone()));
        if let Some(digest) = settled.or_else(|| listed.get(tag)) {
            return Ok(Some(digest.clone()));
        }
        let head = self.client.head_manifest(&self.repository, Reference::Tag(tag)).await?;
        Ok(head.map(|head| head.digest))
    }

    async fn observe_referrer_tags(&self, tags: BTreeSet<Tag>) -> bool {
        let heads = futures::stream::iter(tags).map(|tag| async {
            let head = self.client.head_manifest(&self.repository, Reference::Tag(&tag)).await?;
            Ok::<_, RegistryError>(head.map(|head| (tag, head.digest)))
        });
        let found = heads.buffer_unordered(TAGS_AT_ONCE).try_filter_map(async |found| Ok(found)).try_collect().await;
        let found: BTreeMap<Tag, Digest> = match found {
            Ok(found) => found,
            Err(error) => return self.report(&error).await,
        };
        self.tell(Finding::ReferrerTags { repository: self.repository.clone(), tags: found }).await;
        true
    }

    /// Asks the referrers API once for each image, however many tags it has.
    async fn observe_listed(&self, subject: &Digest, seen: &Mutex<HashSet<Digest>>) -> bool {
        if !seen.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.clone()) {
            return true;
        }
        match self.client.referrers(&self.repository, subject, Some(false)).await {
            Ok(listed) if listed.by_api => {
                let (repository, subject) = (self.repository.clone(), subject.clone());
                self.tell(Finding::Listed { repository, subject, referrers: listed.digests }).await;
                true
            }
            Ok(_) => true,
            Err(error) => self.report(&error).await,
        }
    }

    async fn tell(&self, finding: Finding) {
        let _ = self.findings.send(finding).await;
    }

    async fn report(&self, error: &RegistryError) -> bool {
        self.tell(self.trouble(error)).await;
        false
    }

    fn trouble(&self, error: &RegistryError) -> Finding {
        told(self.context, self.registry, error);
        Finding::Trouble(unreadable(self.registry, error))
    }
}

fn unreadable(registry: &Registry, error: &RegistryError) -> Trouble {
    Trouble {
        stalled: !error.kind.is_transient(),
        reason: reason::SOURCE_UNREADABLE,
        message: format!("source Registry {}: {}", registry.name_any(), error.message),
    }
}

/// Has the Registry checked whose credentials, name or certificate failed.
fn told(context: &Context, registry: &Registry, error: &RegistryError) {
    if matches!(
        error.kind,
        ErrorKind::Unauthorized | ErrorKind::HostUnknown | ErrorKind::TlsRefused | ErrorKind::EgressRefused
    ) {
        context.check_registry(registry);
    }
}

const LOOK_AGAIN_AFTER_MS: [u64; 6] = [0, 20, 100, 400, 1500, 3000];
const REPOSITORIES_AT_ONCE: usize = 4;
const TAGS_AT_ONCE: usize = 8;
