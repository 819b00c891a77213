//! Tags of which the store may still have a record that was withdrawn: a store may write records together with the
//! status.

use std::collections::BTreeSet;

use crate::image::Tag;

/// The records of a pair that were withdrawn since its status was last written.
#[derive(Debug, Default)]
pub(super) struct Withdrawals {
    open: BTreeSet<Tag>,
    publishing: BTreeSet<Tag>,
    /// Every record was withdrawn, before the status that is being written or after it.
    all: bool,
    all_publishing: bool,
}

impl Withdrawals {
    /// Records that the record of a tag was withdrawn.
    pub(super) fn add(&mut self, tag: Tag) {
        self.open.insert(tag);
    }

    /// Records that every record was withdrawn.
    pub(super) fn add_all(&mut self) {
        self.all = true;
    }

    /// Returns true if the store may still have a record of a tag that was withdrawn.
    pub(super) fn contain(&self, tag: &Tag) -> bool {
        self.all || self.all_publishing || self.open.contains(tag) || self.publishing.contains(tag)
    }

    /// Returns true if the next status takes withdrawals along.
    pub(super) fn are_open(&self) -> bool {
        self.all || !self.open.is_empty()
    }

    /// Records that a status is being written.
    pub(super) fn begin(&mut self) {
        self.publishing.append(&mut self.open);
        self.all_publishing |= std::mem::take(&mut self.all);
    }

    /// Records how that ended.
    pub(super) fn end(&mut self, is_written: bool) {
        let all = std::mem::take(&mut self.all_publishing);
        let publishing = std::mem::take(&mut self.publishing);
        if !is_written {
            self.all |= all;
            self.open.extend(publishing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_is_stored_once_a_status_was_written_after_it() {
        let (mut withdrawals, first, second): (_, Tag, Tag) =
            (Withdrawals::default(), "v1".parse().unwrap(), "v2".parse().unwrap());
        withdrawals.add(first.clone());
        withdrawals.begin();
        withdrawals.add(second.clone());
        withdrawals.end(false);
        assert!(withdrawals.contain(&first) && withdrawals.are_open(), "it was not written");
        withdrawals.begin();
        withdrawals.add(second.clone());
        withdrawals.end(true);
        assert!(!withdrawals.contain(&first) && withdrawals.contain(&second), "it came while the status was written");
        withdrawals.add_all();
        withdrawals.begin();
        assert!(withdrawals.contain(&first) && !withdrawals.are_open());
        withdrawals.end(true);
        assert!(!withdrawals.contain(&first));
    }
}
