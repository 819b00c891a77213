//! The parts of the machine's state, and the bounds that several of its files keep.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::departed_image::DepartedImage;
use super::hinted_lists::HintedLists;
use super::ids::{ComparisonId, CopyId, PairId};
use super::timers::Timers;
use crate::image::{Digest, InvalidNames, RepositoryName, Tag};
use crate::plan::{
    ByRegistry, Configuration, ConfigurationReport, CopyOptions, Counts, DeletionHistory, NameRefusals, NamespacedName,
    PlannedDeletion, Problem, RankedTags, RepositoryAddress, SeenReferrers,
};

/// The first fills that are stopped.
#[derive(Debug, Default)]
pub(super) struct Backfills {
    /// The counts of each destination when a person had it go on.
    pub(super) judged_since: ByRegistry<Counts>,
    /// Pairs with images that wait for the end of a stop, by destination; one without such pairs has no entry.
    pub(super) stopped: BTreeMap<NamespacedName, BTreeSet<PairId>>,
    /// Pairs of a run with images that wait for the copies of the pair that are under way: no more than run at once.
    pub(super) suspected: BTreeSet<PairId>,
}

/// A comparison that is under way.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) id: ComparisonId,
    pub(super) begun: Timestamp,
    pub(super) request: Option<String>,
    pub(super) problems: Vec<Problem>,
    /// True if something that came meanwhile needs another comparison.
    pub(super) is_outdated: bool,
    /// True if a list was suddenly empty, which proves nothing.
    pub(super) is_doubtful: bool,
    /// True if a tag could not be read for a cause that may pass: it is read again soon.
    pub(super) is_partial: bool,
    /// True if a person requested it: it observes every tag.
    pub(super) is_thorough: bool,
    /// The repositories of which it observes every tag in any case.
    pub(super) owed: BTreeSet<RepositoryName>,
    /// True once the repositories of the source are known.
    pub(super) has_names: bool,
    /// The repositories whose tags were listed.
    pub(super) listed: BTreeSet<RepositoryName>,
}

/// The grounds on which the pause before the next comparison depends.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Comparisons in a row that were not complete.
    pub incomplete_comparisons: u32,
    /// Lists of repositories in a row that were empty although there are pairs.
    pub empty_lists: u32,
    /// True until the first comparison after a restart has ended: all configurations begin theirs together.
    pub begins_together: bool,
}

/// The destination repositories of the configuration.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The pairs that write to each.
    pub(super) pairs: HashMap<RepositoryAddress, BTreeSet<PairId>>,
    /// The pairs that are not replicated because of their names, by the last list of repositories.
    pub(super) refusals: NameRefusals,
    /// The spec by whose rules tags of the pairs were dropped before it is taken.
    pub(super) narrowed: Option<Arc<Configuration>>,
    /// The end of the time in which a write of a single tag may still be followed by an earlier one, also if its pair or
    /// row is gone.
    pub(super) doubts: HashMap<(RepositoryAddress, Tag), Timestamp>,
    /// Places whose registry refused the credentials: claims to them are weak.
    pub(super) refused: BTreeSet<RepositoryAddress>,
    /// Places of others to which the registry would let this configuration write.
    pub(super) writable: BTreeSet<RepositoryAddress>,
    /// The first copy whose refusal counts: those before it began with earlier credentials.
    pub(super) weighed_from: CopyId,
}

/// The parts of a source that are not replicated, for people.
#[derive(Debug, Default)]
pub(crate) struct Excluded {
    /// Repositories that match no rule; collected where copies are only planned.
    pub repositories: BTreeSet<RepositoryName>,
    /// By repository, the number of tags that no rule takes, and examples of them; collected where copies are only
    /// planned.
    pub tags: BTreeMap<RepositoryName, (usize, String)>,
    /// Names in the last list of repositories that no repository can have.
    pub invalid_repositories: InvalidNames,
    /// By repository, names in its last list that no tag can have; a repository without one has no entry.
    pub invalid_tags: BTreeMap<RepositoryName, InvalidNames>,
    /// Filters that matched nothing in the last comparison that read every list, as sentences.
    pub unused_filters: Vec<String>,
    /// The names in the lists of the last comparison that are not valid, as a sentence.
    pub invalid_names: Option<String>,
}

impl Excluded {
    /// Makes the sentence about the names that are not valid.
    pub(super) fn name_invalid(&mut self) {
        let mut parts = Vec::new();
        if !self.invalid_repositories.is_empty() {
            parts.push(format!("the source lists {} as repositories", self.invalid_repositories));
        }
        let of_tags = self.invalid_tags.iter().take(MAX_NAMED);
        parts.extend(of_tags.map(|(repository, names)| format!("{repository} lists {names} as tags")));
        if let Some(more @ 1..) = self.invalid_tags.len().checked_sub(MAX_NAMED) {
            parts.push(format!("{more} more repositories list such tags"));
        }
        let sentence = || format!("{}: they are not replicated; rename them at the source", parts.join("; "));
        self.invalid_names = (!parts.is_empty()).then(sentence);
    }
}

