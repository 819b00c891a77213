//! Deletions of images that have left the source: decided pair by pair, within the brake, one at a time.
//!
//! Before the first request the store counts the deletions and says of none of these images that it is verified: a
//! process that ends meanwhile leaves no count that is too small, and no COMPLETE of an image that is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::pair_deletions::FailedDeletion;
use super::state::{HeldDeletions, Queued, RunningDeletion};
use super::{Deletion, DeletionOutcome, Effect, Group, Machine, Pair, PairId, PairKey};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{
    AbsentTags, CodedError, LeavingTag, PlannedDeletion, Removal, Row, deletion_plan_hash, describe_held, retry_delay,
};
use crate::policy::Decision;
use crate::terms::{Action, reason};

impl Machine {
    /// Decides about the deletions of each pair for which something has changed.
    pub(super) fn decide_deletions(&mut self, now: Timestamp) {
        let due: Vec<PairId> = std::iter::from_fn(|| self.deletions.due.pop(now)).collect();
        if due.is_empty() {
            return;
        }
        self.look_at_windows(now);
        due.into_iter().for_each(|id| self.decide_deletions_of(id, now));
        self.describe_deletions();
        self.approve_deletions(now);
    }

    fn decide_deletions_of(&mut self, id: PairId, now: Timestamp) {
        self.deletions.held.remove(&id);
        self.deletions.busy.remove(&id);
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        pair.deletions.retain(&pair.ledger);
        let Some(brake) = pair.deletions.brake else { return };
        let leaving: Vec<(Tag, Digest)> =
            pair.ledger.leaving().map(|(tag, digest)| (tag.clone(), digest.clone())).collect();
        if leaving.is_empty() {
            return;
        }
        let plan = |images: &[(Tag, Digest)]| -> Vec<PlannedDeletion> {
            images.iter().map(|(tag, digest)| PlannedDeletion::new(&pair.identity, tag, digest)).collect()
        };
        let decision = deletion_decision(&self.orders, &pair.key);
        if !decision.allowed {
            let (reason, message) = (reason::DELETION_NOT_PERMITTED, decision.message);
            self.deletions.held.insert(id, HeldDeletions { reason, message, planned: plan(&leaving) });
            return;
        }
        let recent = pair.deletions.counts.within_a_day(now);
        if pair.deletions.running.is_none() && recent < pair.deletions.decided.len() as u64 {
            // They waited for longer than they count, so that others may have been decided since: all count anew.
            pair.deletions.decided.clear();
        }
        let decided = &pair.deletions.decided;
        let open: Vec<(Tag, Digest)> = leaving.iter().filter(|(tag, _)| !decided.contains(tag)).cloned().collect();
        let there = pair.ledger.rows().filter(|(_, row)| row.written.is_some()).count() - decided.len();
        let is_approved = open.iter().all(|image| pair.deletions.approved.contains(image));
        if !is_approved && !brake.allows(there as u64, recent, open.len() as u64) {
            let (reason, message, planned) = (reason::DELETION_LIMIT, String::new(), plan(&open));
            let smaller_at = pair.deletions.counts.smaller_at(now);
            self.deletions.held.insert(id, HeldDeletions { reason, message, planned });
            smaller_at.into_iter().for_each(|at| self.deletions.due.set_no_later(id, at));
        } else if self.deletes() && self.copies_begin_at(now).is_none() {
            if is_approved && !open.is_empty() {
                self.deletions.history.approved = self.deletions.approval.clone();
            }
            self.count_deletions(id, open, now);
        }
        self.go_on_deleting(id, now);
    }

    /// Decides that images are deleted: from now on they count, and none of them as verified.
    fn count_deletions(&mut self, id: PairId, images: Vec<(Tag, Digest)>, now: Timestamp) {
        if images.is_empty() {
            return;
        }
        let counted = self.touch(id, now, |pair| {
            pair.deletions.counts.add(images.len() as u64, now);
            for (tag, _) in &images {
                pair.ledger.unverify(tag, now);
                pair.deletions.decided.insert(tag.clone());
            }
            pair.change(now);
        });
        if counted.is_some() {
            images.into_iter().for_each(|(tag, _)| self.withdraw_record(id, tag));
        }
    }

