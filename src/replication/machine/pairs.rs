//! The life of pairs: found, claimed, restored, dropped.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, Machine, Pair, PairId, PairKey, Record, RegistryIdentity, StoredPair};
use crate::image::{RepositoryName, Tag};
use crate::plan::{
    Claims, DeletionCounts, MAX_LATE_WRITE, NamespacedName, PairIdentity, Problem, RepositoryAddress, collision,
    of_registry,
};
use crate::policy::Decision;
use crate::terms::{
    Condition, ConfigurationReference, PairEnd, ReplicationStatusSpec, ResolvedRegistryReference, condition_type,
};

impl Machine {
    /// Takes up the pairs that an earlier process left, as far as their Registries exist; deletes those that no rule
    /// wants.
    pub(super) fn resume(&mut self, claims: &mut Claims, now: Timestamp) {
        self.missing = self.missing_registries();
        if self.orders.configuration.is_err() || self.stored.is_empty() {
            return; // An invalid spec says nothing about what is wanted: everything is kept.
        }
        let keys: Vec<Option<PairKey>> =
            self.stored.iter().map(|stored| self.stored_key(&stored.identity.spec)).collect();
        for key in keys.iter().flatten() {
            if self.is_selected(key) {
                self.ensure(key, claims, now);
            }
        }
        for stored in std::mem::take(&mut self.stored) {
            let key = self.stored_key(&stored.identity.spec).filter(|key| self.is_selected(key));
            // A pair whose Registry is missing comes back with it; one that was recorded for another Registry or source
            // does not.
            match key {
                Some(key) if !self.orders.registries.contains_key(&key.destination) => self.stored.push(stored),
                Some(_) if !self.orders.registries.contains_key(&self.source()) => self.stored.push(stored),
                _ => self.drop_stored(stored, now),
            }
        }
        self.repositories = self.pairs.repositories().cloned().collect();
        // Claims were seeded by what was stored; what no rule wants any more is free for others.
        self.release_claims(claims);
    }

    /// Returns the pair of `key`, made where it is absent. `None`, with a problem noted, where its destination is
    /// absent or another's.
    pub(super) fn ensure(&mut self, key: &PairKey, claims: &mut Claims, now: Timestamp) -> Option<PairId> {
        let source = self.orders.registries.get(&self.source())?.clone();
        let Some(destination) = self.orders.registries.get(&key.destination).cloned() else {
            return self.pairs.id_of(key); // Its rows are kept; the missing Registry is a problem of its own.
        };
        let place = |registry: &RegistryIdentity, repository: &RepositoryName| RepositoryAddress {
            host: registry.host.clone(),
            repository: repository.clone(),
        };
        let (from, to) = (place(&source, &key.repository), place(&destination, &key.target));
        let present = self.pairs.id_of(key);
        let denied = match present {
            Some(id) => self.pairs[&id].is_denied.then(|| self.decision(key)),
            None => Some(self.decision(key)).filter(|decision| !decision.allowed),
        };
        if present.is_none()
            && !self.deleting.is_empty()
            && self.is_deleting(&self.identity(key, &source, &destination).name)
        {
            self.compare_soon(now); // Its object and record are being deleted: it is made anew after that.
            return None;
        }
        let was_held = claims.holds(&self.orders.holder.uid, &to);
        // Without consent there is no claim: the pair only shows that it is denied.
        if !self.is_free(key, &to) || !self.claim(key, (&from, &to), denied.is_none(), claims) {
            present.into_iter().for_each(|id| self.drop_pair(id, now));
            return None;
        }
        if let Some(id) = present {
            if !was_held && denied.is_none() && claims.holds(&self.orders.holder.uid, &to) {
                self.take_over(id, claims, now);
            }
            return Some(id);
        }
        let identity = self.identity(key, &source, &destination);
        self.make(key, identity, (destination.uid, to), denied, claims, now)
    }

