//! The times of pushes, as notifications state them.

use jiff::Timestamp;

use super::{Ledger, RowState};
use crate::image::{Digest, Tag};

impl Ledger {
    /// Records that a notification of the push of `digest` came at `at`: the image waits since then.
    pub fn pushed(&mut self, tag: &Tag, digest: &Digest, at: Timestamp) {
        self.change(tag, |row| {
            if row.digest == *digest && matches!(row.state, RowState::Pending) {
                row.since = row.since.min(at.into());
            }
        });
    }
}
