//! Observes the sources and plans: which image goes where and why, what needs nothing, and what stands in the way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::discovering::{Discovery, Taker};
use super::files::Documents;
use super::ledgers::Ledgers;
use super::left_out::LeftOut;
use super::registries::{Known, Registries};
use super::state::Referred;
use crate::api::Action;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Claims, Configuration, CopyOptions, DestinationReference, Holder, Match, Place};
use crate::policy::{Policy, Request};
use crate::registry::{ErrorKind, Reference};

/// What is to be done. Plain data: nothing in it changes while it is carried out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// Every repository that was looked at, and why it matched or not.
    pub(super) repositories: Vec<PlannedRepository>,
    /// What no rule takes of the repositories that matched.
    pub(super) tags_left_out: Vec<LeftOut>,
    /// Every image of the repositories that matched.
    pub(super) images: Vec<Arc<PlannedImage>>,
    /// Routes whose source was asked by its referrers API for each image.
    #[serde(skip)]
    pub(super) asked: HashSet<Arc<Route>>,
    /// What stands in the way of more than an image.
    pub(super) troubles: Vec<String>,
}

/// One repository of a source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedRepository {
    pub(super) configuration: String,
    pub(super) repository: String,
    pub(super) matched: bool,
    pub(super) because: String,
}

/// One image and one destination.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedImage {
    #[serde(skip)]
    pub(super) route: Arc<Route>,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    #[serde(skip)]
    pub(super) referred: Referred,
    #[serde(skip)]
    pub(super) referrer_tags: Arc<BTreeSet<Tag>>,
    pub(super) action: PlannedAction,
    pub(super) reason: String,
}

/// Where images wait to be copied, each together with all destinations that it goes to.
pub(super) type Queue = mpsc::Sender<Vec<Arc<PlannedImage>>>;

/// A place that is kept in a [`Queue`].
pub(super) type QueuePlace<'a> = mpsc::Permit<'a, Vec<Arc<PlannedImage>>>;

/// Where an image comes from and goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    /// The index of the configuration.
    pub(super) configuration: usize,
    pub(super) source: DestinationReference,
    pub(super) destination: DestinationReference,
    pub(super) repository: RepositoryName,
    pub(super) options: CopyOptions,
}

/// What is done about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum PlannedAction {
    /// It is copied; the tag is absent at the destination, or nobody has looked.
    Copy,
    /// Its owner does not consent.
    Denied,
    /// It is there.
    Nothing,
    /// It is copied over another image.
    Overwrite,
}

/// Plans all configurations. The sources are asked; each image is handed to `taker` as soon as it is planned.
pub(super) async fn plan(
    documents: &Documents,
    registries: &Registries,
    ledgers: &Ledgers<'_>,
    taker: Option<Taker<'_>>,
) -> Plan {
    let (mut plan, mut claims) = (Plan::default(), Claims::default());
    for (index, configuration) in documents.configurations.iter().enumerate() {
        let name = name_of(configuration);
        if configuration.suspend {
            let because = "the configuration is suspended".to_owned();
            let repository = "*".to_owned();
            plan.repositories.push(PlannedRepository { configuration: name, repository, matched: false, because });
            continue;
        }
        let source = source_of(configuration);
        let listed = match repositories(registries.of(&source), configuration).await {
            Ok(listed) => listed,
            Err(message) => {
                plan.troubles.push(format!("{name}: source Registry {}: {message}", source.name));
                continue;
            }
        };
        let mut wanted = Vec::new();
        for repository in listed {
            let routes = plan.route((index, configuration), &repository, registries, &mut claims);
            if !routes.is_empty() {
                wanted.push((repository, routes));
            }
        }
        let discovery = Discovery { documents, registries, ledgers, configuration, taker: taker.as_ref() };
        let discovered = futures::stream::iter(wanted).map(|(repository, routes)| discovery.read(repository, routes));
        let mut discovered = std::pin::pin!(discovered.buffered(REPOSITORIES_AT_ONCE));
        while let Some(discovered) = discovered.next().await {
            plan.images.extend(discovered.images);
            plan.asked.extend(discovered.asked);
            plan.tags_left_out.extend(discovered.left_out);
            let trouble = |message| format!("{name}: source Registry {}: {message}", source.name);
            plan.troubles.extend(discovered.trouble.map(trouble));
        }
    }
    plan
}

/// Looks at what destinations have under the tags that are to be copied, where there is consent.
pub(super) async fn look_at_destinations(plan: &mut Plan, registries: &Registries) {
    let to_copy = plan.images.iter_mut().filter(|image| image.action == PlannedAction::Copy).map(Arc::make_mut);
    let looks = futures::stream::iter(to_copy).map(|image| async {
        let client = &registries.of(&image.route.destination).client;
        match client.head_manifest(&image.route.repository, Reference::Tag(&image.tag)).await {
            Ok(Some(head)) if head.digest == image.digest => {
                image.action = PlannedAction::Nothing;
                image.reason = "the destination has it; sync reads back all of it".to_owned();
            }
            Ok(Some(head)) if image.route.options.may_rewrite() => {
                image.reason = format!(
                    "{}; the destination has {}, which sync compares with the rewritten index",
                    image.reason, head.digest
                );
            }
            Ok(Some(head)) => {
                image.action = PlannedAction::Overwrite;
                image.reason = format!("{}; the destination has {}", image.reason, head.digest);
            }
            Ok(None) => {}
            Err(error) => return Some(error.message),
        }
        None
    });
    let failed: BTreeSet<String> =
        looks.buffer_unordered(LOOKS_AT_ONCE).filter_map(async |failed| failed).collect().await;
    plan.troubles.extend(failed);
}

