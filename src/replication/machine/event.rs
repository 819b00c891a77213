//! The language of the state machine: what happens to a configuration, and what it wants done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::finding::{Finding, Listed, Looked};
use super::ids::{ComparisonId, CopyId, PairId};
use super::looks::Looks;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{
    ByRegistry, Claimant, CodedError, Configuration, ConfigurationReport, CopyOptions, DeletionHistory, LeavingTag,
    NamespacedName, PairIdentity, RecordedImages, Removal, Replica, RepositoryAddress, SpecError, Standing,
};
use crate::policy::{Decision, Policy};
use crate::terms::{ImageStatus, ReplicationState, ReplicationStatusStatus};

/// The spec of a configuration and everything around it that decisions depend on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Orders {
    /// The namespace of the configuration.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its age and uid, by which destinations are claimed.
    pub holder: Claimant,
    /// The generation of its spec; another value means that the spec changed.
    pub generation: Option<i64>,
    /// Its spec. An invalid one suspends the configuration and keeps everything.
    pub configuration: Result<Arc<Configuration>, SpecError>,
    /// The value of the annotation that requests a comparison.
    pub request: Option<String>,
    /// The Registries that exist, of those that the configuration names; and those of other owners that consent to
    /// nothing, whether they exist or not: nothing is known of them.
    pub registries: ByRegistry<RegistryIdentity>,
    /// The Registries of these through which claims are weaker than through one that has accepted the credentials.
    pub standings: ByRegistry<Standing>,
    /// A fingerprint of Registries, policies and claims: work that failed is tried again when it changes.
    pub dependencies: u64,
    /// Registries of these that a person has to correct, each with a sentence about it.
    pub stalled_registries: BTreeMap<NamespacedName, String>,
    /// The policies of the namespaces of the destinations, as last watched. What is written is decided by
    /// [`Access::decide`](crate::replication::Access::decide) alone.
    pub policies: Arc<BTreeMap<String, Vec<Policy>>>,
    /// The class of the Jobs that copy; `None` to copy in this process.
    pub class: Option<String>,
    /// Images that are copied at once, each to all of its destinations.
    pub slots: usize,
    /// Set in a run that ends: the source is compared once, and a failure that may pass by itself is tried again for so
    /// long after the first one. `None` to go on for ever.
    pub once: Option<Duration>,
    /// True if copies are planned only: none starts.
    pub is_dry: bool,
    /// True if images are deleted where the rules say so.
    pub deletes: bool,
    /// The value of the annotation that approves held deletions.
    pub approved_deletions: Option<String>,
}

/// A Registry object as the state machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryIdentity {
    /// The uid of the object.
    pub uid: String,
    /// The canonical host of its URL.
    pub host: String,
}

/// The state of a configuration that an earlier process left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Its pairs.
    pub pairs: Vec<StoredPair>,
    /// The process that ran the configuration before.
    pub predecessor: Predecessor,
    /// The generation of which the last comparison was complete and left nothing failed.
    pub ready_generation: Option<i64>,
    /// The number of repositories that matched.
    pub repositories: u64,
    /// The names of the source that were not valid, as a sentence.
    pub invalid_names: Option<String>,
    /// The last request that was handled.
    pub handled_request: Option<String>,
    /// The deletions that no pair knows.
    pub deletion_history: DeletionHistory,
}

/// The process that ran a configuration before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Predecessor {
    /// There was none.
    #[default]
    None,
    /// It has ended, perhaps without leaving a pair; its writes may still be under way.
    Ended,
    /// It may still act for this long: copies begin after that, with what has been observed by then.
    MayAct(Duration),
}

/// The state of a pair that an earlier process left.
#[derive(Clone, Debug)]
pub(crate) struct StoredPair {
    /// The pair.
    pub identity: PairIdentity,
    /// Its status, as last published.
    pub status: ReplicationStatusStatus,
    /// Its verified images.
    pub verified: RecordedImages,
    /// The time when the referrers API of the source was last asked about every image.
    pub referrers_asked_at: Option<Timestamp>,
    /// The tags that the last complete list lacked, each with the time of the first one that did, where the store keeps
    /// them.
    pub missed: BTreeMap<Tag, Timestamp>,
    /// The fingerprint of the rules by which the last complete list was taken, where the store keeps it.
    pub choice: Option<String>,
}

