//! What a replicator makes of what was found at the source: pairs, claims and work for the queue.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use kube::ResourceExt;

use super::comparison::Finding;
use super::pair::{Pair, PairKey};
use super::replicator::Replicator;
use crate::api::{
    ConfigurationReference, PairEnd, Referrers, Registry, ReplicationStatusSpec, ResolvedRegistryReference, reason,
};
use crate::cluster::PairIdentity;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Attempt, DestinationReference, Place, Trouble};
use crate::registry::canonical_host;

impl Replicator {
    /// Takes up the pairs that an earlier process left.
    pub(super) async fn resume(&mut self, now: Timestamp) {
        let keys: Vec<PairKey> =
            self.stored.iter().filter_map(|stored| self.stored_key(&stored.identity.spec)).collect();
        for key in keys {
            if self.is_selected(&key) {
                self.ensure_pair(&key, now).await;
            }
        }
        for stored in std::mem::take(&mut self.stored) {
            let known = self.stored_key(&stored.identity.spec);
            if known.as_ref().is_some_and(|key| self.is_selected(key)) {
                self.stored.push(stored); // Its Registry is not there now; when it comes back, so does the pair.
            } else {
                self.delete_status(&stored.identity).await;
            }
        }
        self.repositories = self.pairs.keys().map(|key| key.repository.clone()).collect();
    }

    /// Takes what a comparison found.
    pub(super) async fn take_finding(&mut self, finding: Finding) {
        let now = Timestamp::now();
        match finding {
            Finding::Done { complete } => self.finish_comparison(complete),
            Finding::Image { repository, tag, digest } => self.take_image(&repository, &tag, &digest, false).await,
            Finding::Listed { repository, subject, referrers } => self.take_listed(repository, &subject, &referrers),
            Finding::ReferrerTag { repository, tag, digest } => self.take_referrer_tag(repository, tag, digest, now),
            Finding::ReferrerTags { repository, tags } => self.take_referrer_tags(repository, tags),
            Finding::ReferrersAsked(repository) => self.take_referrers_asked(repository, now),
            Finding::Repositories(repositories) => self.take_repositories(repositories).await,
            Finding::Tags { repository, tags } => self.take_tags(&repository, &tags, now).await,
            Finding::Trouble(trouble) => self.note(trouble),
        }
    }

    /// Takes what was found because of a hint.
    pub(super) async fn take_observed(&mut self, finding: Finding) {
        match finding {
            Finding::Image { repository, tag, digest } => {
                self.repositories.insert(repository.clone());
                self.take_image(&repository, &tag, &digest, true).await;
                if !self.troubles.is_empty() {
                    self.compare_soon(); // A repository that was missing may be the one that was pushed.
                }
            }
            Finding::ReferrerTag { repository, tag, digest } => {
                self.take_referrer_tag(repository, tag, digest, Timestamp::now());
            }
            _ => self.compare_soon(), // The hint is lost: only a comparison finds what it told.
        }
    }

    /// What stands in the way of the whole configuration: of several troubles the first that somebody has to mend.
    pub(super) fn present_trouble(&self) -> Option<Trouble> {
        let Some(trouble) = self.troubles.iter().find(|trouble| trouble.stalled).or(self.troubles.first()) else {
            return self.worker_trouble();
        };
        let mut trouble = trouble.clone();
        if self.troubles.len() > 1 {
            trouble.message = format!("{} (and {} more)", trouble.message, self.troubles.len() - 1);
        }
        Some(trouble)
    }

    /// What keeps the Jobs of this configuration from running.
    fn worker_trouble(&self) -> Option<Trouble> {
        let configuration = &self.current.configuration;
        let source = self.context.registry(&configuration.namespace, &configuration.source)?.uid()?;
        let message = self.context.office.trouble(&configuration.namespace, &source)?;
        Some(Trouble { stalled: false, reason: reason::WORKER_PENDING, message })
    }

    /// Drops the pairs that no rule wants any more.
    pub(super) async fn drop_pairs_without_rule(&mut self) {
        let unwanted: Vec<PairKey> = self.pairs.keys().filter(|key| !self.is_selected(key)).cloned().collect();
        for key in unwanted {
            self.drop_pair(&key).await;
        }
        let kept: HashSet<Place> = self.pairs.values().map(|pair| pair.place.clone()).collect();
        let waiting =
            self.context.claims(|claims| claims.release(&self.current.holder.uid, |place| kept.contains(place)));
        self.context.nudge_uids(&waiting).await;
    }

    /// Forgets the images that no rule takes any more; they stay where they are.
    pub(super) fn drop_tags_without_rule(&mut self, now: Timestamp) {
        let selection = &self.current.configuration.selection;
        for (key, pair) in &mut self.pairs {
            pair.retain_tags(|tag| selection.takes(&key.repository, &key.destination, tag), now);
        }
    }

