//! Copies that wait until the store no longer says that a tag has the content that they overwrite.
//!
//! A process that ended between the write of a tag and that of its status would leave a status that says COMPLETE of a
//! content that is gone; the next process believes it once the source has that content again.

use jiff::Timestamp;

use super::state::Queued;
use super::{Machine, PairId};
use crate::plan::Attempt;

impl Machine {
    /// Returns the first pair of an image whose stored status may say that the tag has another content than is to be
    /// written.
    pub(super) fn claiming(&self, queued: &Queued, now: Timestamp) -> Option<PairId> {
        let is_claiming = |id: &&PairId| {
            let Some(pair) = self.pairs.get(id) else { return false };
            let is_writing = self.writing.contains_key(&(pair.place.clone(), queued.tag.clone()));
            match pair.ledger.attempt(&queued.tag, now) {
                Attempt::Copy(digest) if !is_writing => pair.may_claim(&queued.tag, &digest),
                _ => false,
            }
        };
        queued.pairs.iter().find(is_claiming).copied()
    }

    /// Has an image wait for the store's answer about a pair, whose status is published at once.
    pub(super) fn hold(&mut self, id: PairId, queued: Queued, now: Timestamp) {
        self.ahead.hold(id, queued);
        self.touch(id, now, |pair| pair.is_awaited = true);
    }

    /// Queues the images again that waited for a pair.
    pub(super) fn release(&mut self, id: PairId, now: Timestamp) {
        let waiting = self.ahead.take(id);
        if self.pairs.get(&id).is_some_and(|pair| pair.is_awaited) {
            self.touch(id, now, |pair| pair.is_awaited = false);
        }
        self.deletions_may_go_on(id, now);
        waiting.into_iter().rev().for_each(|queued| self.queue.push_front(queued));
    }
}