    /// Starts the next deletion of a pair that is decided, once the store has it, and nothing is copied to the pair.
    fn go_on_deleting(&mut self, id: PairId, now: Timestamp) {
        let pair = &self.pairs[&id];
        if pair.deletions.decided.is_empty() || !self.deletes() {
            return;
        }
        if let Some(at) = self.copies_begin_at(now) {
            return self.deletions.due.set_no_later(id, at);
        }
        self.deletions.busy.insert(id);
        if pair.deletions.running.is_some() || !pair.running.is_empty() {
            return;
        }
        if !pair.has_stored_deletions() {
            self.touch(id, now, |pair| pair.is_awaited = true);
            return;
        }
        match pair.deletions.next(now).cloned() {
            Ok(tag) => self.start_deletion(id, &tag, now),
            Err(_) if self.orders.once.is_some() => drop(self.deletions.busy.remove(&id)),
            Err(next) => next.into_iter().for_each(|at| self.deletions.due.set_no_later(id, at)),
        }
    }

    fn start_deletion(&mut self, id: PairId, tag: &Tag, now: Timestamp) {
        let copy = self.next_copy;
        let group = Group { number: copy, size: 1 };
        // Without a Registry it waits for new orders.
        let Some(assignment) = self.assignment(id, tag, group, false) else { return };
        self.next_copy += 1;
        let (place, tag, digest) = (assignment.place.clone(), tag.clone(), assignment.digest.clone());
        self.writing.insert((place.clone(), tag.clone()), copy);
        self.deletions.running.insert(copy, RunningDeletion { pair: id, place, tag, digest });
        let leaving = self.touch(id, now, |pair| {
            pair.deletions.running = Some(copy);
            let decided = pair.deletions.decided.iter();
            decided.filter_map(|tag| Some((tag.clone(), leaving_tag(pair.ledger.row(tag)?)?))).collect()
        });
        let deletion = Deletion { assignment: Arc::new(assignment), leaving: leaving.unwrap_or_default() };
        self.effects.push(Effect::DeleteTag(copy, Arc::new(deletion)));
    }

    pub(super) fn take_tag_deleted(
        &mut self,
        copy: super::CopyId,
        outcome: Option<DeletionOutcome>,
        jitter: f64,
        now: Timestamp,
    ) {
        let Some(RunningDeletion { pair: id, place, tag, digest }) = self.deletions.running.remove(&copy) else {
            return;
        };
        self.stop_writing(copy, &place, &tag);
        self.progressed_at = now;
        if outcome.as_ref().is_none_or(|outcome| outcome.is_unanswered) {
            self.doubt(&place, &tag, true, now);
        }
        match self.pairs.get(&id).is_some_and(|pair| pair.deletions.running == Some(copy)) {
            true => self.settle_deletion(id, &tag, outcome, jitter, now),
            false => self.pair_at(&place).into_iter().for_each(|id| self.follow_up(id, &tag, &digest, now)),
        }
        if self.pairs.get(&id).is_some_and(|pair| pair.ledger.row(&tag).is_some_and(|row| !row.is_leaving())) {
            self.follow_up(id, &tag, &digest, now);
        }
        self.release(id, now);
        if let Some(later) = self.pair_at(&place).filter(|later| *later != id) {
            self.release(later, now);
        }
    }

