//! Spec and dependencies: what a change of either makes of pairs, queue and comparison; and how a configuration ends.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Effect, Ending, Machine, Orders, Pair, PairId, PairKey};
use crate::plan::{Claims, MAX_LATE_WRITE, NamespacedName, Problem, WindowState};
use crate::policy::{Decision, PermissionRequest, evaluate};
use crate::terms::{Action, FailureCode, reason};

impl Machine {
    /// Returns true if manifests are read together with their tags: where this process copies them.
    pub(crate) fn reads_ahead(&self) -> bool {
        self.orders.class.is_none() && !self.orders.is_dry
    }

    pub(super) fn take_orders(&mut self, orders: Arc<Orders>, claims: &mut Claims, now: Timestamp) {
        let earlier = std::mem::replace(&mut self.orders, orders);
        self.remember_registries(|registry| earlier.registries.get(registry).cloned());
        let was_active = earlier.configuration.as_ref().is_ok_and(|configuration| !configuration.suspend);
        let is_respecified = self.orders.generation != earlier.generation
            || self.orders.configuration != earlier.configuration
            || self.orders.class != earlier.class;
        let former = self.configuration.clone();
        if let Ok(configuration) = &self.orders.configuration {
            self.configuration = Some(configuration.clone());
        }
        let are_registries_changed = self.orders.registries != earlier.registries;
        let is_aged = self.orders.holder != earlier.holder;
        let are_standings_changed = self.orders.standings != earlier.standings;
        if is_aged {
            self.renew_claims(claims);
        }
        if is_respecified || are_registries_changed || are_standings_changed {
            self.weigh_anew();
        }
        if is_respecified || are_registries_changed {
            self.missing = self.missing_registries();
        }
        if is_respecified {
            self.stop_comparison();
            self.judge_backfills_anew();
            self.compared = None;
            self.compare_at = now;
            self.window = WindowState { is_open: true, until: now };
            self.pacing.incomplete_comparisons = 0;
            if self.orders.configuration.is_ok() {
                self.sources.values_mut().for_each(|source| source.newest.clear());
                self.resume(claims, now);
                self.drop_unselected(former.as_deref(), claims, now);
                self.want_again(former.as_deref(), claims, now);
                if former.is_none_or(|former| Some(&former.selection) != self.selection()) {
                    self.apply_options(now);
                }
            }
        }
        if earlier.configuration.is_err() && self.orders.configuration.is_ok() {
            self.sweep.doubt_all(); // No hint came meanwhile.
        }
        if !self.is_active() {
            self.stop_copies(now);
        } else if !was_active {
            // The world went on meanwhile: tags are copied as they are observed from now on.
            self.observe_from = now;
        }
        let are_claims_changed = is_aged || are_standings_changed;
        if are_registries_changed || are_claims_changed || self.orders.dependencies != earlier.dependencies {
            self.take_dependencies(are_registries_changed, claims, now);
        }
        self.take_request(now);
        self.reconsider_deletions(now);
        self.approve_deletions(now);
    }

    /// Compares at once when the annotation has a value that was not seen yet. Claims that a registry's refusal has made
    /// weak have their weight again.
    pub(super) fn take_request(&mut self, now: Timestamp) {
        if self.orders.request.is_some() && self.orders.request != self.requested {
            self.requested = self.orders.request.clone();
            self.weigh_anew();
            self.judge_backfills_anew();
            self.stop_comparison();
            self.compare_at = now;
            self.retry(now, |_| true);
        }
    }

    /// Something around the configuration changed: work that failed because of it may succeed now.
    fn take_dependencies(&mut self, are_registries_changed: bool, claims: &mut Claims, now: Timestamp) {
        if are_registries_changed {
            self.compared = None; // The comparison of other registries says nothing about these.
            self.reveal_hosts();
            self.drop_replaced(now);
            self.stop_orphans();
            self.release_claims(claims);
            self.resume(claims, now);
        }
        self.decide_again(now);
        self.release_claims(claims);
        self.check_claims(claims, now);
        self.retry(now, has_outside_cause);
        let has_unread = self.pairs.values().any(|pair| pair.ledger.has_unread(has_outside_cause));
        if are_registries_changed {
            self.stop_comparison();
            self.compare_at = now;
            self.pacing.incomplete_comparisons = 0;
        } else if has_unread || !self.problems.is_empty() {
            self.pacing.incomplete_comparisons = 0;
            self.compare_soon(now);
        }
    }