    /// Makes a pair that is absent, with what an earlier process left of it.
    fn make(
        &mut self,
        key: &PairKey,
        identity: PairIdentity,
        (destination_uid, to): (String, RepositoryAddress),
        denied: Option<Decision>,
        claims: &Claims,
        now: Timestamp,
    ) -> Option<PairId> {
        let configuration = self.configuration.clone()?;
        let rules = configuration.selection.rules_to(&key.repository, key.to());
        let (options, brake) = rules.first().map(|rule| (rule.options.clone(), rule.deletion)).unwrap_or_default();
        // It may be wanted again before it could be deleted.
        let is_left = self.delete_again_at.remove(&identity.name).is_some();
        self.deletions.counted.remove(&identity.name);
        if is_left {
            self.deleting.remove(&identity.name);
        }
        let is_inherited = claims.is_inherited(&to);
        // What was stored of it is from before another configuration wrote there.
        let is_taken_over = claims.is_taken_over(&self.orders.holder.uid, &to);
        let mut pair = Pair::new(key.clone(), identity, (destination_uid, to), options, now);
        if is_inherited {
            // An answer that is under way may be older than what was written there.
            (pair.doubt_until, pair.observe_from) = (now + MAX_LATE_WRITE, now);
        }
        (pair.is_denied, pair.permission) = (denied.is_some(), denied);
        pair.deletions.brake = brake;
        if let Some(counts) = self.deletions.history.counts((&key.destination, key.target.as_str())) {
            pair.deletions.counts = counts.clone();
        }
        self.recall(&mut pair, is_left, now);
        let id = self.insert(pair, now);
        if is_taken_over && self.pairs[&id].has_object() {
            self.take_over(id, claims, now);
        }
        Some(id)
    }

    /// Returns true while the object of such a pair is being deleted, and that is not to be tried again.
    fn is_deleting(&self, name: &str) -> bool {
        self.deleting.contains_key(name) && !self.delete_again_at.contains_key(name)
    }

    /// Restores what an earlier process left of a pair; `is_left` if the deletion of its object was under way.
    fn recall(&mut self, pair: &mut Pair, is_left: bool, now: Timestamp) {
        let key = pair.key.clone();
        let stored = self.stored.iter().position(|stored| stored.identity == *pair.identity);
        if let Some(stored) = stored.map(|index| self.stored.swap_remove(index)) {
            if let Some(asked_at) = stored.referrers_asked_at {
                self.source_repository(&key.repository).asked_at = Some(asked_at);
            }
            // An earlier process may have ended before it published its decision, or before consent came, and nothing is
            // copied now.
            let is_permitted = |it: &Condition| it.type_ == condition_type::PERMITTED && it.status == "True";
            if !stored.status.conditions.iter().any(is_permitted) {
                pair.permission.get_or_insert_with(|| self.decision(&key));
            }
            let choice = stored.choice.clone();
            let sibling = self.pairs.of_repository(&key.repository).iter().find_map(|id| self.pairs.get(id));
            if pair.restore(stored, sibling.map(|pair| &pair.ledger), now) {
                let started_over = Record::StartedOver(pair.options.fingerprint());
                self.effects.push(Effect::Record(pair.identity.clone(), started_over));
            }
            let rules = self.selection().map(|selection| selection.rules_to(&key.repository, key.to()));
            // A comparison of this very spec was complete: what falls out of the newest tags does so by itself.
            let present = rules.as_ref().filter(|_| self.compared.is_some());
            pair.choice = choice.or_else(|| present?.choice_hash());
            pair.ledger.retain_taken(|tag| rules.as_ref().is_none_or(|rules| rules.take(tag)));
        }
        if is_left || self.was_frozen {
            pair.lost_sight(now);
        }
        if !pair.has_object() && (is_left || pair.options.fingerprint().is_some()) {
            let started_over = Record::StartedOver(pair.options.fingerprint());
            self.effects.push(Effect::Record(pair.identity.clone(), started_over));
        }
    }