    fn settle_deletion(
        &mut self,
        id: PairId,
        tag: &Tag,
        outcome: Option<DeletionOutcome>,
        jitter: f64,
        now: Timestamp,
    ) {
        let is_once = self.orders.once.is_some();
        let result = outcome.map(|outcome| outcome.result);
        let is_at_source = matches!(result, Some(Ok(Removal::AtSource)));
        if matches!(result, Some(Ok(Removal::Done))) {
            self.note_deleted(id, tag);
        }
        let forgotten = self.touch(id, now, |pair| {
            pair.deletions.running = None;
            pair.change(now);
            match result {
                None => false,
                Some(Ok(Removal::AtSource)) => {
                    pair.ledger.doubt_absence(tag);
                    false
                }
                Some(Ok(Removal::Done | Removal::Absent | Removal::Changed(_))) => pair.ledger.forget_deleted(tag),
                Some(Err(CodedError { code, message, retry_after, is_transient })) => {
                    let attempts = 1 + pair.deletions.failed.get(tag).map_or(0, |failed| failed.attempts);
                    let pause = retry_delay(code, attempts, retry_after, jitter);
                    let next_attempt_at = if is_once { Timestamp::MAX } else { now + pause };
                    let failed = FailedDeletion { message, is_transient, attempts, next_attempt_at };
                    pair.deletions.failed.insert(tag.clone(), failed);
                    false
                }
            }
        });
        if let Some(pair) = self.pairs.get_mut(&id) {
            pair.deletions.retain(&pair.ledger);
        }
        let repository = self.pairs[&id].key.repository.clone();
        if forgotten == Some(true) {
            self.forget_tags(id, vec![tag.clone()]);
        }
        self.record_missed(id);
        if is_at_source && self.is_active() && self.ending.is_none() {
            self.looks += 1;
            self.effects.push(Effect::Look { repository, tag: tag.clone(), hinted: None });
        }
    }

    /// Returns the pair of an image in whose place something is being deleted, perhaps for an earlier pair: a manifest
    /// that is deleted there may be the one that is copied.
    pub(super) fn deleting(&self, queued: &Queued) -> Option<PairId> {
        let is_busy = |pair: &Pair| self.deletions.running.values().any(|running| running.place == pair.place);
        let is_deleting = |id: &&PairId| self.pairs.get(id).is_some_and(is_busy);
        queued.pairs.iter().find(is_deleting).copied()
    }

    /// Has the deletions of a pair decided anew, if it has any.
    pub(super) fn deletions_may_go_on(&mut self, id: PairId, now: Timestamp) {
        if self.deletions.busy.contains(&id) || self.deletions.held.contains_key(&id) {
            self.deletions.due.set(id, Some(now));
        }
    }

    /// Has all deletions that wait decided anew.
    pub(super) fn reconsider_deletions(&mut self, now: Timestamp) {
        let waiting: BTreeSet<PairId> = self.deletions.held.keys().chain(&self.deletions.busy).copied().collect();
        waiting.into_iter().for_each(|id| self.deletions.due.set(id, Some(now)));
    }

    /// Returns the fate of tags that complete lists lack, and has deletions decided after such a list.
    pub(super) fn fate_of_absent(&self, id: PairId) -> AbsentTags {
        let interval = self.configuration.as_ref().map(|configured| configured.pace.proof_interval());
        match (self.pairs.get(&id).and_then(|pair| pair.deletions.brake), interval) {
            (Some(_), Some(interval)) => AbsentTags::Proved(interval),
            _ => AbsentTags::Forgotten,
        }
    }

    /// Has the deletions of a pair decided after a list, if tags are leaving.
    pub(super) fn note_leaving(&mut self, id: PairId, now: Timestamp) {
        self.deletions_may_go_on(id, now);
        if self.pairs.get(&id).is_some_and(|pair| pair.ledger.leaving().next().is_some()) {
            self.deletions.due.set(id, Some(now));
        }
    }

    /// Lists the repository of a tag that is said to be deleted, and would be deleted at a destination: a look alone
    /// proves nothing.
    pub(super) fn take_absent(&mut self, repository: &RepositoryName, tag: &Tag, now: Timestamp) {
        let ids = self.pairs.of_repository(repository).iter();
        let is_news = |id: &PairId| {
            let pair = &self.pairs[id];
            let row = pair.ledger.row(tag).filter(|_| pair.deletions.brake.is_some());
            row.is_some_and(|row| row.written.is_some() && row.absent_since().is_none())
        };
        if ids.into_iter().any(is_news) {
            self.list_soon(repository, now);
        }
    }

