//! The repositories that are listed because something was deleted there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::image::RepositoryName;

/// The repositories that are listed because of hints; no more than are known.
#[derive(Debug, Default)]
pub(super) struct HintedLists {
    /// The times at which repositories are to be listed.
    pub(super) due: BTreeMap<RepositoryName, Timestamp>,
    pub(super) running: BTreeSet<RepositoryName>,
    /// The last time of each.
    pub(super) listed_at: BTreeMap<RepositoryName, Timestamp>,
}

impl HintedLists {
    /// Returns true if nothing is listed.
    pub(super) fn are_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Returns the time at which a repository is to be listed.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let due = self.due.iter().filter(|(repository, _)| !self.running.contains(*repository));
        due.map(|(_, at)| *at).min().filter(|_| self.running.len() < MAX_LISTS)
    }
}

/// Repositories that are listed at once because of hints.
pub(super) const MAX_LISTS: usize = 4;