    /// Stops the copies of which a Registry does not exist any more.
    fn stop_orphans(&mut self) {
        let exists = |reference: &NamespacedName| self.orders.registries.contains_key(reference);
        let has_source = exists(&self.source());
        let orphans = self.pairs.values().filter(|pair| !has_source || !exists(&pair.key.destination));
        let stops: Vec<Effect> =
            orphans.flat_map(|pair| pair.running.values()).map(|copy| Effect::Stop(*copy)).collect();
        self.effects.extend(stops);
    }

    /// Decides anew about every pair: its condition `Permitted` follows the policies also while nothing is copied.
    pub(super) fn decide_again(&mut self, now: Timestamp) {
        self.denied = None;
        let ids: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in ids {
            let decision = self.decision(&self.pairs[&id].key);
            if !decision.allowed && self.denied.is_none() {
                let (reason, message) = (decision.reason, decision.message.clone());
                self.denied = Some(Problem { stalled: true, reason, message });
            }
            // What a copy was denied beyond that stays until the next one, if there is one to come.
            if !decision.allowed || self.pairs[&id].is_denied || shows_old_denial(&self.pairs[&id]) {
                self.touch(id, now, |pair| {
                    pair.is_denied = !decision.allowed;
                    if pair.permission.as_ref() != Some(&decision) {
                        pair.permission = Some(decision);
                        pair.change(now);
                    }
                });
            }
        }
    }

    pub(super) fn decision(&self, key: &PairKey) -> Decision {
        let (destination, target) = key.to();
        self.orders.decision(destination, target.as_str())
    }

    /// Returns the dependency that is not there, or not usable: shown although nothing has failed for that yet.
    pub(super) fn blocked(&self) -> Option<Problem> {
        let stalled = self.orders.stalled_registries.iter().next().map(|(registry, message)| {
            let side = if *registry == self.source() { "source" } else { "destination" };
            let message = format!("{side} Registry {}/{}: {message}", registry.namespace, registry.name);
            Problem { stalled: true, reason: reason::REGISTRY_NOT_READY, message }
        });
        stalled.or_else(|| self.denied.clone())
    }

    fn retry(&mut self, now: Timestamp, chosen: impl Fn(FailureCode) -> bool) {
        for (id, pair) in self.pairs.iter_mut() {
            if pair.ledger.counts().failed > 0
                && pair
                    .ledger
                    .make_due(now, |code| chosen(code) && pair.refused.is_none_or(|cause| !cause.covers(code)))
            {
                self.retries.set(*id, Some(now));
            }
        }
        self.doubt_causes(now, chosen);
    }

    /// The process was stopped for longer than its authority lasts. Another one may have gone on: nothing is written
    /// before it is observed again.
    pub(super) fn thaw(&mut self, now: Timestamp) {
        self.stop_copies(now);
        self.stop_comparison();
        self.observe_from = now;
        self.doubt_until = now + MAX_LATE_WRITE;
        self.compare_at = now;
        self.compare_again();
        (self.reported.is_doubted, self.was_frozen) = (true, true);
        let ids: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in ids {
            self.decide_unshown(id);
            self.touch(id, now, |pair| pair.reopen(now));
        }
    }

    pub(super) fn missing_registries(&self) -> Vec<Problem> {
        let Some(configuration) = &self.configuration else { return Vec::new() };
        let problem = |message| Problem { stalled: true, reason: reason::REGISTRY_NOT_FOUND, message };
        let mut missing = Vec::new();
        if !self.orders.registries.contains_key(&self.source()) {
            missing.push(problem(format!(
                "spec.source.registryRef: there is no Registry {} in this namespace",
                configuration.source
            )));
        }
        let destinations = configuration.selection.destinations();
        let absent = destinations.into_iter().filter(|destination| !self.orders.registries.contains_key(*destination));
        missing.extend(absent.map(|NamespacedName { namespace, name }| {
            problem(format!("a rule's destinations name Registry {namespace}/{name}, which does not exist"))
        }));
        missing
    }

