//! Observes the sources and plans: which image goes where and why, what needs nothing, and what stands in the way.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;

use super::files::Documents;
use super::observing::{Looks, Observed};
use super::registries::{Known, Registries};
use super::state::{Record, Referred, State};
use crate::api::{Action, Referrers};
use crate::copy::Engine;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Claims, Configuration, CopyOptions, DestinationReference, Holder, Match, Place, REFERRERS_EVERY};
use crate::policy::{Decision, Policy, Request, evaluate};
use crate::registry::{ErrorKind, Reference};

/// What is to be done. Plain data: nothing in it changes while it is carried out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// Every repository that was looked at, and why it matched or not.
    pub(super) repositories: Vec<PlannedRepository>,
    /// Every image of the repositories that matched.
    pub(super) images: Vec<PlannedImage>,
    /// Routes whose source was asked by its referrers API for each image.
    #[serde(skip)]
    pub(super) asked: HashSet<Route>,
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedImage {
    #[serde(skip)]
    pub(super) route: Route,
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

/// Plans all configurations. The sources are asked, the destinations are not. `engine` is who copies what is planned.
pub(super) async fn plan(
    documents: &Documents,
    registries: &Registries,
    state: &State,
    engine: Option<&Engine>,
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
        let read = futures::stream::iter(wanted).map(async |(repository, routes)| {
            observe(configuration, repository, routes, (registries, state, engine)).await
        });
        let mut read = std::pin::pin!(read.buffered(REPOSITORIES_AT_ONCE));
        while let Some((routes, observed)) = read.next().await {
            match observed {
                Ok(observed) => plan.add(configuration, routes, &observed, documents),
                Err(message) => plan.troubles.push(format!("{name}: source Registry {}: {message}", source.name)),
            }
        }
    }
    plan
}

/// Looks at what destinations have under the tags that are to be copied, where there is consent.
pub(super) async fn look_at_destinations(plan: &mut Plan, registries: &Registries) {
    let to_copy = plan.images.iter_mut().filter(|image| image.action == PlannedAction::Copy);
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
    ) -> Vec<Route> {
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
                routes.push(Route { configuration: index, source: source.clone(), destination, repository, options });
            }
        }
        routes
    }

    /// Adds the images of a repository: each to every destination before the next.
    fn add(
        &mut self,
        configuration: &Configuration,
        routes: Vec<(Route, Record)>,
        observed: &Observed,
        documents: &Documents,
    ) {
        let decisions: Vec<Decision> = routes
            .iter()
            .map(|(route, _)| {
                let asked = request(configuration, route, Action::ReplicateImage);
                evaluate(&asked, policies_of(documents, &route.destination))
            })
            .collect();
        let own = &configuration.namespace;
        for (tag, digest) in &observed.images {
            for ((route, record), decision) in routes.iter().zip(&decisions) {
                let with_referrers = route.options.referrers == Referrers::Replicate;
                let referred = if with_referrers { observed.referred(digest) } else { Referred::default() };
                let (action, reason) = if !decision.allowed {
                    (PlannedAction::Denied, decision.message.clone())
                } else if record.has(tag, digest, &referred, observed.is_asked && with_referrers) {
                    (PlannedAction::Nothing, "it was verified at the destination by an earlier sync".to_owned())
                } else {
                    (PlannedAction::Copy, decision.message.clone())
                };
                self.images.push(PlannedImage {
                    source: format!("{}/{}", route.source.name, route.repository),
                    destination: format!("{}/{}", short_name(&route.destination, own), route.repository),
                    route: route.clone(),
                    tag: tag.clone(),
                    digest: digest.clone(),
                    referred,
                    referrer_tags: observed.referrer_tags.clone(),
                    action,
                    reason,
                });
            }
        }
        if observed.is_asked {
            self.asked.extend(routes.into_iter().map(|(route, _)| route));
        }
    }

    /// The images that are to be copied, by route.
    pub(super) fn routes(&self) -> Vec<(&Route, Vec<&PlannedImage>)> {
        let mut order: Vec<(&Route, Vec<&PlannedImage>)> = Vec::new();
        let mut index: HashMap<&Route, usize> = HashMap::new();
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

fn source_of(configuration: &Configuration) -> DestinationReference {
    DestinationReference { namespace: configuration.namespace.clone(), name: configuration.source.clone() }
}

/// Reads a repository of the source, with what is remembered of each of its routes.
async fn observe(
    configuration: &Configuration,
    repository: RepositoryName,
    routes: Vec<Route>,
    (registries, state, engine): (&Registries, &State, Option<&Engine>),
) -> (Vec<(Route, Record)>, Result<Observed, String>) {
    let load = |route: Route| {
        let (from, to) = ends(registries, &route);
        let record = state.load(&name_of(configuration), (&from, &to), &route.options);
        (route, record)
    };
    let routes: Vec<(Route, Record)> = routes.into_iter().map(load).collect();
    let now = Timestamp::now();
    let is_due = |record: &Record| {
        !record.images.is_empty() && record.referrers_asked_at.is_none_or(|asked| asked + REFERRERS_EVERY <= now)
    };
    let looks = Looks {
        referrers: routes.iter().any(|(route, _)| route.options.referrers == Referrers::Replicate),
        api: routes.iter().any(|(_, record)| is_due(record)),
        engine,
        settled: settled(configuration, &repository, &routes),
        is_new: &|tag| routes.iter().any(|(_, record)| !record.images.contains_key(tag.as_str())),
    };
    let observed = Observed::read(registries.of(&source_of(configuration)), &repository, &looks).await;
    (routes, observed)
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

/// The tags of a repository that are promised never to move, and were verified at every destination by earlier syncs, with their
/// digests: the source need not be asked about them.
fn settled(
    configuration: &Configuration,
    repository: &RepositoryName,
    routes: &[(Route, Record)],
) -> BTreeMap<Tag, Digest> {
    let Some((_, first)) = routes.first().filter(|_| configuration.selection.has_promises()) else {
        return BTreeMap::new();
    };
    let tags = first.images.keys().filter_map(|tag| tag.parse::<Tag>().ok());
    let promised = tags.filter(|tag| configuration.selection.is_immutable(repository, tag));
    let verified = promised.filter_map(|tag| {
        let digest = first.digest_of(&tag)?;
        let is_there = |(_, record): &(Route, Record)| record.digest_of(&tag).is_some_and(|there| there == digest);
        routes.iter().all(is_there).then_some((tag, digest))
    });
    verified.collect()
}

const LOOKS_AT_ONCE: usize = 8;
const REPOSITORIES_AT_ONCE: usize = 4;