    fn insert(&mut self, mut pair: Pair, now: Timestamp) -> PairId {
        pair.copies_from = self.next_copy;
        let id = self.next_pair;
        self.next_pair += 1;
        self.names.insert(pair.identity.name.clone(), id);
        self.places.pairs.entry(pair.place.clone()).or_default().insert(id);
        of_registry(&mut self.totals, pair.key.destination.clone()).include(&pair.counts());
        self.retries.set(id, pair.ledger.due(now).1);
        self.publications.set(id, pair.publish_at(now));
        self.pairs.insert(id, pair);
        id
    }

    /// Changes a pair, and keeps totals and deadlines up to date.
    pub(super) fn touch<T>(&mut self, id: PairId, now: Timestamp, change: impl FnOnce(&mut Pair) -> T) -> Option<T> {
        let pair = self.pairs.get_mut(&id)?;
        let before = pair.counts();
        let changed = change(pair);
        pair.recover(now);
        let after = pair.counts();
        if before != after {
            let totals = of_registry(&mut self.totals, pair.key.destination.clone());
            totals.exclude(&before);
            totals.include(&after);
            self.is_changed = true;
        }
        let is_deleting = self.deleting.contains_key(&pair.identity.name);
        self.publications.set(id, pair.publish_at(now).filter(|_| !is_deleting));
        Some(changed)
    }

    /// Forgets a pair and deletes its status; its copies stop. What was copied stays where it is.
    pub(super) fn drop_pair(&mut self, id: PairId, now: Timestamp) {
        let Some(pair) = self.pairs.remove(&id) else { return };
        self.names.remove(&pair.identity.name);
        if let Some(ids) = self.places.pairs.get_mut(&pair.place) {
            ids.remove(&id);
            if ids.is_empty() {
                self.places.pairs.remove(&pair.place);
            }
        }
        if let Some(totals) = self.totals.get_mut(&pair.key.destination) {
            totals.exclude(&pair.counts());
            self.is_changed = true;
        }
        let counts = self.drop_deletions(id, &pair, now);
        self.retries.set(id, None);
        self.publications.set(id, None);
        self.forget_backfill(id, &pair.key.destination);
        self.release(id, now);
        self.effects.extend(pair.running.values().map(|copy| Effect::Stop(*copy)));
        if pair.is_publishing() {
            self.deleting.insert(pair.identity.name.clone(), pair.identity.clone());
            counts.then(|| self.deletions.counted.insert(pair.identity.name.clone()));
            self.doomed.insert(id, pair.identity);
        } else if counts && self.ending.is_none() {
            self.delete_counted(pair.identity, now);
        } else {
            self.delete(pair.identity);
        }
    }

    /// Deletes a status object. Until that is answered no object of this name is written.
    pub(super) fn delete(&mut self, identity: Arc<PairIdentity>) {
        self.deleting.insert(identity.name.clone(), identity.clone());
        self.effects.push(Effect::Delete(identity));
    }

    /// Drops a pair of an earlier process, but for the counts of its deletions.
    fn drop_stored(&mut self, stored: StoredPair, now: Timestamp) {
        let end = &stored.identity.spec.destination;
        let namespace = end.registry_ref.namespace.as_ref().unwrap_or(&stored.identity.namespace).clone();
        let registry = NamespacedName { namespace, name: end.registry_ref.name.clone() };
        let counts = DeletionCounts::restore(&stored.status.recent_deletions);
        let is_counted = self.deletions.history.keep((&registry, &end.repository), &counts, now);
        match is_counted {
            true => self.delete_counted(Arc::new(stored.identity), now),
            false => self.delete(Arc::new(stored.identity)),
        }
    }

    /// Deletes a status object that has counts of deletions, once the report of the configuration has them.
    pub(super) fn delete_counted(&mut self, identity: Arc<PairIdentity>, now: Timestamp) {
        self.deletions.counted.insert(identity.name.clone());
        self.delete_again_at.insert(identity.name.clone(), now + REPORTED_WITHIN);
        self.deleting.insert(identity.name.clone(), identity);
    }

    /// Stops the copies of tags that are no longer in the ledger, and forgets their records.
    pub(super) fn forget_tags(&mut self, id: PairId, gone: Vec<Tag>) {
        for tag in gone {
            let running = self.pairs.get(&id).and_then(|pair| pair.running.get(&tag));
            self.effects.extend(running.map(|copy| Effect::Stop(*copy)));
            self.withdraw_record(id, tag);
        }
    }