/// One repository of the source.
#[derive(Debug, Default)]
pub(super) struct SourceRepository {
    /// The referrers of its images.
    pub(super) seen: SeenReferrers,
    /// The time when the referrers API was last asked about all of them.
    pub(super) asked_at: Option<Timestamp>,
    /// True while a comparison asks the referrers API about all of them.
    pub(super) is_asked: bool,
    /// True while a comparison observes the repository for the first time: the copies ask about each image themselves.
    pub(super) is_first: bool,
    /// By rule, the newest tags that it takes, as of the last list and the pushes since.
    pub(super) newest: BTreeMap<String, RankedTags>,
}

/// An image that waits to be copied, to all of its destinations at the same time: its content is then read once.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) tag: Tag,
    pub(super) pairs: Vec<PairId>,
    pub(super) is_urgent: bool,
}

/// A copy that runs.
#[derive(Debug)]
pub(super) struct RunningCopy {
    pub(super) pair: PairId,
    pub(super) place: RepositoryAddress,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) options: CopyOptions,
    pub(super) group: u64,
}

/// The slot that the copies of one image take.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) running: usize,
    pub(super) began_at: Timestamp,
}

/// The images that wait for the store, by a pair that keeps them from starting.
#[derive(Debug, Default)]
pub(super) struct WriteAhead {
    waiting: BTreeMap<PairId, Vec<Queued>>,
    len: usize,
}

impl WriteAhead {
    /// Returns the number of images.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn hold(&mut self, id: PairId, queued: Queued) {
        self.len += 1;
        self.waiting.entry(id).or_default().push(queued);
    }

    pub(super) fn take(&mut self, id: PairId) -> Vec<Queued> {
        let taken = self.waiting.remove(&id).unwrap_or_default();
        self.len -= taken.len();
        taken
    }
}

/// The deletions of a configuration.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// The times at which the deletions of a pair are decided anew.
    pub(super) due: Timers<PairId>,
    pub(super) running: BTreeMap<CopyId, RunningDeletion>,
    /// Pairs with deletions that are decided and not made yet.
    pub(super) busy: BTreeSet<PairId>,
    /// Pairs with deletions that wait for a person.
    pub(super) held: BTreeMap<PairId, HeldDeletions>,
    /// The reason and the sentence of the condition about them.
    pub(super) condition: Option<(&'static str, String)>,
    /// The deletions that no pair knows.
    pub(super) history: DeletionHistory,
    /// The approval that was taken last, carried out or not.
    pub(super) approval: Option<String>,
    /// Status objects of such pairs, which stay until the report has their counts.
    pub(super) counted: BTreeSet<String>,
    /// Repositories that are listed because of hints.
    pub(super) lists: HintedLists,
    /// The deletions that a run has made; a process that goes on for ever keeps none.
    pub(super) made: Vec<DepartedImage>,
}

/// The deletions of a pair that wait for a person.
#[derive(Debug)]
pub(super) struct HeldDeletions {
    /// One of [`crate::terms::reason`].
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) planned: Vec<PlannedDeletion>,
}

/// A deletion that runs.
#[derive(Debug)]
pub(super) struct RunningDeletion {
    pub(super) pair: PairId,
    pub(super) place: RepositoryAddress,
    pub(super) tag: Tag,
    pub(super) digest: Digest,
}

/// The report of the configuration as it was last written.
#[derive(Debug)]
pub(super) struct LastReport {
    pub(super) report: Arc<ConfigurationReport>,
    /// True if it counts an image that is owed.
    pub(super) owes: bool,
    /// True if it counts an image that has failed.
    pub(super) fails: bool,
    /// True if another process may have reported since.
    pub(super) is_doubted: bool,
    pub(super) at: Timestamp,
}

impl LastReport {
    /// Returns the report of a configuration that starts.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { report: Arc::default(), owes: false, fails: false, is_doubted: false, at: now }
    }
}

/// The failures of a run that may pass by themselves.
#[derive(Debug, Default)]
pub(super) struct Retried {
    /// The first failure of each image that is tried again, and the time of its last or next attempt.
    pub(super) images: BTreeMap<(PairId, Tag), (Timestamp, Timestamp)>,
    /// The next attempts, in their order.
    pub(super) due: BTreeSet<(Timestamp, PairId, Tag)>,
    /// Images that have failed for good.
    pub(super) given_up: BTreeSet<(PairId, Tag)>,
    /// The first of the comparisons in a row that met such a failure; `None` if the last one did not.
    pub(super) compared_since: Option<Timestamp>,
    /// True while another comparison is to come.
    pub(super) compares_again: bool,
    /// True once nothing is begun any more.
    pub(super) is_draining: bool,
}

/// Repositories whose tags are named in a sentence about names that are not valid.
const MAX_NAMED: usize = 3;
/// Images that may wait in the queue before a comparison waits for the copies.
pub(super) const MAX_AHEAD: usize = 256;
/// Copies that make no progress for so long stand still: a comparison does not wait for them then.
pub(super) const STANDSTILL: Duration = Duration::from_secs(5);
/// Hinted tags that are looked at, at once.
pub(super) const MAX_LOOKS: usize = 64;
/// Statuses that are written at once.
pub(super) const MAX_PUBLICATIONS: usize = 4;