impl Stored {
    /// Returns the images that were being copied as last published, if a process or its workers may still do that.
    pub(super) fn in_progress(&self) -> BTreeSet<(RepositoryName, Tag)> {
        let pairs = self.pairs.iter().filter(|_| matches!(self.predecessor, Predecessor::MayAct(_)));
        let images = pairs.flat_map(|pair| {
            let running = pair.status.images.iter().filter(|image| image.status == ReplicationState::InProgress);
            running.map(|image| (&pair.identity.spec.source.repository, &image.tag))
        });
        images.filter_map(|(repository, tag)| Some((repository.parse().ok()?, tag.parse().ok()?))).collect()
    }
}

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The spec, or something around it, changed.
    Orders(Arc<Orders>),
    /// Tags were pushed or deleted, as notifications say.
    Hints(Hints),
    /// A comparison observed something at the source.
    Found(ComparisonId, Finding),
    /// The tags of a repository were listed because of a hint; `None` if the list is not complete.
    TagsListed(RepositoryName, Option<Box<Listed>>),
    /// One tag was observed because of a hint.
    Looked(Looked),
    /// One known tag was observed, with the list of the referrers API where that was asked for.
    Swept(Looked, Option<Vec<Digest>>),
    /// A copy reads bytes, or waits again.
    Progress(CopyId, CopyProgress),
    /// A copy ended; `None` if it was stopped. The number spreads retries.
    Ended(CopyId, Option<Outcome>, f64),
    /// A deletion ended; `None` if it was stopped. The number spreads retries.
    TagDeleted(CopyId, Option<DeletionOutcome>, f64),
    /// The store answered to the publication of a status.
    Published(PairId, StoreOutcome),
    /// The store answered to the deletion of a status.
    Deleted(String, StoreOutcome),
    /// Status objects were deleted by another client.
    StatusesLost(BTreeSet<String>),
    /// These status objects exist, after a gap in what is known of them: one that is not among them was deleted.
    StatusesListed(BTreeSet<String>),
    /// Something keeps Jobs from running, or no longer does.
    Workers(Option<String>),
    /// The process was stopped for longer than authority lasts: what was observed before proves nothing.
    Frozen,
    /// Time passed.
    Wake,
    /// The run is to end: nothing is begun any more, and copies that run go on.
    Drain,
    /// The process ends: nothing stays in progress.
    Interrupt,
    /// The configuration ends: its statuses are deleted and its claims released.
    Retire,
}

/// The outcome of one request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreOutcome {
    /// The store has done it.
    Done,
    /// The store refused it, or did not answer; it may have done it.
    Failed,
}

impl<T, E> From<&Result<T, E>> for StoreOutcome {
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Done } else { Self::Failed }
    }
}

/// Tags that were pushed, and repositories in which something was deleted, as notifications say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    /// The tags, with the digest that each is said to have.
    pub tags: Vec<(RepositoryName, Tag, Option<Digest>)>,
    /// The repositories in which something was deleted.
    pub deleted_in: BTreeSet<RepositoryName>,
    /// True if there were more than fit: only a comparison finds them.
    pub overflown: bool,
}

/// The progress of a copy that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyProgress {
    /// It waits for a worker, or waits again.
    Waiting,
    /// It has begun, and has read so many bytes of blobs.
    Running(u64),
}

/// The end of a copy.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The last decision about the destination.
    pub permission: Decision,
    /// The verified replica, or the cause of the failure.
    pub result: Result<Replica, CodedError>,
    /// The bytes of blobs that were read for it.
    pub moved: u64,
    /// True if a write was sent that was never answered: it may still take effect.
    pub is_unanswered: bool,
}

/// The end of a deletion.
#[derive(Clone, Debug)]
pub(crate) struct DeletionOutcome {
    /// The removal that was made, or the cause of the failure.
    pub result: Result<Removal, CodedError>,
    /// True if a request was sent that was never answered: it may still take effect.
    pub is_unanswered: bool,
}