    /// Withdraws the record that a tag was verified.
    pub(super) fn withdraw_record(&mut self, id: PairId, tag: Tag) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        pair.withdrawals.add(tag.clone());
        self.effects.push(Effect::Record(pair.identity.clone(), Record::Forgotten(tag)));
    }

    /// Drops the pairs of which a Registry was replaced by another object: the record of the earlier one is void.
    pub(super) fn drop_replaced(&mut self, now: Timestamp) {
        let source = self.orders.registries.get(&self.source());
        let is_replaced = |pair: &&Pair| {
            let destination = self.orders.registries.get(&pair.key.destination);
            destination.is_some_and(|registry| registry.uid != pair.destination_uid || registry.host != pair.place.host)
                || source.is_some_and(|registry| registry.uid != pair.identity.spec.source.registry_ref.uid)
        };
        let replaced: Vec<PairId> =
            self.pairs.iter().filter(|(_, pair)| is_replaced(pair)).map(|(id, _)| *id).collect();
        replaced.into_iter().for_each(|id| self.drop_pair(id, now));
    }

    /// Returns true, or notes the problem, if no other repository of the source goes to the same place.
    fn is_free(&mut self, key: &PairKey, to: &RepositoryAddress) -> bool {
        let holder = self.holder(to).filter(|holder| *holder != key.repository);
        let problem = match holder {
            Some(holder) => Some(collision(&[&holder, &key.repository].into(), to, Some(&holder))),
            None => self.places.refusals.get(&(key.repository.clone(), to.clone())).cloned(),
        };
        let is_free = problem.is_none();
        problem.into_iter().for_each(|problem| self.note(problem));
        is_free
    }

    /// Returns the repository of the source that is replicated to the place.
    pub(super) fn holder(&self, place: &RepositoryAddress) -> Option<RepositoryName> {
        let id = self.places.pairs.get(place)?.first()?;
        Some(self.pairs[id].key.repository.clone())
    }

    /// Notes a problem of the whole configuration, until the next comparison ends.
    pub(super) fn note(&mut self, problem: Problem) {
        let problems = match &mut self.comparison {
            Some(comparison) => &mut comparison.problems,
            None => &mut self.problems,
        };
        if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(super) fn is_selected(&self, key: &PairKey) -> bool {
        self.selection().is_some_and(|selection| !selection.rules_to(&key.repository, key.to()).is_empty())
    }

    pub(super) fn stored_key(&self, spec: &ReplicationStatusSpec) -> Option<PairKey> {
        let reference = &spec.destination.registry_ref;
        let namespace = reference.namespace.clone().unwrap_or_else(|| self.orders.namespace.clone());
        let destination = NamespacedName { namespace, name: reference.name.clone() };
        let (repository, target) = (&spec.source.repository, &spec.destination.repository);
        Some(PairKey { repository: repository.parse().ok()?, destination, target: target.parse().ok()? })
    }

    fn identity(&self, key: &PairKey, source: &RegistryIdentity, destination: &RegistryIdentity) -> PairIdentity {
        let end = |reference: &NamespacedName, repository: &RepositoryName, uid: &str| PairEnd {
            registry_ref: ResolvedRegistryReference {
                namespace: (reference.namespace != self.orders.namespace).then(|| reference.namespace.clone()),
                name: reference.name.clone(),
                uid: uid.to_owned(),
            },
            repository: repository.to_string(),
        };
        let spec = ReplicationStatusSpec {
            configuration_ref: ConfigurationReference {
                name: self.orders.name.clone(),
                uid: self.orders.holder.uid.clone(),
            },
            source: end(&self.source(), &key.repository, &source.uid),
            destination: end(&key.destination, &key.target, &destination.uid),
        };
        PairIdentity::new(&self.orders.namespace, spec)
    }
}

const MAX_PROBLEMS: usize = 20;
/// The time in which a report is written.
const REPORTED_WITHIN: Duration = Duration::from_secs(30);
