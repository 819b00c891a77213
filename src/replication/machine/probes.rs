//! Work that is refused for a cause that many images share: one image tries it again, and the others wait for that one.

use jiff::Timestamp;

use super::causes::Refusals;
use super::{Effect, Machine, Pair, PairId};
use crate::image::{Digest, Tag};
use crate::plan::{FailedAttempt, NamespacedName, ProbeTurns, RowState, SharedCause, Sharing};
use crate::terms::FailureCode;

impl Machine {
    /// Takes the end of an attempt for the images that share its cause; `failed` is its failure. Of a pair that was
    /// refused before, another end is a sign that the cause is gone.
    pub(super) fn take_refusal(
        &mut self,
        (id, tag): (PairId, &Tag),
        failed: Option<FailureCode>,
        jitter: f64,
        now: Timestamp,
    ) {
        let Some(pair) = self.pairs.get(&id) else { return };
        let destination = pair.key.destination.clone();
        let is_permitted = pair.permission.as_ref().is_none_or(|decision| decision.allowed);
        let cause = failed.and_then(|code| SharedCause::of(code, is_permitted));
        if let Some(earlier) = pair.refused.filter(|earlier| cause != Some(*earlier)) {
            self.admit(id, earlier, now);
        }
        if failed.is_none() {
            self.causes.take_success(&destination);
        }
        let Some(cause) = cause else { return };
        let refusals = self.causes.refusals.entry((destination, cause)).or_insert_with(|| Refusals::new(now));
        if !refusals.take_failure(cause, (id, tag), jitter, now) {
            return;
        }
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        let Some(message) = pair.ledger.hold(tag) else { return };
        refusals.message.clone_from(&message);
        if pair.refused != Some(cause) {
            (pair.refused, pair.refusal) = (Some(cause), message);
            refusals.pairs.push_back(id);
        } else if cause.sharing == Sharing::InARow {
            pair.ledger.reword(tag, &pair.refusal); // Another wording of the same cause is not worth a write.
        } else if cause.sharing == Sharing::All && pair.refusal != message {
            pair.ledger.reword_all(cause.code, &message);
            pair.refusal = message;
        }
    }

    /// Fails an image of a pair that is refused without trying it. Returns false if it is to try: also one that was
    /// pushed just now, where the registry may refuse others only.
    pub(super) fn refuse(
        &mut self,
        id: PairId,
        tag: &Tag,
        (digest, is_urgent): (&Digest, bool),
        now: Timestamp,
    ) -> bool {
        self.join_cause(id);
        let Some(pair) = self.pairs.get(&id) else { return false };
        let (destination, Some(cause)) = (&pair.key.destination, pair.refused) else { return false };
        let is_meant = match cause.sharing {
            Sharing::All => true,
            Sharing::InARow => !is_urgent || self.is_stalled(destination),
            Sharing::Failed => pair.ledger.row(tag).is_some_and(|row| has_failed(&row.state, cause)),
        };
        let refusals = self.causes.refusals.get(&(destination.clone(), cause)).filter(|_| is_meant);
        if refusals.is_none_or(|refusals| refusals.probing.contains(&(id, tag.clone()))) {
            return false;
        }
        let failed = FailedAttempt { code: cause.code, message: pair.refusal.clone(), retry_after: None, jitter: 0.5 };
        self.touch(id, now, |pair| {
            pair.ledger.fail(tag, digest, failed, now);
            pair.ledger.hold(tag);
            pair.change(now);
        });
        true
    }

    /// Counts a pair as refused whose Registry refuses the credentials of all: its check and images of other pairs have
    /// shown that.
    fn join_cause(&mut self, id: PairId) {
        let Some(pair) = self.pairs.get(&id).filter(|pair| pair.refused.is_none()) else { return };
        let cause = SharedCause { code: FailureCode::DestinationDenied, sharing: Sharing::InARow };
        let key = (pair.key.destination.clone(), cause);
        if !self.is_stalled(&key.0) {
            return;
        }
        let Some(refusals) = self.causes.refusals.get_mut(&key).filter(|refusals| refusals.is_proved()) else { return };
        refusals.pairs.push_back(id);
        let message = refusals.message.clone();
        if let Some(pair) = self.pairs.get_mut(&id) {
            (pair.refused, pair.refusal) = (Some(cause), message);
        }
    }

    /// Returns true if an image of a pair was refused just now in a way that may concern all of them.
    pub(super) fn is_suspected(&self, id: PairId) -> bool {
        self.causes.refusals.values().any(|refusals| refusals.counts(id))
    }

    /// Returns true if the check of a Registry says that a person has to correct it.
    fn is_stalled(&self, registry: &NamespacedName) -> bool {
        self.orders.stalled_registries.contains_key(registry)
    }

    /// Has every pair try that is refused for a chosen cause, as that may be gone.
    pub(super) fn doubt_causes(&mut self, now: Timestamp, chosen: impl Fn(FailureCode) -> bool) {
        let doubted = self.causes.refusals.iter_mut().filter(|((_, cause), _)| chosen(cause.code));
        doubted.for_each(|(_, refusals)| refusals.doubt(now));
    }

