//! The queue of images, the copies that run, and how each ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::state::{Queued, RunningCopy, Slot};
use super::{Assignment, CopyId, CopyProgress, Effect, Group, Machine, Outcome, Pair, PairId, Record};
use crate::image::{Digest, Tag};
use crate::plan::{Attempt, Claims, CodedError, FailedAttempt, RepositoryAddress, image_status};
use crate::terms::FailureCode;

impl Machine {
    /// Has the tag copied to these pairs when its turn comes; an urgent one is next.
    pub(super) fn enqueue(&mut self, tag: &Tag, ids: Vec<PairId>, is_urgent: bool) {
        let mut pairs = Vec::new();
        let begins = !self.orders.is_dry && !self.is_draining();
        for id in ids.into_iter().filter(|_| begins) {
            if let Some(pair) = self.pairs.get_mut(&id)
                && !pair.running.contains_key(tag)
                && (pair.queued.insert(tag.clone()) || (is_urgent && !pair.urgent.contains(tag)))
            {
                if is_urgent {
                    pair.urgent.insert(tag.clone());
                }
                pairs.push(id);
            }
        }
        if pairs.is_empty() {
            return;
        }
        let queued = Queued { tag: tag.clone(), pairs, is_urgent };
        if is_urgent {
            self.queue.push_front(queued);
        } else {
            self.queue.push_back(queued);
        }
    }

    pub(super) fn queue_retries(&mut self, now: Timestamp) {
        if self.orders.once.is_some() {
            self.queue_attempts(now);
            return;
        }
        while let Some(id) = self.retries.pop(now) {
            let Some(pair) = self.pairs.get(&id) else { continue };
            let (due, next) = pair.ledger.due(now);
            self.retries.set(id, next.map(|next| next.max(now + RETRY_TOGETHER)));
            for tag in due {
                self.enqueue(&tag, vec![id], false);
            }
        }
    }

    pub(super) fn start_copies(&mut self, now: Timestamp) {
        self.look_at_windows(now);
        if self.copies_begin_at(now).is_some() {
            return;
        }
        while let Some(next) = self.queue.front()
            && self.copies.len() < if next.is_urgent { MAX_COPIES } else { MAX_COPIES - RESERVED_COPIES }
            && (next.is_urgent || self.slots_taken(now) < self.slots())
            && let Some(queued) = self.queue.pop_front()
        {
            let queued = self.without_held(queued);
            if queued.pairs.is_empty() {
                continue;
            }
            if let Some(id) = self.deleting(&queued) {
                self.ahead.hold(id, queued);
                continue;
            }
            match self.claiming(&queued, now) {
                Some(id) => self.hold(id, queued, now),
                None => self.start(queued, now),
            }
        }
    }

    fn start(&mut self, queued: Queued, now: Timestamp) {
        let Queued { tag, pairs, is_urgent } = queued;
        let group = Group { number: self.next_copy, size: pairs.len() };
        for id in pairs {
            if self.start_copy(id, &tag, (group, is_urgent), now) {
                self.groups.entry(group.number).or_insert(Slot { running: 0, began_at: now }).running += 1;
            }
        }
    }

    fn start_copy(&mut self, id: PairId, tag: &Tag, (group, is_urgent): (Group, bool), now: Timestamp) -> bool {
        let Some(pair) = self.pairs.get_mut(&id) else { return false };
        pair.queued.remove(tag);
        pair.urgent.remove(tag);
        // An attempt with an earlier digest ends first: what it writes must not come after what this one writes.
        let is_writing = self.writing.contains_key(&(pair.place.clone(), tag.clone()));
        let Some(row) = pair.ledger.row(tag) else { return false };
        if is_writing || row.observed_at < self.observe_from.max(pair.observe_from) {
            self.touch(id, now, |_| ());
            return false;
        }
        let Attempt::Copy(digest) = pair.ledger.attempt(tag, now) else { return false };
        if self.refuse(id, tag, (&digest, is_urgent), now) {
            return false;
        }
        let Some(assignment) = self.assignment(id, tag, group, is_urgent) else {
            let has_source = self.orders.registries.contains_key(&self.source());
            let code = if has_source { FailureCode::DestinationNotReady } else { FailureCode::SourceNotReady };
            let message = "its Registry does not exist: see the condition Ready of the configuration".to_owned();
            self.fail(id, tag, &digest, (code, message), now);
            return false;
        };
        self.run(id, group.number, Arc::new(assignment), now);
        true
    }

