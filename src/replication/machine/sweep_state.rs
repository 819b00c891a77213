//! The state of a sweep: its round, and the tags that are left to the next comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};

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
    /// Looks in a row that have failed.
    failures: usize,
    /// Looks that wait or are under way.
    pub(super) looks: usize,
    /// Tags that the next comparison observes.
    doubted: BTreeMap<RepositoryName, BTreeSet<Tag>>,
    doubts: usize,
    /// True if the next comparison observes every tag.
    is_all_doubted: bool,
    /// Repositories of which the next comparison that lists them observes every tag.
    doubted_repositories: BTreeSet<RepositoryName>,
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
    /// Looks in a row that have failed, by repository.
    failures: BTreeMap<RepositoryName, usize>,
}

pub(super) type SweepPlace = (RepositoryName, Tag);

impl SweepRound {
    /// Returns a round behind a place; tags that were observed since `begun` are done.
    pub(super) fn new(begun: Timestamp, last: Option<SweepPlace>, now: Timestamp) -> Self {
        let is_around = last.is_none();
        let (asked, failures) = (BTreeMap::new(), BTreeMap::new());
        Self { begun, since: now, last, is_around, is_over: false, asked, failures }
    }

    /// Returns true if so many looks at a repository have failed that it is left to the next round.
    pub(super) fn leaves_out(&self, repository: &RepositoryName) -> bool {
        self.failures.get(repository).is_some_and(|failures| *failures >= MAX_FAILURES)
    }
}

impl Sweep {
    /// Records that the source answered a look at a repository.
    pub(super) fn answered(&mut self, repository: &RepositoryName) {
        self.failures = 0;
        if let Some(round) = &mut self.round {
            round.failures.remove(repository);
        }
    }

    /// Records that a look has failed. Many in a row at one repository leave that out; many at several are about the whole
    /// source, and the sweep pauses.
    pub(super) fn failed(&mut self, repository: &RepositoryName) {
        self.failures += 1;
        self.is_paused |= self.failures >= MAX_FAILURES_OF_SOURCE;
        if let Some(round) = &mut self.round {
            round.asked.entry(repository.clone()).and_modify(|is_whole| *is_whole = false);
            *round.failures.entry(repository.clone()).or_default() += 1;
        }
    }

    /// Ends a pause.
    pub(super) fn go_on(&mut self) {
        (self.is_paused, self.failures) = (false, 0);
    }

    /// Has the next comparison observe every tag.
    pub(super) fn doubt_all(&mut self) {
        self.is_all_doubted = true;
    }

    /// Has the next comparison that lists these repositories observe every tag of them.
    pub(super) fn doubt_repositories(&mut self, repositories: BTreeSet<RepositoryName>) {
        self.doubted_repositories.extend(repositories);
    }

    /// Returns, once, the repositories of which every tag is to be observed.
    pub(super) fn take_doubted_repositories(&mut self) -> BTreeSet<RepositoryName> {
        std::mem::take(&mut self.doubted_repositories)
    }

    /// Forgets the repositories that are gone.
    pub(super) fn retain_repositories(&mut self, names: &BTreeSet<RepositoryName>) {
        self.doubted_repositories.retain(|repository| names.contains(repository));
    }

    /// Has the next comparison observe a tag. Where too many are in doubt, it observes every tag of the repository that has
    /// most of them.
    pub(super) fn doubt(&mut self, repository: RepositoryName, tag: Tag) {
        if self.doubts == MAX_DOUBTS
            && let Some(most) = self.doubted.iter().max_by_key(|(_, tags)| tags.len()).map(|(name, _)| name.clone())
        {
            self.doubts -= self.doubted.remove(&most).map_or(0, |tags| tags.len());
            // Hints may name any number of repositories, also such as the source has not.
            self.is_all_doubted |= self.doubted_repositories.len() >= MAX_DOUBTS;
            if !self.is_all_doubted {
                self.doubted_repositories.insert(most);
            }
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

    /// Forgets the tags of images that a complete list of a repository lacks.
    pub(super) fn retain(&mut self, repository: &RepositoryName, listed: &BTreeSet<Tag>) {
        self.retain_where(repository, |tag| is_referrer_tag(tag) || listed.contains(tag));
    }

    /// Forgets the tags that stand for referrers and that a complete list of these has, with their digest, or lacks.
    pub(super) fn retain_referrers(&mut self, repository: &RepositoryName, listed: &BTreeMap<Tag, Option<Digest>>) {
        let is_open = |tag: &Tag| listed.get(tag).is_some_and(Option::is_none);
        self.retain_where(repository, |tag| !is_referrer_tag(tag) || is_open(tag));
    }

    /// Returns the tags in doubt that stand for referrers.
    pub(super) fn doubted_referrers(&self, repository: &RepositoryName) -> impl Iterator<Item = &Tag> {
        self.doubted.get(repository).into_iter().flatten().filter(|tag| is_referrer_tag(tag))
    }

    fn retain_where(&mut self, repository: &RepositoryName, is_kept: impl Fn(&Tag) -> bool) {
        let Some(tags) = self.doubted.get_mut(repository) else { return };
        let before = tags.len();
        tags.retain(is_kept);
        self.doubts -= before - tags.len();
        if tags.is_empty() {
            self.doubted.remove(repository);
        }
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

/// Looks in a row at one repository that may fail.
const MAX_FAILURES: usize = 16;
/// Looks in a row at any repositories that may fail.
const MAX_FAILURES_OF_SOURCE: usize = 64;
/// Tags that are doubted one by one.
const MAX_DOUBTS: usize = 1_000;
