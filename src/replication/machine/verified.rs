//! A pair takes an image that was verified.

use jiff::Timestamp;

use super::pair::Pair;
use crate::image::{Digest, Tag};
use crate::plan::{Replica, Row};

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
