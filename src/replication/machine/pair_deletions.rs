//! The deletions of one pair: what is decided, what runs, and what failed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::ids::CopyId;
use crate::image::{Digest, Tag};
use crate::plan::{DeletionBrake, DeletionCounts, Ledger};
use crate::terms::RecentDeletions;

/// The deletions of a pair.
#[derive(Debug, Default)]
pub(crate) struct PairDeletions {
    /// The brake; `None` to delete nothing.
    pub brake: Option<DeletionBrake>,
    /// The deletions of the last day, those that are decided included.
    pub counts: DeletionCounts,
    /// Tags that are counted, and are deleted once the store has that.
    pub decided: BTreeSet<Tag>,
    /// The deletion that runs.
    pub running: Option<CopyId>,
    /// The images whose deletion a person has approved.
    pub approved: BTreeSet<(Tag, Digest)>,
    /// The deletions that failed.
    pub failed: BTreeMap<Tag, FailedDeletion>,
}

/// A deletion that failed.
#[derive(Clone, Debug)]
pub(crate) struct FailedDeletion {
    /// A sentence.
    pub message: String,
    /// True if it may pass by itself; else a person has to do something.
    pub is_transient: bool,
    /// Failures so far.
    pub attempts: u32,
    /// The time of the next attempt.
    pub next_attempt_at: Timestamp,
}

impl PairDeletions {
    /// Restores the counts that an earlier process published, besides those that the configuration kept of the pair.
    pub(super) fn restore(&mut self, published: &[RecentDeletions]) {
        self.counts.take_larger(&DeletionCounts::restore(published));
    }

    /// Forgets what was about tags that are at the source again, or deleted.
    pub(super) fn retain(&mut self, ledger: &Ledger) {
        let is_leaving = |tag: &Tag| ledger.row(tag).is_some_and(|row| row.is_leaving());
        self.decided.retain(is_leaving);
        self.approved.retain(|(tag, _)| is_leaving(tag));
        self.failed.retain(|tag, _| is_leaving(tag));
    }

    /// Returns true if the deletion of `tag` is decided.
    pub(super) fn is_decided(&self, tag: &str) -> bool {
        self.decided.iter().any(|decided| decided.as_str() == tag)
    }

    /// Returns the next tag to delete, or else the time of the next attempt of one that failed.
    pub(super) fn next(&self, now: Timestamp) -> Result<&Tag, Option<Timestamp>> {
        let next_attempt_at = |tag: &Tag| self.failed.get(tag).map(|failed| failed.next_attempt_at);
        let is_due = |tag: &&Tag| next_attempt_at(tag).is_none_or(|at| at <= now);
        self.decided.iter().find(is_due).ok_or_else(|| self.decided.iter().filter_map(next_attempt_at).min())
    }
}
