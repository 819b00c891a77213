//! The state of a sweep: its round, and the tags that are left to the next comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::image::{RepositoryName, Tag};

/// The sweep of a configuration.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    pub(super) round: Option<SweepRound>,
    /// The place behind which each round begins; `None` for the first tag.
    pub(super) start: Option<SweepPlace>,
    /// True once a round has begun.
    pub(super) is_placed: bool,
    /// True if a comparison has ended since the round began: another one follows.
    pub(super) is_due: bool,
    /// True while the source could not be read.
    pub(super) is_paused: bool,
    /// Looks that wait or are under way.
    pub(super) looks: usize,
    /// Tags that the next comparison observes.
    doubted: BTreeMap<RepositoryName, BTreeSet<Tag>>,
    doubts: usize,
    /// True if there were too many of these: the next comparison observes every tag.
    is_all_doubted: bool,
    /// The duration of the last round.
    pub(super) last: Option<Duration>,
}

/// One pass over every known tag.
#[derive(Debug)]
pub(super) struct SweepRound {
    /// Tags that were observed since are done.
    pub(super) begun: Timestamp,
    pub(super) since: Timestamp,
    pub(super) last: Option<SweepPlace>,
    /// True once the tags from the first one to the start follow.
    pub(super) is_around: bool,
    pub(super) is_over: bool,
    /// The repositories about whose images the referrers API was asked; true if each request was answered.
    pub(super) asked: BTreeMap<RepositoryName, bool>,
}

pub(super) type SweepPlace = (RepositoryName, Tag);

impl Sweep {
    /// Has the next comparison observe a tag.
    pub(super) fn doubt(&mut self, repository: RepositoryName, tag: Tag) {
        if self.doubts == MAX_DOUBTS {
            (self.doubted, self.doubts, self.is_all_doubted) = (BTreeMap::new(), 0, true);
        }
        self.doubts += usize::from(self.doubted.entry(repository).or_default().insert(tag));
    }

    /// Records that a tag was observed.
    pub(super) fn observed(&mut self, repository: &RepositoryName, tag: &Tag) {
        let Some(tags) = self.doubted.get_mut(repository) else { return };
        self.doubts -= usize::from(tags.remove(tag));
        if tags.is_empty() {
            self.doubted.remove(repository);
        }
    }

    /// Forgets the tags that a complete list of a repository lacks.
    pub(super) fn retain(&mut self, repository: &RepositoryName, listed: &BTreeSet<Tag>) {
        let Some(tags) = self.doubted.get_mut(repository) else { return };
        let before = tags.len();
        tags.retain(|tag| listed.contains(tag));
        self.doubts -= before - tags.len();
    }

    /// Returns true if the next comparison observes a tag.
    pub(super) fn is_doubted(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.doubted.get(repository).is_some_and(|tags| tags.contains(tag))
    }

    /// Returns true, once, if the next comparison is to observe every tag.
    pub(super) fn take_all_doubted(&mut self) -> bool {
        std::mem::take(&mut self.is_all_doubted)
    }

    /// Returns the duration of the last round: the time that known tags waited to be observed after a comparison.
    pub(super) fn last(&self) -> Option<Duration> {
        self.last
    }

    /// Returns true if the last round took longer than `objective`, or the present one does.
    pub(super) fn exceeds(&self, objective: Duration, now: Timestamp) -> bool {
        let is_late = |round: &SweepRound| round.since + objective < now;
        self.last.is_some_and(|last| last > objective) || self.round.as_ref().is_some_and(is_late)
    }
}

/// Tags that are doubted one by one.
const MAX_DOUBTS: usize = 1_000;
