//! The images of a pair that are verified.

use jiff::Timestamp;

use super::pair::Pair;
use super::{Machine, PairId};
use crate::image::{Digest, Tag};
use crate::plan::{Replica, Row, image_status};
use crate::terms::ImageStatus;

impl Machine {
    /// Returns every verified image of a pair.
    pub(crate) fn verified_images(&self, id: PairId) -> Vec<ImageStatus> {
        let Some(pair) = self.pairs.get(&id) else { return Vec::new() };
        let complete = pair.ledger.rows().filter(|(tag, _)| pair.ledger.is_complete(tag));
        complete.map(|(tag, row)| image_status(tag, row)).collect()
    }
}

impl Pair {
    /// Takes an image that was verified. Returns true if it counts as that: not where its tag has moved on at the source,
    /// or its deletion was decided meanwhile.
    pub(super) fn complete(
        &mut self,
        (tag, digest): (&Tag, &Digest),
        replica: Replica,
        doubt_until: Timestamp,
        now: Timestamp,
    ) -> bool {
        self.usage.take_verified(&replica.content, now);
        let is_complete = self.ledger.complete(tag, digest, replica, doubt_until, now);
        if !self.ledger.row(tag).is_some_and(Row::is_leaving) {
            self.deletions.decided.remove(tag); // It is at the source again, or nothing is to be deleted any more.
        }
        if self.deletions.decided.contains(tag) {
            self.ledger.unverify(tag, now);
            return false;
        }
        is_complete
    }
}