    /// Notes the approval of a person, if it is about exactly the deletions that are held.
    pub(super) fn approve_deletions(&mut self, now: Timestamp) {
        let Some(approved) = self.orders.approved_deletions.clone() else { return };
        let limited: Vec<(PairId, PlannedDeletion)> = self.limited();
        let planned: Vec<PlannedDeletion> = limited.iter().map(|(_, deletion)| deletion.clone()).collect();
        if planned.is_empty() || self.plan_hash(&planned) != approved {
            return;
        }
        self.deletions.approval = Some(approved);
        for (id, PlannedDeletion { tag, digest, .. }) in limited {
            if let Some(pair) = self.pairs.get_mut(&id) {
                pair.deletions.approved.insert((tag, digest));
            }
            self.deletions.due.set(id, Some(now));
        }
    }

    fn plan_hash(&self, planned: &[PlannedDeletion]) -> String {
        deletion_plan_hash(planned, self.deletions.history.approved.as_deref())
    }

    /// Returns the deletions that the brake holds.
    fn limited(&self) -> Vec<(PairId, PlannedDeletion)> {
        let held = self.deletions.held.iter().filter(|(_, held)| held.reason == reason::DELETION_LIMIT);
        held.flat_map(|(id, held)| held.planned.iter().map(|planned| (*id, planned.clone()))).collect()
    }

    /// Makes the condition about the deletions that wait: for an approval, for a permission, or for a destination.
    fn describe_deletions(&mut self) {
        let limited: Vec<PlannedDeletion> = self.limited().into_iter().map(|(_, planned)| planned).collect();
        let denied = self.deletions.held.values().find(|held| held.reason == reason::DELETION_NOT_PERMITTED);
        let failed = || {
            let mut pairs = self.deletions.busy.iter().filter_map(|id| self.pairs.get(id));
            pairs.find_map(|pair| {
                let (tag, failed) = pair.deletions.failed.iter().next()?;
                let (count, target) = (pair.deletions.failed.len(), &pair.key.target);
                Some(format!("{count} deletions failed, such as that of {target}:{tag}: {}", failed.message))
            })
        };
        self.deletions.condition = if !limited.is_empty() {
            Some((reason::DELETION_LIMIT, describe_held(&limited, &self.plan_hash(&limited))))
        } else if let Some(HeldDeletions { message, planned, .. }) = denied {
            let message = format!("{} deletions wait at {}: {message}", planned.len(), planned[0].place);
            Some((reason::DELETION_NOT_PERMITTED, message))
        } else {
            failed().map(|message| (reason::DELETION_FAILED, message))
        };
    }

    /// Forgets the deletions of a pair that is dropped, but for their counts. Returns true if there are any.
    pub(super) fn drop_deletions(&mut self, id: PairId, pair: &Pair, now: Timestamp) -> bool {
        self.deletions.due.set(id, None);
        self.deletions.busy.remove(&id);
        let is_held = self.deletions.held.remove(&id).is_some();
        if is_held {
            self.describe_deletions();
        }
        let (registry, target) = pair.key.to();
        self.deletions.history.keep((registry, target.as_str()), &pair.deletions.counts, now)
    }

    /// Returns true if images are deleted at all.
    fn deletes(&self) -> bool {
        self.orders.deletes && !self.orders.is_dry
    }
}

fn leaving_tag(row: &Row) -> Option<LeavingTag> {
    Some(LeavingTag { recorded: row.written.clone()?, is_outside: row.is_outside() })
}

/// Decides by the watched policies if the images of a pair may be deleted.
fn deletion_decision(orders: &super::Orders, key: &PairKey) -> Decision {
    orders.decide(Action::DeleteImage, &key.destination, key.target.as_str())
}