    fn run(&mut self, id: PairId, group: u64, assignment: Arc<Assignment>, now: Timestamp) {
        let copy = self.next_copy;
        self.next_copy += 1;
        let Assignment { tag, place, digest, options, .. } = assignment.as_ref();
        self.touch(id, now, |pair| {
            pair.ledger.begin(tag, pair.options.referrers);
            pair.running.insert(tag.clone(), copy);
        });
        self.writing.insert((place.clone(), tag.clone()), copy);
        let (place, tag, digest, options) = (place.clone(), tag.clone(), digest.clone(), options.clone());
        self.copies.insert(copy, Box::new(RunningCopy { pair: id, place, tag, digest, options, group }));
        self.effects.push(Effect::Copy(copy, assignment));
    }

    pub(super) fn take_progress(&mut self, copy: CopyId, progress: CopyProgress, now: Timestamp) {
        let Some(RunningCopy { pair, tag, digest, .. }) = self.copies.get(&copy).map(AsRef::as_ref) else { return };
        self.progressed_at = now;
        let (id, tag, digest) = (*pair, tag.clone(), digest.clone());
        self.touch(id, now, |pair| {
            let is_new = match progress {
                CopyProgress::Running(_) if pair.refused.is_some() => false,
                CopyProgress::Running(bytes) => pair.ledger.progress(&tag, &digest, bytes),
                CopyProgress::Waiting => pair.ledger.interrupt(&tag),
            };
            if is_new {
                pair.change(now);
            }
        });
    }