/// One thing to be done. Each is carried out in the order in which it was decided, and its result comes back as an
/// event.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Compare the whole source.
    Compare(ComparisonId),
    /// Stop the comparison that is under way.
    StopComparison,
    /// Observe the listed tags of a repository.
    Observe(ComparisonId, Looks),
    /// Observe one hinted tag.
    Look {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The digest that it is said to have.
        hinted: Option<Digest>,
    },
    /// Observe one known tag, as soon as the budget of the source host allows it.
    Sweep {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// True if the referrers API is asked about its image.
        asks: bool,
    },
    /// Measure how long all known tags have waited to be observed since a comparison.
    Swept(Duration),
    /// List the tags of a repository in which something was deleted.
    ListTags(RepositoryName),
    /// Look at a destination repository that images are about to be copied to, if there is consent.
    LookAhead(Box<NamespacedName>, RepositoryName),
    /// Copy an image.
    Copy(CopyId, Arc<Assignment>),
    /// Delete an image that has left the source.
    DeleteTag(CopyId, Arc<Deletion>),
    /// Stop a copy or a deletion.
    Stop(CopyId),
    /// Count the lag of an image that was verified at a destination.
    Verified(NamespacedName, Duration),
    /// Remember a verified image.
    Record(Arc<PairIdentity>, Record),
    /// Publish the status of a pair.
    Publish(PairId, Arc<PairIdentity>, Box<ReplicationStatusStatus>),
    /// Delete the status of a pair, and its record.
    Delete(Arc<PairIdentity>),
    /// Publish the state of the configuration.
    Report(Arc<ConfigurationReport>),
    /// Give new orders to the configurations with these uids, as claims were released or taken.
    WakeOthers(Vec<String>),
}

/// One change of the record of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An image was verified.
    Verified(Box<ImageStatus>),
    /// A tag is no longer replicated.
    Forgotten(Tag),
    /// The tags that the last complete list lacked, each with the time of the first one that did; all of them.
    Missed(BTreeMap<Tag, Timestamp>),
    /// The fingerprint of the rules that chose the newest tags of the last complete list.
    Chosen(Option<String>),
    /// All images have to be verified anew, by these options.
    StartedOver(Option<String>),
    /// The referrers API was asked about every image.
    ReferrersAsked(Timestamp),
}

/// One image to copy to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// The namespace and name of the configuration.
    pub configuration: (String, String),
    /// Its uid.
    pub uid: String,
    /// The source Registry.
    pub source: NamespacedName,
    /// The uid of the source Registry.
    pub source_uid: String,
    /// The destination Registry.
    pub destination: NamespacedName,
    /// The uid of the destination Registry.
    pub destination_uid: String,
    /// The repository at the destination, as it is claimed.
    pub place: RepositoryAddress,
    /// The repository at the source.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Its digest at the source.
    pub digest: Digest,
    /// The parts of the image that are copied.
    pub options: CopyOptions,
    /// True if the tag was verified at the destination before, with this or another digest.
    pub was_there: bool,
    /// The digest that was last verified under the tag at the destination.
    pub written: Option<Digest>,
    /// Every tag of the source repository that stands for referrers, where they are known and few.
    pub referrer_tags: Option<Arc<BTreeSet<Tag>>>,
    /// The class of the Job that copies it; `None` for this process.
    pub class: Option<String>,
    /// True if it was pushed just now.
    pub is_urgent: bool,
    /// The priority of its configuration.
    pub priority: i32,
    /// The copies of the same image to other destinations.
    pub group: Group,
}

/// One image to delete at one destination.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    /// The image, as it was copied.
    pub assignment: Arc<Assignment>,
    /// The tags of the pair that are about to be deleted, this one included.
    pub leaving: BTreeMap<Tag, LeavingTag>,
}

#[cfg(test)]
impl Deletion {
    /// Returns true if the source has the tag, and the rules take only newer ones.
    pub(crate) fn is_outside(&self) -> bool {
        self.leaving.get(&self.assignment.tag).is_some_and(|tag| tag.is_outside)
    }
}

/// The copies of one image to several destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its number inside the configuration.
    pub number: u64,
    /// The most copies that it has.
    pub size: usize,
}
