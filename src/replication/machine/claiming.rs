//! Claims to destination repositories: made with the consent of the owner, weighed by credentials, given up with both.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{Effect, Machine, Pair, PairId, PairKey, Record};
use crate::plan::{Claims, Conflict, MAX_LATE_WRITE, NamespacedName, Problem, RepositoryAddress, Standing, circle};
use crate::terms::reason;

impl Machine {
    /// Makes the claims of pairs that have consent by now, or whose claim has another standing; drops the pairs whose
    /// claim another configuration has taken.
    pub(super) fn check_claims(&mut self, claims: &mut Claims, now: Timestamp) {
        let Some(source) = self.orders.registries.get(&self.source()) else { return };
        let is_other = |pair: &&Pair| {
            let standing = self.standing(&pair.key.destination, &pair.place);
            let from = RepositoryAddress { host: source.host.clone(), repository: pair.key.repository.clone() };
            !pair.is_denied && !claims.holds_as(&self.orders.holder, standing, &from, &pair.place)
        };
        let other: Vec<PairKey> = self.pairs.values().filter(is_other).map(|pair| pair.key.clone()).collect();
        for key in other {
            self.ensure(&key, claims, now);
        }
    }

    /// Has claims weigh by the present age of the configuration, which depends on the order of files.
    pub(super) fn renew_claims(&mut self, claims: &mut Claims) {
        let waiting = claims.renew(&self.orders.holder);
        if !waiting.is_empty() {
            self.effects.push(Effect::WakeOthers(waiting));
        }
    }

    /// Gives up claims to places that no pair writes to any more, or may write to.
    pub(super) fn release_claims(&mut self, claims: &mut Claims) {
        let may_write = |pair: &&Pair| !pair.is_denied && self.orders.registries.contains_key(&pair.key.destination);
        let permitted = self.pairs.values().filter(may_write);
        let kept: HashSet<&RepositoryAddress> = permitted.map(|pair| &pair.place).collect();
        let waiting = claims.release(&self.orders.holder.uid, |place| kept.contains(place));
        if !waiting.is_empty() {
            self.effects.push(Effect::WakeOthers(waiting));
        }
    }

    /// Begins anew with a pair whose destination another configuration has written to meanwhile.
    pub(super) fn take_over(&mut self, id: PairId, claims: &Claims, now: Timestamp) {
        let place = &self.pairs[&id].place;
        let is_inherited = claims.is_inherited(place);
        let is_taken_over = claims.is_taken_over(&self.orders.holder.uid, place);
        let next_copy = self.next_copy;
        self.touch(id, now, |pair| {
            pair.copies_from = next_copy;
            if is_inherited {
                pair.doubt_until = now + MAX_LATE_WRITE;
            }
            if is_taken_over {
                pair.observe_from = now;
                pair.ledger.start_over(now);
                pair.change(now);
            }
        });
        if is_taken_over {
            let Some(pair) = self.pairs.get_mut(&id) else { return };
            pair.withdrawals.add_all();
            // They copy what was observed before the other one wrote.
            self.effects.extend(pair.running.values().map(|copy| Effect::Stop(*copy)));
            let record = Record::StartedOver(pair.options.fingerprint());
            self.effects.push(Effect::Record(pair.identity.clone(), record));
            self.compare_soon(now);
        }
    }

    /// Returns the weight of a claim to a place.
    fn standing(&self, destination: &NamespacedName, place: &RepositoryAddress) -> Standing {
        if self.places.refused.contains(place) {
            return Standing::Unproven;
        }
        self.orders.standings.get(destination).copied().unwrap_or_default()
    }

    /// Forgets which places refused the credentials: claims to them have the weight of their Registry again.
    pub(super) fn weigh_anew(&mut self) {
        self.places.refused.clear();
        self.places.writable.clear();
        self.places.weighed_from = self.next_copy;
    }

    /// Notes that the registry of a pair refused or accepted the credentials for its repository: a claim by which
    /// nothing can be written gives way to others.
    pub(super) fn note_credentials(&mut self, id: PairId, are_refused: bool, claims: &mut Claims, now: Timestamp) {
        let Some(place) = self.pairs.get(&id).map(|pair| pair.place.clone()) else { return };
        let is_changed = if !are_refused {
            self.places.refused.remove(&place)
        } else {
            self.places.writable.remove(&place);
            self.places.refused.len() < MAX_REFUSED && self.places.refused.insert(place)
        };
        if is_changed {
            self.check_claims(claims, now);
        }
    }

