//! One pair of a source repository and a destination repository while its configuration runs.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use tokio::task::AbortHandle;

use crate::api::{PairSummary, ReplicationStatusStatus};
use crate::cluster::{PairIdentity, StoredPair};
use crate::image::{RepositoryName, Tag};
use crate::plan::{CopyOptions, DestinationReference, Ledger, Pace, Place, Publication, pair_status, summarize};
use crate::policy::Decision;

/// Names a pair inside its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairKey {
    /// The repository, of the same name at both ends.
    pub repository: RepositoryName,
    /// The destination.
    pub destination: DestinationReference,
}

/// What is known of a pair.
pub struct Pair {
    /// The object that shows it.
    pub identity: PairIdentity,
    /// Where it writes, as it is claimed.
    pub place: Place,
    /// How its images are copied.
    pub options: CopyOptions,
    /// Its rows.
    pub ledger: Ledger,
    /// The last decision about it.
    pub permission: Option<Decision>,
    /// Its counts when they were last taken.
    pub summary: PairSummary,
    /// Tags that wait in the queue.
    pub queued: BTreeSet<Tag>,
    /// Tags that are being copied.
    pub running: HashMap<Tag, AbortHandle>,
    changed_at: Option<Timestamp>,
    published: Option<ReplicationStatusStatus>,
    pace: Pace,
}

impl Pair {
    /// A pair of which nothing is known.
    pub fn new(identity: PairIdentity, place: Place, options: CopyOptions) -> Self {
        Self {
            identity,
            place,
            options,
            ledger: Ledger::default(),
            permission: None,
            summary: PairSummary::default(),
            queued: BTreeSet::new(),
            running: HashMap::new(),
            changed_at: None,
            published: None,
            pace: Pace::default(),
        }
    }

    /// Takes up what an earlier process left. The status says by what options its images were verified: where other ones hold now,
    /// they are looked at again.
    pub fn resume(&mut self, stored: StoredPair, now: Timestamp) {
        self.ledger = Ledger::from_status(&stored.status.images, now);
        if stored.status.copy_options != self.options.fingerprint() {
            self.ledger.start_over();
        }
        self.summary = summarize(&self.ledger);
        self.published = Some(stored.status);
        self.changed_at = Some(now);
    }

    /// From now on images are copied by `options`. Where these choose something else of an image than those before, copies that are
    /// under way stop, and every image is looked at again; answers whether that is so.
    pub fn take_options(&mut self, options: CopyOptions, now: Timestamp) -> bool {
        let is_other = options.fingerprint() != self.options.fingerprint();
        self.options = options;
        if is_other {
            self.running.values().for_each(AbortHandle::abort);
            self.ledger.start_over();
            self.change(now);
        }
        is_other
    }

    /// Forgets the tags that `takes` does not pick: copies of them stop, and what was copied of them stays.
    pub fn retain_tags(&mut self, takes: impl Fn(&Tag) -> bool, now: Timestamp) {
        self.running.iter().filter(|(tag, _)| !takes(tag)).for_each(|(_, copy)| copy.abort());
        if self.ledger.retain_taken(takes) {
            self.change(now);
        }
    }

    /// Records that something changed which people are to see.
    pub fn change(&mut self, now: Timestamp) {
        self.changed_at.get_or_insert(now);
    }

    /// Whether nothing is being copied or waits for it.
    pub fn is_at_rest(&self) -> bool {
        self.running.is_empty() && self.queued.is_empty()
    }

    /// When the change that nobody has seen may be written; `None` if there is none. A pair of which nothing was ever told is told
    /// when there is an image: that of nothing all is complete would mislead.
    pub fn publication(&self, now: Timestamp) -> Option<Publication> {
        let is_empty = self.published.is_none() && self.ledger.rows().next().is_none();
        self.changed_at
            .filter(|_| !is_empty)
            .map(|changed_at| self.pace.publication(changed_at, self.is_at_rest(), now))
    }

    /// The status to write; `None` if people see it already.
    pub fn status(&mut self, now: Timestamp) -> Option<ReplicationStatusStatus> {
        let spec = &self.identity.spec;
        let label = |end: &crate::api::PairEnd| {
            let namespace =
                end.registry_ref.namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
            format!("{namespace}{}/{}", end.registry_ref.name, end.repository)
        };
        let conditions = self.published.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let permission = self.permission.as_ref();
        let status =
            pair_status(&label(&spec.source), &label(&spec.destination), &self.ledger, permission, conditions, now);
        let status = ReplicationStatusStatus { copy_options: self.options.fingerprint(), ..status };
        self.summary = status.summary.clone();
        if self.published.as_ref() == Some(&status) {
            self.changed_at = None;
            return None;
        }
        Some(status)
    }

    /// Records that `status` was written.
    pub fn written(&mut self, status: ReplicationStatusStatus, now: Timestamp) {
        self.published = Some(status);
        self.changed_at = None;
        self.pace.written(now);
    }

    /// Records that writing failed: it is tried again at the next pace.
    pub fn not_written(&mut self, now: Timestamp) {
        self.pace.written(now);
        self.changed_at = Some(now);
    }

    /// Records that somebody deleted the object: it is written again.
    pub fn deleted(&mut self, now: Timestamp) {
        self.published = None;
        self.change(now);
    }
}
