//! Observes a source: which of its repositories match, which tags they have, and which digests these have.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::Context;
use crate::api::{Registry, reason};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Configuration, Trouble};
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
    /// Every repository that matches, complete.
    Repositories(BTreeSet<RepositoryName>),
    /// Every tag of a repository, complete.
    Tags {
        /// The repository.
        repository: RepositoryName,
        /// Its tags.
        tags: BTreeSet<Tag>,
    },
    /// Something could not be read.
    Trouble(Trouble),
}

/// Compares the whole source and sends what it finds; waits while nobody takes it. It does not ask what `settled` tags point at.
pub async fn compare(
    context: Arc<Context>,
    registry: Arc<Registry>,
    configuration: Arc<Configuration>,
    settled: HashSet<(RepositoryName, Tag)>,
    findings: mpsc::Sender<Finding>,
) {
    let complete = match observe(&context, &registry, &configuration, &settled, &findings).await {
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
    seen.map(|digest| Finding::Image { repository, tag, digest })
}

async fn observe(
    context: &Context,
    registry: &Registry,
    configuration: &Configuration,
    settled: &HashSet<(RepositoryName, Tag)>,
    findings: &mpsc::Sender<Finding>,
) -> Result<bool, Trouble> {
    let client = context.registries.client(registry).await.map_err(|unusable| Trouble {
        stalled: true,
        reason: reason::REGISTRY_NOT_READY,
        message: format!("source Registry {}: {}", registry.name_any(), unusable.message),
    })?;
    let repositories = repositories(context, registry, &client, configuration).await?;
    let _ = findings.send(Finding::Repositories(repositories.clone())).await;
    let observed = futures::stream::iter(repositories)
        .map(|repository| observe_repository(context, (registry, &client), repository, settled, findings))
        .buffer_unordered(REPOSITORIES_AT_ONCE);
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

/// Whether everything could be read.
async fn observe_repository(
    context: &Context,
    (registry, client): (&Registry, &Client),
    repository: RepositoryName,
    settled: &HashSet<(RepositoryName, Tag)>,
    findings: &mpsc::Sender<Finding>,
) -> bool {
    let report = async |error: &RegistryError| {
        told(context, registry, error);
        let _ = findings.send(Finding::Trouble(unreadable(registry, error))).await;
        false
    };
    let Listing { tags, mut digests } = match client.tags_and_digests(&repository).await {
        Ok(Some(listing)) => listing,
        Ok(None) => {
            let message =
                format!("{} has no repository {repository}: push to it, or correct the filter", client.host());
            let trouble = Trouble { stalled: true, reason: reason::REPOSITORY_NOT_FOUND, message };
            let _ = findings.send(Finding::Trouble(trouble)).await;
            return false;
        }
        Err(error) => return report(&error).await,
    };
    let _ = findings.send(Finding::Tags { repository: repository.clone(), tags: tags.clone() }).await;
    let unsettled = tags.into_iter().filter(|tag| !settled.contains(&(repository.clone(), tag.clone())));
    let looks = unsettled.map(|tag| (digests.remove(&tag), tag)).collect::<Vec<_>>();
    let heads = futures::stream::iter(looks).map(|(listed, tag)| async {
        let digest = match listed {
            Some(digest) => Ok(Some(digest)),
            None => {
                client.head_manifest(&repository, Reference::Tag(&tag)).await.map(|head| head.map(|head| head.digest))
            }
        };
        (tag, digest)
    });
    let mut heads = std::pin::pin!(heads.buffer_unordered(TAGS_AT_ONCE));
    let mut complete = true;
    while let Some((tag, digest)) = heads.next().await {
        match digest {
            Ok(Some(digest)) => {
                let _ = findings.send(Finding::Image { repository: repository.clone(), tag, digest }).await;
            }
            Ok(None) => {} // Gone since it was listed.
            Err(error) => complete = report(&error).await,
        }
    }
    complete
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
