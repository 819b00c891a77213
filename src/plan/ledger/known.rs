//! Known tags: those whose digest was verified, and that are observed again now and then to see if they have moved.

use std::ops::Bound;

use jiff::Timestamp;

use super::{Ledger, RowState};
use crate::image::Tag;

impl Ledger {
    /// Returns true if the digest of a tag is verified at the destination, and the tag could be read when it was last
    /// observed.
    pub fn is_known(&self, tag: &Tag) -> bool {
        self.is_complete(tag) && !self.unread.contains_key(tag)
    }

    /// Returns the first known tag behind `after` that the last complete list had and that was last observed before a
    /// time.
    pub fn next_known(&self, after: Option<&Tag>, before: Timestamp) -> Option<&Tag> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.rows.range((behind, Bound::Unbounded));
        rows.find_map(|(tag, row)| {
            let is_due = row.observed_at < before && row.absence.is_none();
            let is_complete = matches!(row.state, RowState::Complete { .. });
            (is_due && is_complete && !self.unread.contains_key(tag)).then_some(tag)
        })
    }

    /// Returns the tag at a place in the order of tags.
    pub fn tag_at(&self, place: usize) -> Option<&Tag> {
        self.rows.keys().nth(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::plan::{FailedRead, Replica};
    use crate::terms::FailureCode;

    #[test]
    fn known_tags_come_in_their_order_until_they_are_observed_again() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let tag = |name: &str| name.parse::<Tag>().unwrap();
        let (mut ledger, digest) = (Ledger::default(), Digest::sha256(b"x"));
        for name in ["a", "b", "c", "open"] {
            ledger.observe(&tag(name), &digest, at(1), at(1));
            if name != "open" {
                ledger.complete(&tag(name), &digest, Replica::default(), at(0), at(2));
            }
        }
        let next = |ledger: &Ledger, after: Option<&str>, before| {
            ledger.next_known(after.map(tag).as_ref(), at(before)).map(ToString::to_string)
        };
        assert_eq!(next(&ledger, None, 5).as_deref(), Some("a"));
        assert_eq!(next(&ledger, Some("a"), 5).as_deref(), Some("b"));
        assert_eq!((next(&ledger, Some("c"), 5), next(&ledger, None, 1)), (None, None));
        ledger.observe(&tag("b"), &digest, at(6), at(6));
        assert_eq!(next(&ledger, Some("a"), 5).as_deref(), Some("c"), "b was observed meanwhile");
        let failed = FailedRead { code: FailureCode::ImageNotFound, message: String::new(), is_of_tag: true };
        ledger.fail_to_read(&tag("c"), failed, at(7), at(7));
        assert_eq!((next(&ledger, Some("a"), 9).as_deref(), next(&ledger, Some("b"), 9)), (Some("b"), None));
        assert_eq!(
            (ledger.is_known(&tag("b")), ledger.is_known(&tag("c")), ledger.is_known(&tag("open"))),
            (true, false, false)
        );
        assert_eq!((ledger.tag_at(3), ledger.tag_at(4)), (Some(&tag("open")), None));
    }
}