    /// Has the images of every pair looked at again of which something else is wanted than before.
    pub(super) fn apply_options(&mut self, now: Timestamp) {
        let selection = &self.current.configuration.selection;
        for (key, pair) in &mut self.pairs {
            let matches = selection.matches(&key.repository);
            if let Some(wanted) = matches.into_iter().find(|m| m.destination == key.destination)
                && pair.take_options(wanted.options, now)
            {
                self.retry_at = Some(now);
            }
        }
    }

    /// The tags that the source need not be asked about: promised never to move, and verified at every destination of their
    /// repository.
    pub(super) fn settled_tags(&self) -> HashMap<(RepositoryName, Tag), Digest> {
        let selection = &self.current.configuration.selection;
        if !selection.has_promises() {
            return HashMap::new();
        }
        let settled = self.pairs.iter().flat_map(|(PairKey { repository, .. }, pair)| {
            let everywhere: Vec<(PairKey, Option<&Pair>)> =
                self.keys(repository).into_iter().map(|key| (key.clone(), self.pairs.get(&key))).collect();
            let tags = pair.ledger.rows().filter(move |(tag, _)| {
                let is_settled = |(key, pair): &(PairKey, Option<&Pair>)| {
                    pair.is_some_and(|pair| pair.ledger.is_complete(tag))
                        || !selection.takes(repository, &key.destination, tag)
                };
                everywhere.iter().all(is_settled) && selection.is_immutable(repository, tag)
            });
            tags.map(|(tag, row)| ((repository.clone(), tag.clone()), row.digest.clone()))
        });
        settled.take(MOST_SETTLED).collect()
    }

    /// Whether a tag is promised never to move, and verified at every destination of its repository.
    pub(super) fn is_settled(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let is_there = |key: &PairKey| self.pairs.get(key).is_some_and(|pair| pair.ledger.is_complete(tag));
        self.current.configuration.selection.is_immutable(repository, tag)
            && self.keys_of_tag(repository, tag).iter().all(is_there)
    }

    async fn take_image(&mut self, repository: &RepositoryName, tag: &Tag, digest: &Digest, hurried: bool) {
        let now = Timestamp::now();
        for key in self.keys_of_tag(repository, tag) {
            let seen = self.referrers.get(repository).and_then(|(seen, _)| seen.fingerprint(digest));
            let Some(pair) = self.ensure_pair(&key, now).await else { continue };
            pair.ledger.observe(tag, digest, now);
            let seen = seen.filter(|_| pair.options.referrers == Referrers::Replicate);
            if matches!(pair.ledger.observe_referrers(tag, seen, now), Attempt::Copy(_)) {
                pair.change(now);
                self.enqueue(key, tag.clone(), hurried);
            }
        }
    }

    async fn take_repositories(&mut self, repositories: BTreeSet<RepositoryName>) {
        let known = self.comparison.as_ref().map(|comparison| comparison.known.clone()).unwrap_or_default();
        for key in known.iter().filter(|key| !repositories.contains(&key.repository)) {
            self.drop_pair(key).await;
        }
        self.referrers.retain(|repository, _| repositories.contains(repository));
        self.repositories = repositories;
    }

    async fn take_tags(&mut self, repository: &RepositoryName, tags: &BTreeSet<Tag>, now: Timestamp) {
        let started = self.comparison.as_ref().map_or(now, |comparison| comparison.started);
        for key in self.keys(repository) {
            if let Some(pair) = self.ensure_pair(&key, now).await
                && pair.ledger.retain(tags, started)
            {
                pair.change(now);
            }
        }
    }

    /// The pair of `key`, made where it is absent. `None`, and a trouble, where its destination is absent or another's.
    async fn ensure_pair(&mut self, key: &PairKey, now: Timestamp) -> Option<&mut Pair> {
        let configuration = self.current.configuration.clone();
        let source = self.context.registry(&configuration.namespace, &configuration.source)?;
        let DestinationReference { namespace, name } = &key.destination;
        let Some(destination) = self.context.registry(namespace, name) else {
            let message = format!("a rule's destinations name Registry {namespace}/{name}, which does not exist");
            self.note(Trouble { stalled: true, reason: reason::REGISTRY_NOT_FOUND, message });
            return None;
        };
        let places = (place(&source, &key.repository), place(&destination, &key.repository));
        let (Some(from), Some(to)) = places else { return None };
        if !self.claim(key, &from, &to).await {
            self.drop_pair(key).await;
            return None;
        }
        let spec = self.status_spec(key, &source, &destination);
        if self.pairs.get(key).is_some_and(|pair| pair.identity.spec != spec) {
            self.drop_pair(key).await; // A Registry was made anew under the same name: the record of the earlier one is void.
        }
        let matches = configuration.selection.matches(&key.repository);
        let options = matches.into_iter().find(|m| m.destination == key.destination).map(|m| m.options);
        let options = options.unwrap_or_default();
        if !self.pairs.contains_key(key) {
            let mut pair = Pair::new(PairIdentity::new(&configuration.namespace, spec), to, options);
            if let Some(index) = self.stored.iter().position(|stored| stored.identity == pair.identity) {
                pair.resume(self.stored.swap_remove(index), now);
                let takes = |tag: &Tag| configuration.selection.takes(&key.repository, &key.destination, tag);
                pair.retain_tags(takes, now);
            }
            pair.change(now);
            self.pairs.insert(key.clone(), pair);
        }
        self.pairs.get_mut(key)
    }