    /// Notes that the registry would let a pair write to a place that another configuration holds: the conflict shows
    /// from now on.
    pub(super) fn note_writable(&mut self, id: PairId, claims: &mut Claims, now: Timestamp) {
        let Some((key, place)) = self.pairs.get(&id).map(|pair| (pair.key.clone(), pair.place.clone())) else { return };
        if self.places.writable.len() < MAX_REFUSED {
            self.places.writable.insert(place);
        }
        self.ensure(&key, claims, now);
    }

    /// Returns true if a conflict is said: to the owner of both configurations, or where the registry has let this one
    /// write to the very repository. Otherwise it would show where others write.
    fn shows_conflict(
        &self,
        key: &PairKey,
        standing: Standing,
        (from, to): (&RepositoryAddress, &RepositoryAddress),
        claims: &Claims,
    ) -> bool {
        let is_weak = standing == Standing::Unproven || claims.is_outranked(standing, from, to);
        self.shows(key, to, !is_weak, || claims.are_within(&self.orders.namespace, from, to))
    }

    fn shows(&self, key: &PairKey, to: &RepositoryAddress, is_strong: bool, is_own: impl Fn() -> bool) -> bool {
        let has_written = || {
            let pair = self.pairs.id_of(key).map(|id| &self.pairs[&id]);
            // What was found there proves no more than that it can be read.
            let has_moved = |pair: &&Pair| pair.usage.moved() > 0;
            pair.filter(has_moved).is_some_and(|pair| pair.ledger.rows().any(|(_, row)| row.written.is_some()))
        };
        self.places.writable.contains(to) || is_strong && (is_own() || has_written())
    }

    /// Returns true unless the pair must not be: another configuration holds the destination, or it is the source. A pair
    /// whose credentials prove nothing may be without a claim, and writes nothing then.
    pub(super) fn claim(
        &mut self,
        key: &PairKey,
        (from, to): (&RepositoryAddress, &RepositoryAddress),
        has_consent: bool,
        claims: &mut Claims,
    ) -> bool {
        if from == to {
            let message = format!(
                "repository {} of Registry {} is the source itself: remove it from destinations",
                key.target, key.destination.name
            );
            self.note(Problem { stalled: true, reason: reason::SELF_REPLICATION, message });
            return false;
        }
        let standing = self.standing(&key.destination, to);
        let is_held = claims.holds_as(&self.orders.holder, standing, from, to) && self.pairs.id_of(key).is_some();
        if !has_consent || is_held {
            return true;
        }
        let is_circle = claims.closes_circle(&self.orders.holder, standing, from, to);
        if is_circle {
            claims.wait(&self.orders.holder.uid);
        }
        let is_own_circle = || claims.leads_within(&self.orders.namespace, from);
        if is_circle && self.shows(key, to, standing != Standing::Unproven, is_own_circle) {
            self.note(circle(&key.repository));
            return false;
        }
        if is_circle && !claims.holds(&self.orders.holder.uid, to) {
            return true;
        }
        match claims.claim(&self.orders.holder, standing, from, to) {
            Ok(displaced) if displaced.is_empty() => true,
            Ok(displaced) => {
                self.effects.push(Effect::WakeOthers(displaced));
                true
            }
            // A Registry that only names a URL, or whose account may not write there, learns nothing about others: what
            // it tries fails by its credentials, as it would without them, and no tag is written without the claim.
            Err(Conflict) if !self.shows_conflict(key, standing, (from, to), claims) => true,
            Err(Conflict) => {
                let message = format!(
                    "an earlier configuration writes to repository {} of Registry {}: narrow repositoryFilters, or remove one of the two",
                    key.target, key.destination.name
                );
                self.note(Problem { stalled: true, reason: reason::DESTINATION_CONFLICT, message });
                false
            }
        }
    }
}

const MAX_REFUSED: usize = 10_000;
