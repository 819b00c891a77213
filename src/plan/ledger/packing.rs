//! The memory of a ledger: full nodes, and texts that the ledgers of one repository share.

use std::mem;

use super::{Ledger, Row};
use crate::image::Tag;

impl Ledger {
    /// Packs the rows into as few nodes as hold them, if they have grown in number since the last time. Rows that are
    /// inserted one by one, in order, fill half of each.
    pub fn pack(&mut self) {
        if self.rows.len() > self.packed + self.packed / 8 {
            self.rows = mem::take(&mut self.rows).into_iter().collect();
            self.packed = self.rows.len();
        }
    }

    /// Takes the texts of tags and digests from another ledger that has the same ones, and packs the rows.
    pub fn share(&mut self, other: &Self) {
        let share = |(tag, mut row): (Tag, Box<Row>)| {
            let Some((shared, of)) = other.known(tag.as_str()).filter(|(_, of)| of.digest == row.digest) else {
                return (tag, row);
            };
            if row.written.as_ref() == Some(&row.digest) {
                row.written = Some(of.digest.clone());
            }
            row.digest = of.digest.clone();
            (shared.clone(), row)
        };
        self.rows = mem::take(&mut self.rows).into_iter().map(share).collect();
        self.packed = self.rows.len();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::image::Digest;
    use crate::plan::RecordedImages;
    use crate::terms::{ImageStatus, ReplicationState};

    fn image(number: usize) -> ImageStatus {
        let digest = Digest::sha256(number.to_string().as_bytes()).to_string();
        ImageStatus { status: ReplicationState::Complete, ..ImageStatus::pending(format!("v{number}"), digest) }
    }

    #[test]
    fn packing_and_sharing_change_no_row() {
        let now = Timestamp::UNIX_EPOCH;
        let images: Vec<ImageStatus> = (0..100).map(image).collect();
        let mut moved = images.clone();
        moved[7].digest = Digest::sha256(b"another").to_string();
        let (other, unshared) = (
            Ledger::restore(&RecordedImages::Shown, &moved, None, now),
            Ledger::restore(&RecordedImages::Shown, &images, None, now),
        );
        let mut ledger = Ledger::restore(&RecordedImages::Shown, &images, None, now);
        ledger.share(&other);
        ledger.pack();
        assert!(ledger.rows().eq(unshared.rows()) && ledger.counts() == unshared.counts());
        let is_shared = |tag: &str| {
            let tag: Tag = tag.parse().unwrap();
            let text = |ledger: &Ledger| ledger.row(&tag).unwrap().digest.as_str().as_ptr();
            text(&ledger) == text(&other)
        };
        assert_eq!((is_shared("v8"), is_shared("v7")), (true, false));
    }
}