    /// Queues the images that try again: one of all configurations of the process in each pause. The check of a Registry
    /// tries for all images that wait for its correction.
    pub(super) fn queue_probes(&mut self, turns: &mut ProbeTurns, now: Timestamp) {
        if self.orders.once.is_some() {
            self.queue_last_probes(now);
            return;
        }
        self.pass_turns_on(turns, now);
        if self.causes.probe_at().is_none_or(|at| at > now) {
            return;
        }
        let (mut probes, mut without, source) = (Vec::new(), Vec::new(), self.source());
        let holder = (self.orders.namespace.as_str(), self.orders.holder.uid.as_str());
        for ((destination, cause), refusals) in &mut self.causes.refusals {
            refusals.pairs.retain(|id| self.pairs.get(id).is_some_and(|pair| pair.refused == Some(*cause)));
            if refusals.pairs.is_empty() || refusals.probe_at > now {
                continue;
            }
            let checked = if cause.is_of_source() { &source } else { destination };
            let is_stalled = self.orders.stalled_registries.contains_key(checked);
            if cause.is_checked() && is_stalled && refusals.leave_to_check(now) {
                continue;
            }
            if !refusals.takes_turn(turns, &(checked.clone(), *cause), holder, now) {
                continue;
            }
            refusals.probing.retain(|(id, tag)| {
                let pair = self.pairs.get(id);
                pair.is_some_and(|pair| pair.running.contains_key(tag) || pair.queued.contains(tag))
            });
            let turn = refusals.turn;
            for _ in 0..refusals.begin_round(*cause, now) {
                refusals.pairs.rotate_left(1);
                let Some(id) = refusals.pairs.back().copied() else { break };
                match refused_tag(&self.pairs[&id], *cause, turn) {
                    Some(tag) => {
                        refusals.probing.insert((id, tag.clone()));
                        probes.push((id, tag));
                    }
                    None => without.push(id),
                }
            }
        }
        // The images that were refused are gone, or verified: others are tried as if nothing had been refused.
        for id in without {
            let pair = self.pairs.get_mut(&id).filter(|pair| pair.running.is_empty());
            pair.into_iter().for_each(|pair| pair.refused = None);
        }
        self.probe(probes, now);
    }

    /// Has the next configuration try soon for a cause that is gone for this one, and asks for turns anew where it is gone
    /// for others.
    fn pass_turns_on(&mut self, turns: &mut ProbeTurns, now: Timestamp) {
        let source = self.source();
        let holder = (self.orders.namespace.as_str(), self.orders.holder.uid.as_str());
        for (destination, cause) in std::mem::take(&mut self.causes.admitted) {
            let registry = if cause.is_of_source() { source.clone() } else { destination };
            let next = turns.succeed(&(registry, cause), holder, now).filter(|uid| uid != holder.1);
            self.effects.extend(next.map(|uid| Effect::WakeOthers(vec![uid])));
        }
        if std::mem::replace(&mut self.causes.seen_changes, turns.changes()) != turns.changes() {
            let waiting = self.causes.refusals.values_mut().filter(|refusals| refusals.waits_for_turn);
            waiting.for_each(|refusals| refusals.probe_at = refusals.probe_at.min(now));
        }
    }

    /// Has one more image of each pair of a run try whose images were refused in a row: a registry may refuse single
    /// ones. The others have failed if that is refused as well.
    fn queue_last_probes(&mut self, now: Timestamp) {
        if !self.is_at_rest() || !self.retried.due.is_empty() || self.retried.compares_again {
            return;
        }
        let mut probes = Vec::new();
        for ((_, cause), refusals) in &mut self.causes.refusals {
            for id in std::mem::take(&mut refusals.pairs) {
                let is_meant = |pair: &&Pair| pair.refused == Some(*cause) && cause.sharing == Sharing::InARow;
                let pair = self.pairs.get(&id).filter(is_meant);
                let failed = pair.into_iter().flat_map(|pair| pair.ledger.rows());
                let failed = failed.filter(|(_, row)| has_failed(&row.state, *cause)).map(|(tag, _)| (id, tag.clone()));
                probes.extend(failed.filter(|image| !self.retried.given_up.contains(image)).last());
            }
            refusals.probing.extend(probes.iter().cloned());
        }
        self.probe(probes, now);
    }

    fn probe(&mut self, probes: Vec<(PairId, Tag)>, now: Timestamp) {
        for (id, tag) in probes {
            self.touch(id, now, |pair| pair.ledger.retry(&tag, now));
            self.enqueue(&tag, vec![id], false);
        }
    }

    /// Lets all images of a pair try again, and one of each other pair that was refused for the same cause.
    fn admit(&mut self, id: PairId, cause: SharedCause, now: Timestamp) {
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        pair.refused = None;
        if pair.ledger.make_due(now, |failed| cause.covers(failed)) {
            self.retries.set(id, Some(now));
        }
        let (due, _) = pair.ledger.due(now);
        let key = (pair.key.destination.clone(), cause);
        if let Some(refusals) = self.causes.refusals.get_mut(&key) {
            refusals.admit(id, now);
            self.causes.admitted.push(key);
        }
        if self.orders.once.is_some() {
            due.iter().for_each(|tag| self.enqueue(tag, vec![id], false));
        }
    }
}

/// Returns an image of a pair that was refused for a cause: another one in each turn.
fn refused_tag(pair: &Pair, cause: SharedCause, turn: usize) -> Option<Tag> {
    let refused = pair.ledger.rows().filter(|(_, row)| has_failed(&row.state, cause)).map(|(tag, _)| tag);
    let refused: Vec<&Tag> = refused.collect();
    refused.get(turn.checked_rem(refused.len())?).map(|tag| (*tag).clone())
}

fn has_failed(state: &RowState, cause: SharedCause) -> bool {
    matches!(state, RowState::Failed(failure) if cause.covers(failure.code))
}
