//! Tags that the source lists and does not give: their failures stand in front of the rows.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Ledger;
use super::row::{Counts, Row, RowState};
use crate::image::{Digest, Tag};
use crate::terms::FailureCode;

/// A listed tag that could not be read when it was last observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadTag {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// The time since which the tag cannot be read.
    pub since: Timestamp,
    /// The time at which the request of the newest failed observation was sent.
    pub observed_at: Timestamp,
    /// True if the last complete listing lacked the tag, which has no row.
    missed: bool,
}

/// A failed read of a listed tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRead {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// True if the cause is this tag, false if it may be the source as a whole and pass.
    pub is_of_tag: bool,
}

/// The effect of a failed read on the entry of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadEntry {
    /// The tag has an entry with this failure now.
    Changed,
    /// The tag had an entry with the same failure.
    Same,
    /// The entry stays as it was: the digest of the tag is known, and the failure may pass.
    Hidden,
    /// A newer observation of the tag is known.
    Outdated,
}

/// One image as a status shows it.
#[derive(Clone, Copy, Debug)]
pub enum LedgerEntry<'a> {
    /// A tag as it was last observed.
    Row(&'a Row),
    /// A tag that cannot be read, with the digest that it had before, if any.
    Unread(&'a UnreadTag, Option<&'a Digest>),
}

impl LedgerEntry<'_> {
    /// Returns true if the image is verified, as far as the source can be read.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Row(row) if matches!(row.state, RowState::Complete { .. }))
    }

    /// Returns true if its tag has left the source: it waits to be deleted.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::Row(row) if row.is_leaving())
    }

    /// Returns true if the destination keeps the tag with other content.
    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Row(Row { state: RowState::Failed(failure), .. }) if failure.code.is_skip())
    }

    /// Returns the time since which the present digest is wanted, or the tag cannot be read.
    pub fn since(&self) -> Timestamp {
        match self {
            Self::Row(row) => row.since.get(),
            Self::Unread(unread, _) => unread.since,
        }
    }

    /// Returns the time at which the request of the newest observation was sent.
    pub fn observed_at(&self) -> Timestamp {
        match self {
            Self::Row(row) => row.observed_at.get(),
            Self::Unread(unread, _) => unread.observed_at,
        }
    }
}

impl Ledger {
    /// Records that the source listed `tag` and did not give it, in answer to a request of `sent_at`. A failure that
    /// may pass hides nothing that is known of the tag; one of the tag itself stands in front of its row until the tag
    /// can be read.
    pub fn fail_to_read(&mut self, tag: &Tag, failed: FailedRead, sent_at: Timestamp, now: Timestamp) -> UnreadEntry {
        let FailedRead { code, message, is_of_tag } = failed;
        let row = self.rows.get(tag);
        if row.is_some_and(|row| row.observed_at > sent_at) {
            return UnreadEntry::Outdated;
        }
        if let Some(unread) = self.unread.get_mut(tag) {
            if sent_at < unread.observed_at {
                return UnreadEntry::Outdated;
            }
            (unread.observed_at, unread.missed) = (sent_at, false);
            if (unread.code, &unread.message) == (code, &message) {
                return UnreadEntry::Same;
            }
            self.counts.exclude(&unread_counts(unread.code));
            self.counts.include(&unread_counts(code));
            (unread.code, unread.message) = (code, message);
            return UnreadEntry::Changed;
        }
        match row {
            Some(_) if !is_of_tag => return UnreadEntry::Hidden,
            Some(row) => self.counts.subtract(row),
            None => {}
        }
        self.counts.include(&unread_counts(code));
        self.unread.insert(tag.clone(), UnreadTag { code, message, since: now, observed_at: sent_at, missed: false });
        UnreadEntry::Changed
    }

    /// Returns the failure of a tag that cannot be read.
    pub fn unread(&self, tag: &Tag) -> Option<&UnreadTag> {
        self.unread.get(tag)
    }

    /// Returns true if a tag cannot be read for a cause that `chosen` picks.
    pub fn has_unread(&self, chosen: impl Fn(FailureCode) -> bool) -> bool {
        self.unread.values().any(|unread| chosen(unread.code))
    }

    /// Returns every image as a status shows it; the counts count these.
    pub fn entries(&self) -> impl Iterator<Item = (&Tag, LedgerEntry<'_>)> {
        let rows = self.rows.iter().map(|(tag, row)| match self.unread.get(tag) {
            Some(unread) => (tag, LedgerEntry::Unread(unread, Some(&row.digest))),
            None => (tag, LedgerEntry::Row(row)),
        });
        let others = self.unread.iter().filter(|(tag, _)| !self.rows.contains_key(*tag));
        rows.chain(others.map(|(tag, unread)| (tag, LedgerEntry::Unread(unread, None))))
    }

    /// Restores a tag without a digest that an earlier process could not read.
    pub(super) fn restore_unread(&mut self, tag: Tag, code: FailureCode, message: String, since: Timestamp) {
        self.counts.include(&unread_counts(code));
        self.unread.insert(tag, UnreadTag { code, message, since, observed_at: Timestamp::MIN, missed: false });
    }

    /// Records that a tag was read by a request of `sent_at`. Returns true if it could not be read before.
    pub(super) fn read_again(&mut self, tag: &Tag, sent_at: Timestamp) -> bool {
        let was_unread = self.unread.get(tag).is_some_and(|unread| unread.observed_at <= sent_at);
        if was_unread {
            self.forget_unread(tag);
        }
        was_unread
    }

    /// Forgets the tags without a row that a complete listing and the one before lack: they were deleted.
    pub(super) fn forget_unlisted(&mut self, listed: &BTreeSet<Tag>, begun: Timestamp) -> Vec<Tag> {
        let mut gone = Vec::new();
        for (tag, unread) in self.unread.iter_mut().filter(|(tag, _)| !self.rows.contains_key(*tag)) {
            let is_missed = unread.observed_at < begun && !listed.contains(tag);
            if is_missed && unread.missed {
                gone.push(tag.clone());
            }
            unread.missed = is_missed;
        }
        gone.iter().for_each(|tag| self.forget_unread(tag));
        gone
    }

    /// Removes the failure of a tag, so that its row counts again.
    pub(super) fn forget_unread(&mut self, tag: &Tag) {
        if let Some(unread) = self.unread.remove(tag) {
            self.counts.exclude(&unread_counts(unread.code));
            if let Some(row) = self.rows.get(tag) {
                self.counts.add(row);
            }
        }
    }

    /// Counts every entry anew.
    pub(super) fn recount(&mut self) {
        let mut counts = Counts::default();
        for (_, entry) in self.entries() {
            match entry {
                LedgerEntry::Row(row) => counts.add(row),
                LedgerEntry::Unread(unread, _) => counts.include(&unread_counts(unread.code)),
            }
        }
        self.counts = counts;
    }
}

/// Returns the counts of a tag that cannot be read.
fn unread_counts(code: FailureCode) -> Counts {
    Counts { images: 1, failed: 1, stuck: code.needs_user().into(), owed: 1, ..Counts::default() }
}