    pub(super) fn take_ended(
        &mut self,
        copy: CopyId,
        outcome: Option<Outcome>,
        jitter: f64,
        claims: &mut Claims,
        now: Timestamp,
    ) {
        let Some(copied) = self.copies.remove(&copy) else { return };
        let RunningCopy { pair: id, place, tag, digest, options, group } = *copied;
        self.progressed_at = now;
        self.stop_writing(copy, &place, &tag);
        self.leave_slot(group);
        // The pair may have been dropped and made anew meanwhile: what is known of the write concerns that one then.
        let id = if self.pairs.contains_key(&id) { id } else { self.pair_at(&place).unwrap_or(id) };
        let doubt_until = self.doubt(&place, &tag, outcome.as_ref().is_none_or(|it| it.is_unanswered), now);
        let moved = outcome.as_ref().map_or(0, |outcome| outcome.moved);
        // It was copied as the rule said before it changed, or before another may have written there.
        let is_present = |pair: &Pair| options == pair.options && copy >= pair.copies_from;
        let outcome = outcome.filter(|_| self.pairs.get(&id).is_none_or(is_present));
        let failed = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().err());
        let failed = failed.map(|failed| (failed.retry_after, failed.is_transient));
        let code = outcome.as_ref().map(|outcome| outcome.result.as_ref().err().map(|failed| failed.code));
        let listed = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok()?.listed.clone());
        self.take_copied_referrers(id, &digest, listed);
        let was_complete = self.pairs.get(&id).is_some_and(|pair| pair.ledger.is_complete(&tag));
        let verified = self.touch(id, now, |pair| {
            if pair.running.get(&tag) == Some(&copy) {
                pair.running.remove(&tag);
            }
            pair.change(now);
            pair.usage.take_moved(moved);
            let Some(Outcome { permission, result, .. }) = outcome else {
                pair.ledger.interrupt(&tag);
                return false;
            };
            pair.permission = Some(permission);
            match result {
                Ok(replica) => pair.complete((&tag, &digest), replica, doubt_until, now),
                Err(CodedError { code, message, retry_after, .. }) => {
                    pair.ledger.fail(&tag, &digest, FailedAttempt { code, message, retry_after, jitter }, now);
                    false
                }
            }
        });
        self.note_verified(id, &tag, (was_complete, verified == Some(true)), now);
        self.settle(id, &tag, failed, jitter, now);
        code.into_iter().for_each(|failed| self.take_refusal((id, &tag), failed, jitter, now));
        self.deletions_may_go_on(id, now);
        self.follow_up(id, &tag, &digest, now);
        match code {
            Some(None) => self.note_credentials(id, false, claims, now),
            Some(Some(FailureCode::DestinationDenied)) if copy >= self.places.weighed_from => {
                self.note_credentials(id, true, claims, now);
            }
            Some(Some(FailureCode::DestinationConflict)) => self.note_writable(id, claims, now),
            _ => {}
        }
    }

    /// Records that a copy or a deletion writes the tag no more.
    pub(super) fn stop_writing(&mut self, copy: CopyId, place: &RepositoryAddress, tag: &Tag) {
        let key = (place.clone(), tag.clone());
        if self.writing.get(&key) == Some(&copy) {
            self.writing.remove(&key);
        }
    }

    /// Frees the slot of a group once the last of its copies has ended.
    fn leave_slot(&mut self, group: u64) {
        let Some(slot) = self.groups.get_mut(&group) else { return };
        slot.running -= 1;
        if slot.running == 0 {
            self.groups.remove(&group);
        }
    }

    /// Returns the time until which a write of the tag that was sent earlier, and never answered, may still take
    /// effect.
    pub(super) fn doubt(
        &mut self,
        place: &RepositoryAddress,
        tag: &Tag,
        is_unanswered: bool,
        now: Timestamp,
    ) -> Timestamp {
        if is_unanswered {
            self.places.doubts.retain(|_, until| *until > now);
            self.places.doubts.insert((place.clone(), tag.clone()), now + DOUBT_AFTER_WRITE);
        }
        let of_tag = self.places.doubts.get(&(place.clone(), tag.clone())).copied();
        let of_pair = self.pair_at(place).map(|id| self.pairs[&id].doubt_until);
        [of_tag, of_pair].into_iter().flatten().fold(self.doubt_until, Timestamp::max)
    }

    pub(super) fn record(&mut self, id: PairId, tag: &Tag) {
        let pair = &self.pairs[&id];
        if let Some(row) = pair.ledger.row(tag).filter(|_| pair.ledger.is_complete(tag)) {
            let verified = Record::Verified(Box::new(image_status(tag, row)));
            self.effects.push(Effect::Record(pair.identity.clone(), verified));
        }
    }

    fn note_verified(&mut self, id: PairId, tag: &Tag, (was_complete, is_verified): (bool, bool), now: Timestamp) {
        if is_verified {
            self.take_verified(id, tag, was_complete, now);
        }
        if self.pairs.get(&id).is_some_and(|pair| was_complete && !pair.ledger.is_complete(tag)) {
            self.withdraw_record(id, tag.clone());
        }
    }

    /// The next step for a tag whose copy has ended.
    pub(super) fn follow_up(&mut self, id: PairId, tag: &Tag, copied: &Digest, now: Timestamp) {
        let Some(pair) = self.pairs.get(&id) else { return };
        match pair.ledger.attempt(tag, now) {
            Attempt::Copy(_) if self.is_active() && self.ending.is_none() => {
                // A newer digest that came while an earlier one was copied is as urgent as a push.
                let has_moved = pair.ledger.row(tag).is_some_and(|row| row.digest != *copied);
                self.enqueue(tag, vec![id], has_moved);
            }
            _ => {
                if let Some(due) = pair.ledger.due_at(tag) {
                    self.retries.set_no_later(id, due);
                }
            }
        }
    }

    fn fail(&mut self, id: PairId, tag: &Tag, digest: &Digest, (code, message): (FailureCode, String), now: Timestamp) {
        let failed = FailedAttempt { code, message, retry_after: None, jitter: 0.5 };
        self.touch(id, now, |pair| {
            pair.ledger.fail(tag, digest, failed, now);
            pair.change(now);
        });
        self.follow_up(id, tag, digest, now);
    }

    pub(super) fn pair_at(&self, place: &RepositoryAddress) -> Option<PairId> {
        self.places.pairs.get(place)?.first().copied()
    }

    /// Stops every copy; what it was about waits again.
    pub(super) fn stop_copies(&mut self, now: Timestamp) {
        self.queue.clear();
        self.ahead.clear();
        let busy = self.pairs.iter().filter(|(_, pair)| !pair.is_at_rest());
        let busy: Vec<PairId> = busy.map(|(id, _)| *id).collect();
        for id in busy {
            self.touch(id, now, |pair| {
                pair.queued.clear();
                pair.urgent.clear();
                pair.is_awaited = false;
                pair.change(now);
            });
        }
        self.effects.extend(self.copies.keys().chain(self.deletions.running.keys()).map(|copy| Effect::Stop(*copy)));
    }

    /// From now on images are copied as the rules say. Where that is something else than before, copies stop and every
    /// image is looked at again.
    pub(super) fn apply_options(&mut self, now: Timestamp) {
        let Some(configuration) = self.configuration.clone() else { return };
        let ids: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in ids {
            let key = &self.pairs[&id].key;
            let rules = configuration.selection.rules_to(&key.repository, key.to());
            let Some(wanted) = rules.first() else { continue };
            let changed = self.touch(id, now, |pair| {
                let is_other = wanted.options.fingerprint() != pair.options.fingerprint();
                let is_conflict_other = wanted.options.on_tag_conflict != pair.options.on_tag_conflict;
                let is_due = is_conflict_other && pair.ledger.make_due(now, FailureCode::is_skip);
                pair.options = wanted.options.clone();
                pair.deletions.brake = wanted.deletion;
                if is_other {
                    pair.ledger.start_over(now);
                    pair.change(now);
                }
                (is_other, is_due)
            });
            self.deletions_may_go_on(id, now);
            let (is_other, is_due) = changed.unwrap_or_default();
            if is_due {
                self.retries.set(id, Some(now));
            }
            if is_other {
                let pair = &self.pairs[&id];
                self.effects.extend(pair.running.values().map(|copy| Effect::Stop(*copy)));
                let record = Record::StartedOver(pair.options.fingerprint());
                self.effects.push(Effect::Record(pair.identity.clone(), record));
                self.retries.set(id, Some(now));
            }
        }
    }

    /// Asks the windows of the spec anew when their state may have changed. Copies that are asked for once, by a person,
    /// need no window.
    pub(super) fn look_at_windows(&mut self, now: Timestamp) {
        if self.window.until <= now
            && let Some(configuration) = self.configuration.as_ref().filter(|_| self.orders.once.is_none())
        {
            self.window = configuration.windows.at(now);
        }
    }

    /// Returns the time from which copies may begin, if they may not yet.
    pub(super) fn copies_begin_at(&self, now: Timestamp) -> Option<Timestamp> {
        let opens = (!self.window.is_open).then_some(self.window.until);
        opens.max(Some(self.copy_from)).filter(|at| *at > now)
    }

    /// Returns true if images wait for a window of the spec.
    pub(super) fn waits_for_window(&self) -> bool {
        !self.window.is_open && !self.queue.is_empty()
    }

    /// Images that are copied at once.
    fn slots(&self) -> usize {
        self.orders.slots
    }

    /// Images whose copies take a slot: one that takes long makes room for others.
    fn slots_taken(&self, now: Timestamp) -> usize {
        self.groups.values().filter(|group| group.began_at + SLOW_AFTER > now).count()
    }

    /// Returns the time at which a slot comes free because its image takes long.
    pub(super) fn slot_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.groups.values().map(|group| group.began_at + SLOW_AFTER).filter(|at| *at > now).min()
    }
}

/// An image that is copied for so long no longer keeps others waiting.
const SLOW_AFTER: Duration = Duration::from_secs(30);
const MAX_COPIES: usize = 256;
/// Copies among them that only pushes take: they never wait behind a backfill.
const RESERVED_COPIES: usize = 32;
/// For how long a write that nothing waits for any more may still take effect.
const DOUBT_AFTER_WRITE: Duration = Duration::from_secs(60);
/// Retries of one pair that are due within so long start together: each start looks at every row.
const RETRY_TOGETHER: Duration = Duration::from_millis(500);