    /// Returns the source Registry.
    pub(crate) fn source(&self) -> NamespacedName {
        let name = self.configuration.as_ref().map(|configuration| configuration.source.clone()).unwrap_or_default();
        NamespacedName { namespace: self.orders.namespace.clone(), name }
    }

    pub(super) fn end(&mut self, ending: Ending, now: Timestamp) {
        if self.ending != Some(Ending::Retire) {
            self.ending = Some(ending); // A process that ends does not keep what a deleted configuration left.
        }
        self.stop_comparison();
        self.stop_copies(now);
        for name in std::mem::take(&mut self.delete_again_at).into_keys() {
            if ending == Ending::Interrupt && self.deletions.counted.remove(&name) {
                self.deleting.remove(&name); // The report may not be written yet: the next process deletes it.
                continue;
            }
            self.effects.extend(self.deleting.get(&name).cloned().map(Effect::Delete));
        }
    }

    /// Leaves nothing in progress; where the configuration itself ends, leaves no status and no claim either.
    pub(super) fn wind_up(&mut self, ending: Ending, claims: &mut Claims, now: Timestamp) {
        if !self.copies.is_empty() {
            return;
        }
        claims.probe_turns().leave((&self.orders.namespace, &self.orders.holder.uid));
        match ending {
            Ending::Interrupt => self.publish_all(now),
            Ending::Retire => {
                let ids: Vec<_> = self.pairs.keys().copied().collect();
                ids.into_iter().for_each(|id| self.drop_pair(id, now));
                for stored in std::mem::take(&mut self.stored) {
                    self.delete(std::sync::Arc::new(stored.identity));
                }
                claims.forget(&self.orders.holder.uid);
                let waiting = claims.release(&self.orders.holder.uid, |_| false);
                if !waiting.is_empty() {
                    self.effects.push(Effect::WakeOthers(waiting));
                }
            }
        }
    }
}

impl Orders {
    /// Decides by the watched policies if the configuration may replicate into a repository of `destination`.
    pub(crate) fn decision(&self, destination: &NamespacedName, repository: &str) -> Decision {
        self.decide(Action::ReplicateImage, destination, repository)
    }

    /// Decides by the watched policies about an action of the configuration on a repository of `destination`.
    pub(super) fn decide(&self, action: Action, destination: &NamespacedName, repository: &str) -> Decision {
        let request = PermissionRequest {
            namespace: &self.namespace,
            configuration: &self.name,
            action,
            registry_namespace: &destination.namespace,
            registry: &destination.name,
            repository,
        };
        evaluate(&request, self.policies.get(&destination.namespace).map_or(&[], Vec::as_slice))
    }
}

/// Returns true if a copy of the pair was denied, and nothing is left that would be copied.
fn shows_old_denial(pair: &Pair) -> bool {
    let is_denied = pair.permission.as_ref().is_some_and(|decision| !decision.allowed);
    is_denied && pair.is_at_rest() && pair.ledger.counts().failed == 0
}

/// Failures whose cause is outside of the configuration: a Registry, its credentials, a policy.
fn has_outside_cause(code: FailureCode) -> bool {
    use FailureCode::{
        DestinationDenied, DestinationInvalid, DestinationNotReady, DestinationUnavailable, PolicyRevoked,
        RegistryPermissionDenied, SourceDenied, SourceNotReady, SourceRejected, SourceUnavailable,
    };
    matches!(
        code,
        DestinationDenied
            | DestinationInvalid
            | DestinationNotReady
            | DestinationUnavailable
            | PolicyRevoked
            | RegistryPermissionDenied
            | SourceDenied
            | SourceNotReady
            | SourceRejected
            | SourceUnavailable
    )
}
