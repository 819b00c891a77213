//! The times and sentences of failures: some wait for others.

use jiff::Timestamp;

use super::{Ledger, RowFailure, RowState};
use crate::image::Tag;
use crate::terms::FailureCode;

impl Ledger {
    /// Makes every failure due now that `chosen` picks, since its cause may be gone. Returns true if there is any.
    pub fn make_due(&mut self, now: Timestamp, chosen: impl Fn(FailureCode) -> bool) -> bool {
        let mut any = false;
        for row in self.rows.values_mut() {
            if let RowState::Failed(failure) = &mut row.state
                && chosen(failure.code)
            {
                failure.next_attempt_at = failure.next_attempt_at.min(now);
                any = true;
            }
        }
        any
    }

    /// Makes the failure of `tag` due now.
    pub fn retry(&mut self, tag: &Tag, now: Timestamp) {
        if let Some(failure) = self.failure(tag) {
            failure.next_attempt_at = failure.next_attempt_at.min(now);
        }
    }

    /// Has a failed `tag` wait for [`Ledger::retry`] or [`Ledger::make_due`]. Returns the sentence of the failure.
    pub fn hold(&mut self, tag: &Tag) -> Option<String> {
        let failure = self.failure(tag)?;
        failure.next_attempt_at = Timestamp::MAX;
        Some(failure.message.clone())
    }

    /// Gives the failure of `tag` another sentence.
    pub fn reword(&mut self, tag: &Tag, message: &str) {
        if let Some(failure) = self.failure(tag) {
            message.clone_into(&mut failure.message);
        }
    }

    /// Gives all failures with `code` another sentence.
    pub fn reword_all(&mut self, code: FailureCode, message: &str) {
        for row in self.rows.values_mut() {
            if let RowState::Failed(failure) = &mut row.state
                && failure.code == code
            {
                message.clone_into(&mut failure.message);
            }
        }
    }

    fn failure(&mut self, tag: &Tag) -> Option<&mut RowFailure> {
        match &mut self.rows.get_mut(tag)?.state {
            RowState::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}