    async fn claim(&mut self, key: &PairKey, from: &Place, to: &Place) -> bool {
        if from == to {
            let message =
                format!("repository {} of Registry {} is the source itself", key.repository, key.destination.name);
            self.note(Trouble { stalled: true, reason: reason::SELF_REPLICATION, message });
            return false;
        }
        let holder = self.current.holder.clone();
        match self.context.claims(|claims| claims.claim(&holder, from, to)) {
            Ok(displaced) => {
                self.context.nudge_uids(&displaced).await;
                true
            }
            Err(_conflict) => {
                let message = format!(
                    "an older configuration writes to repository {} of Registry {}: narrow repositoryFilters, or remove one of the two",
                    key.repository, key.destination.name
                );
                self.note(Trouble { stalled: true, reason: reason::DESTINATION_CONFLICT, message });
                false
            }
        }
    }

    async fn drop_pair(&mut self, key: &PairKey) {
        if let Some(pair) = self.pairs.remove(key) {
            pair.running.values().for_each(tokio::task::AbortHandle::abort);
            self.delete_status(&pair.identity).await;
        }
    }

    async fn delete_status(&self, identity: &PairIdentity) {
        if let Err(error) = self.context.statuses.delete(identity).await {
            tracing::warn!(%error, "a status that nothing stands behind could not be deleted");
        }
    }

    fn note(&mut self, trouble: Trouble) {
        let troubles = match &mut self.comparison {
            Some(comparison) => &mut comparison.troubles,
            None => &mut self.troubles,
        };
        if troubles.len() < MOST_TROUBLES && !troubles.contains(&trouble) {
            troubles.push(trouble);
        }
    }

    fn keys(&self, repository: &RepositoryName) -> Vec<PairKey> {
        let matches = self.current.configuration.selection.matches(repository);
        matches.into_iter().map(|m| PairKey { repository: repository.clone(), destination: m.destination }).collect()
    }

    /// The pairs of the repository to which the tag goes.
    fn keys_of_tag(&self, repository: &RepositoryName, tag: &Tag) -> Vec<PairKey> {
        let selection = &self.current.configuration.selection;
        let mut keys = self.keys(repository);
        keys.retain(|key| selection.takes(repository, &key.destination, tag));
        keys
    }

    fn is_selected(&self, key: &PairKey) -> bool {
        let matches = self.current.configuration.selection.matches(&key.repository);
        matches.iter().any(|m| m.destination == key.destination)
    }

    fn stored_key(&self, spec: &ReplicationStatusSpec) -> Option<PairKey> {
        let reference = &spec.destination.registry_ref;
        let namespace = reference.namespace.clone().unwrap_or_else(|| self.current.configuration.namespace.clone());
        let destination = DestinationReference { namespace, name: reference.name.clone() };
        Some(PairKey { repository: spec.destination.repository.parse().ok()?, destination })
    }

    fn status_spec(&self, key: &PairKey, source: &Registry, destination: &Registry) -> ReplicationStatusSpec {
        let configuration = &self.current.configuration;
        let end = |registry: &Registry| {
            let namespace = registry.namespace().filter(|namespace| *namespace != configuration.namespace);
            let registry_ref = ResolvedRegistryReference {
                namespace,
                name: registry.name_any(),
                uid: registry.uid().unwrap_or_default(),
            };
            PairEnd { registry_ref, repository: key.repository.to_string() }
        };
        ReplicationStatusSpec {
            configuration_ref: ConfigurationReference {
                name: configuration.name.clone(),
                uid: self.current.holder.uid.clone(),
            },
            source: end(source),
            destination: end(destination),
        }
    }
}

fn place(registry: &Registry, repository: &RepositoryName) -> Option<Place> {
    let host = canonical_host(&registry.spec.url.parse().ok()?);
    Some(Place { host, repository: repository.clone() })
}

const MOST_TROUBLES: usize = 20;
/// Of all destinations together; those beyond it cost a request each.
const MOST_SETTLED: usize = 200_000;