/// The name of a configuration, as `namespace/name`.
pub(super) fn name_of(configuration: &Configuration) -> String {
    format!("{}/{}", configuration.namespace, configuration.name)
}

/// A registry as `name`, with its namespace in front where that is not `own`.
pub(super) fn short_name(reference: &DestinationReference, own: &str) -> String {
    if reference.namespace == own {
        reference.name.clone()
    } else {
        format!("{}/{}", reference.namespace, reference.name)
    }
}

/// The policies that speak for a Registry.
pub(super) fn policies_of<'a>(documents: &'a Documents, registry: &DestinationReference) -> &'a [Policy] {
    documents.policies.get(&registry.namespace).map_or(&[], Vec::as_slice)
}

/// What is asked of a policy for a route.
pub(super) fn request<'a>(configuration: &'a Configuration, route: &'a Route, action: Action) -> Request<'a> {
    Request {
        namespace: &configuration.namespace,
        configuration: &configuration.name,
        action,
        registry_namespace: &route.destination.namespace,
        registry: &route.destination.name,
        repository: route.repository.as_str(),
    }
}

/// The two ends of a route as `host/repository`, by which its record is known.
pub(super) fn ends(registries: &Registries, route: &Route) -> (String, String) {
    let end = |reference| format!("{}/{}", registries.of(reference).host, route.repository);
    (end(&route.source), end(&route.destination))
}

impl Plan {
    /// Where a repository goes; what stands in the way is noted.
    fn route(
        &mut self,
        (index, configuration): (usize, &Configuration),
        repository: &RepositoryName,
        registries: &Registries,
        claims: &mut Claims,
    ) -> Vec<Arc<Route>> {
        let (name, source) = (name_of(configuration), source_of(configuration));
        let matches = configuration.selection.matches(repository);
        let because: BTreeSet<&str> = matches.iter().map(|m| m.because.as_str()).collect();
        let because = if matches.is_empty() {
            configuration.selection.why_not(repository)
        } else {
            because.into_iter().collect::<Vec<_>>().join("; ")
        };
        self.repositories.push(PlannedRepository {
            configuration: name.clone(),
            repository: repository.to_string(),
            matched: !matches.is_empty(),
            because,
        });
        let created = Timestamp::UNIX_EPOCH + Duration::from_secs(index as u64);
        let holder = Holder { created, uid: name.clone() };
        let place = |registry: &DestinationReference| Place {
            host: registries.of(registry).host.clone(),
            repository: repository.clone(),
        };
        let mut routes = Vec::new();
        for Match { destination, options, .. } in matches {
            let (from, to) = (place(&source), place(&destination));
            if from == to {
                self.troubles.push(format!(
                    "{name}: repository {repository} of Registry {} is the source itself: remove it from destinations",
                    destination.name
                ));
            } else if claims.claim(&holder, &from, &to).is_err() {
                self.troubles.push(format!(
                    "{name}: an earlier configuration writes to repository {repository} of Registry {}: narrow repositoryFilters, or remove one of the two",
                    destination.name
                ));
            } else {
                let repository = repository.clone();
                let source = source.clone();
                routes.push(Arc::new(Route { configuration: index, source, destination, repository, options }));
            }
        }
        routes
    }

    /// The images that are to be copied, by route.
    pub(super) fn routes(&self) -> Vec<(&Arc<Route>, Vec<&PlannedImage>)> {
        let mut order: Vec<(&Arc<Route>, Vec<&PlannedImage>)> = Vec::new();
        let mut index: HashMap<&Arc<Route>, usize> = HashMap::new();
        for image in &self.images {
            let at = *index.entry(&image.route).or_insert_with(|| {
                order.push((&image.route, Vec::new()));
                order.len() - 1
            });
            order[at].1.push(image);
        }
        order
    }
}

/// The registry that a configuration reads from.
pub(super) fn source_of(configuration: &Configuration) -> DestinationReference {
    DestinationReference { namespace: configuration.namespace.clone(), name: configuration.source.clone() }
}

/// Every repository that may match: those that are named, and all that are listed where some rule needs it.
async fn repositories(source: &Known, configuration: &Configuration) -> Result<BTreeSet<RepositoryName>, String> {
    let selection = &configuration.selection;
    let mut found: BTreeSet<RepositoryName> = selection.exact_repositories().into_iter().cloned().collect();
    if selection.needs_listing() {
        let listed = source.client.repositories().await.map_err(|error| match error.kind {
            ErrorKind::Unsupported => format!(
                "{} does not list its repositories: name them in repositoryFilters with filterType: EXACT_MATCH",
                source.host
            ),
            _ => error.message,
        })?;
        found.extend(listed);
    }
    Ok(found)
}

const LOOKS_AT_ONCE: usize = 8;
const REPOSITORIES_AT_ONCE: usize = 4;
