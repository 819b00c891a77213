//! One pair of a source repository and a destination repository, and when its status is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::event::StoredPair;
use super::ids::CopyId;
use super::pair_deletions::PairDeletions;
use super::short::{MAX_SHORT, Short};
use super::shown::{ShownStatus, label};
use super::withdrawals::Withdrawals;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{
    CopyOptions, Counts, Ledger, NamespacedName, PairIdentity, PairUsage, Publication, RepositoryAddress, SharedCause,
    StatusThrottle, pair_status, withdraw,
};
use crate::policy::Decision;
use crate::terms::{PairSummary, ReplicationStatusStatus};

/// Names a pair inside its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PairKey {
    /// The repository at the source.
    pub repository: RepositoryName,
    /// The Registry of the destination.
    pub destination: NamespacedName,
    /// The repository at the destination.
    pub target: RepositoryName,
}

impl PairKey {
    /// Returns the Registry and the repository of the destination.
    pub(crate) fn to(&self) -> (&NamespacedName, &RepositoryName) {
        (&self.destination, &self.target)
    }
}

/// The state of a pair.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Its name inside the configuration.
    pub key: PairKey,
    /// The object that shows it.
    pub identity: Arc<PairIdentity>,
    /// The uid of the destination's Registry.
    pub destination_uid: String,
    /// The destination repository, as it is claimed.
    pub place: RepositoryAddress,
    /// The options by which its images are copied.
    pub options: CopyOptions,
    /// Its rows.
    pub ledger: Ledger,
    /// The bytes that were moved and are stored for it.
    pub usage: PairUsage,
    /// The deletions of its images.
    pub deletions: PairDeletions,
    /// The fingerprint of the rules that chose the newest tags of its last list; `None` where they chose all.
    pub choice: Option<String>,
    /// The last decision about it.
    pub permission: Option<Decision>,
    /// True if the policies deny it, as last decided without a copy.
    pub is_denied: bool,
    /// The cause for which its images are refused, until one of them succeeds.
    pub refused: Option<SharedCause>,
    /// The sentence about it.
    pub refusal: String,
    /// Tags that wait in the queue.
    pub queued: BTreeSet<Tag>,
    /// Those of them that were put in front.
    pub urgent: BTreeSet<Tag>,
    /// Tags that are being copied.
    pub running: BTreeMap<Tag, CopyId>,
    /// Records that the store may still have.
    pub(super) withdrawals: Withdrawals,
    /// True while copies wait until the store has answered to the publication of the present status.
    pub is_awaited: bool,
    /// Since when the pair exists in this process.
    pub created_at: Timestamp,
    /// The last complete list of repositories lacked its repository.
    pub missed: bool,
    /// Set while the ledger knows less than the last status showed.
    short: Option<Short>,
    /// Every image was observed once since the pair exists in this process.
    was_closed: bool,
    /// The first observation of every image is under way: between two of them the pair is not at rest.
    is_filling: bool,
    /// Until when a write of another configuration may still take effect.
    pub doubt_until: Timestamp,
    /// Tags are copied only if they were observed since: another configuration may have written newer ones before.
    pub observe_from: Timestamp,
    /// The first copy since the pair has its destination: outcomes of earlier ones may be from before another wrote there.
    pub copies_from: CopyId,
    /// The lag of the image that was verified last.
    pub lag: Option<String>,
    changed_at: Option<Timestamp>,
    published: Option<Box<ShownStatus>>,
    publishing: Option<Box<ShownStatus>>,
    /// The object may exist with something else than `published`, as another process published it or a write failed: it
    /// is written even if the pair has no image, or nothing differs from `published`.
    may_exist: bool,
    /// The object was deleted while it was being written: whether it is there is unknown.
    is_lost: bool,
    pace: StatusThrottle,
}

impl Pair {
    /// Returns a pair without images.
    pub(crate) fn new(
        key: PairKey,
        identity: PairIdentity,
        (destination_uid, place): (String, RepositoryAddress),
        options: CopyOptions,
        now: Timestamp,
    ) -> Self {
        Self {
            key,
            identity: Arc::new(identity),
            destination_uid,
            place,
            options,
            ledger: Ledger::default(),
            usage: PairUsage::default(),
            deletions: PairDeletions::default(),
            choice: None,
            permission: None,
            is_denied: false,
            refused: None,
            refusal: String::new(),
            queued: BTreeSet::new(),
            urgent: BTreeSet::new(),
            running: BTreeMap::new(),
            withdrawals: Withdrawals::default(),
            is_awaited: false,
            created_at: now,
            missed: false,
            short: None,
            was_closed: false,
            is_filling: false,
            doubt_until: now,
            observe_from: Timestamp::MIN,
            copies_from: 0,
            lag: None,
            changed_at: None,
            published: None,
            may_exist: false,
            publishing: None,
            is_lost: false,
            pace: StatusThrottle::default(),
        }
    }

    /// Restores the state that an earlier process left. Returns true if its images were verified by other options: they
    /// are looked at again then.
    pub(crate) fn restore(&mut self, mut stored: StoredPair, sibling: Option<&Ledger>, now: Timestamp) -> bool {
        let since = stored.status.summary.oldest_pending_since;
        self.ledger = Ledger::restore(&std::mem::take(&mut stored.verified), &stored.status.images, since, now);
        match sibling {
            Some(sibling) => self.ledger.share(sibling),
            None => self.ledger.pack(),
        }
        self.ledger.restore_missed(&stored.missed);
        self.usage = PairUsage::restore(&stored.status.summary, self.ledger.largest());
        self.deletions.restore(&stored.status.recent_deletions);
        let (summary, counts) = (&stored.status.summary, self.ledger.counts());
        let is_known = counts.complete >= summary.complete
            && counts.images - counts.complete >= summary.images.saturating_sub(summary.complete);
        let short =
            Short { images: summary.images, is_known: false, until: self.was_closed.then_some(now + MAX_SHORT) };
        self.short = (!is_known).then_some(short);
        let is_other = stored.status.copy_options_hash != self.options.fingerprint();
        if is_other {
            self.ledger.start_over(now);
        }
        self.lag.clone_from(&stored.status.summary.lag);
        self.published = Some(Box::new(ShownStatus::of(stored.status, &self.ledger)));
        self.changed_at = Some(now);
        is_other
    }

    /// Records that every image of a complete list was observed. What the last status showed beyond that is gone if it
    /// stays away once more: a list may be wrong for a moment.
    pub(crate) fn close(&mut self, now: Timestamp) {
        let is_proved = std::mem::replace(&mut self.was_closed, true);
        self.is_filling = false;
        self.ledger.pack();
        let images = self.ledger.counts().images;
        self.short.iter_mut().for_each(|short| short.is_known |= is_proved || images >= short.images);
        self.bound_short(now);
        self.recover(now);
    }

    /// Records that its tags were listed: what a process before this one has shown beyond them stays for a while only.
    pub(crate) fn bound_short(&mut self, now: Timestamp) {
        self.short.iter_mut().for_each(|short| short.until = short.until.or(Some(now + MAX_SHORT)));
    }

    /// Records that every image is about to be observed.
    pub(crate) fn open(&mut self) {
        self.is_filling = !self.was_closed;
    }

    /// Records that the comparison that was observing has ended.
    pub(crate) fn stop_filling(&mut self) {
        self.is_filling = false;
    }

    /// Returns true while the ledger knows less than the last status showed.
    pub(crate) fn is_short(&self) -> bool {
        self.short.is_some()
    }

    /// Returns true if an object with its status was written, and not deleted since.
    pub(crate) fn has_object(&self) -> bool {
        self.published.is_some()
    }

    /// Records that the status is to be published.
    pub(crate) fn change(&mut self, now: Timestamp) {
        self.changed_at.get_or_insert(now);
    }

    /// Returns true if nothing is being copied or waits for it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running.is_empty() && self.queued.is_empty()
    }

    /// Returns the counts to show: those of the ledger, or of the last status while the ledger knows less.
    pub(crate) fn counts(&self) -> Counts {
        let (bytes_moved, bytes_stored) = (self.usage.moved(), self.usage.stored());
        let counts = Counts { bytes_moved, bytes_stored, ..self.ledger.counts() };
        match (&self.short, &self.published) {
            (Some(_), Some(status)) => {
                let PairSummary { images, complete, failed, skipped, in_progress, pending, bytes, .. } =
                    status.rest.summary;
                Counts { images, complete, failed, skipped, in_progress, pending, bytes, ..counts }
            }
            _ => counts,
        }
    }

    /// Ends the time in which the ledger knows less than the last status showed: when every image has been tried since.
    pub(crate) fn recover(&mut self, now: Timestamp) {
        let counts = self.ledger.counts();
        let is_tried = counts.pending + counts.in_progress == counts.leaving;
        if self
            .short
            .as_ref()
            .is_some_and(|short| (short.is_known && is_tried) || short.until.is_some_and(|until| until <= now))
        {
            self.short = None;
            self.change(now);
        }
    }

    /// Returns the time from which the status may be published; `None` if nothing is to be. A pair is first published
    /// once it has an image, and not while the ledger knows less than the last status showed.
    pub(crate) fn publish_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_left_alone() || self.publishing.is_some() {
            return None;
        }
        if let Some(short) = self.short.as_ref().filter(|short| !self.is_awaited || self.is_unknown(short)) {
            return short.until.filter(|_| self.is_awaited || self.changed_at.is_some());
        }
        if self.is_awaited {
            return Some(self.pace.ahead_at(now));
        }
        let (is_at_rest, images) = (self.is_at_rest() && !self.is_filling, self.ledger.counts().images);
        Some(match self.pace.publication(self.changed_at?, is_at_rest, images, now) {
            Publication::Now => now,
            Publication::At(at) => at,
        })
    }

    /// Returns true while it has no image and no object: what another process left stays until its list was seen.
    pub(crate) fn is_left_alone(&self) -> bool {
        let is_unseen = !self.may_exist || !self.was_closed;
        is_unseen && !self.has_object() && self.ledger.counts().images == 0
    }

    /// Returns true while a status is being written.
    pub(crate) fn is_publishing(&self) -> bool {
        self.publishing.is_some()
    }

    /// Returns true if everything that changed has been published.
    pub(crate) fn is_published(&self) -> bool {
        self.changed_at.is_none() && self.publishing.is_none()
    }

    /// Begins to publish the status; `None` if it is published already.
    pub(crate) fn publish(&mut self, now: Timestamp) -> Option<Box<ReplicationStatusStatus>> {
        self.changed_at = None;
        let status = Box::new(self.status(now));
        let shown = Box::new(ShownStatus::of(status.as_ref().clone(), &self.ledger));
        let is_shown = self.published.as_ref().is_some_and(|published| published.shows_the_same(&shown));
        if is_shown && !self.may_exist && !self.withdrawals.are_open() {
            return None;
        }
        self.withdrawals.begin();
        if self.is_awaited {
            self.pace.went_ahead(now);
        }
        self.publishing = Some(shown);
        Some(status)
    }

    /// Records how publishing ended. A status that could not be written is written at the next pace.
    pub(crate) fn published(&mut self, is_written: bool, now: Timestamp) {
        let Some(status) = self.publishing.take() else { return };
        self.pace.written(now);
        self.give_back_room();
        let is_lost = std::mem::take(&mut self.is_lost);
        self.withdrawals.end(is_written && !is_lost);
        if is_written && !is_lost {
            (self.published, self.may_exist) = (Some(status), false);
        } else {
            self.may_exist = true;
            self.change(now);
        }
    }

    /// Records that another process may have compared, copied and published meanwhile: what is not verified is owed, what
    /// is verified is read back, and the status is written again once every image was observed.
    pub(crate) fn reopen(&mut self, now: Timestamp) {
        self.ledger.owe_all();
        self.ledger.audit_all(now);
        let images = self.ledger.counts().images;
        self.short = Some(Short { images, is_known: false, until: self.was_closed.then_some(now + MAX_SHORT) });
        self.was_closed = false;
        self.may_exist = true;
        self.lost(now);
    }

    /// Records that the object may be there, with anything that was ever published.
    pub(crate) fn lost_sight(&mut self, now: Timestamp) {
        self.may_exist = true;
        self.change(now);
    }

    /// Returns true if the store may say that another content than `digest`, or one that was copied by other options,
    /// is verified under `tag`.
    pub(crate) fn may_claim(&self, tag: &Tag, digest: &Digest) -> bool {
        let options = self.options.fingerprint();
        let is_claimed =
            |status: &ShownStatus| status.claims_other(tag, digest, status.rest.copy_options_hash != options);
        let known = [&self.published, &self.publishing].into_iter().flatten();
        self.may_exist || self.withdrawals.contain(tag) || known.into_iter().any(|status| is_claimed(status))
    }

    /// Returns true if the store has counted the deletions that are decided, and does not say that their images are
    /// verified.
    pub(crate) fn has_stored_deletions(&self) -> bool {
        let is_stored = |status: &ShownStatus| {
            status.rest.recent_deletions == self.deletions.counts.published()
                && !status.complete_tags().any(|tag| self.deletions.is_decided(tag))
        };
        let is_withdrawn = !self.deletions.decided.iter().any(|tag| self.withdrawals.contain(tag));
        is_withdrawn
            && !self.may_exist
            && self.publishing.is_none()
            && self.published.as_ref().is_some_and(|status| is_stored(status))
    }

    /// Returns true if nothing is known of what the store says, and the ledger may lack a part of that.
    fn is_unknown(&self, short: &Short) -> bool {
        self.published.is_none() && !short.is_known
    }

    /// Records that another client deleted the object: it is written again.
    pub(crate) fn lost(&mut self, now: Timestamp) {
        self.is_lost = self.publishing.is_some();
        self.may_exist |= self.is_lost;
        self.published = None;
        self.change(now);
    }

    fn status(&self, now: Timestamp) -> ReplicationStatusStatus {
        let mut status = self.status_of_images(now);
        (status.summary.bytes_moved, status.summary.bytes_stored) = (self.usage.moved(), self.usage.stored());
        status
    }

    fn status_of_images(&self, now: Timestamp) -> ReplicationStatusStatus {
        let spec = &self.identity.spec;
        let conditions = self.published.as_ref().map(|status| status.rest.conditions.as_slice()).unwrap_or_default();
        let permission = self.permission.as_ref();
        let recent_deletions = self.deletions.counts.published();
        if let Some(published) = self.published.as_ref().filter(|_| self.is_short()) {
            let status = withdraw(published.status(), &self.ledger, permission, now);
            return ReplicationStatusStatus { recent_deletions, ..status };
        }
        let (source, destination) = (label(&spec.source), label(&spec.destination));
        let mut status = pair_status(&source, &destination, &self.ledger, permission, conditions, now);
        status.summary.lag.clone_from(&self.lag);
        ReplicationStatusStatus { copy_options_hash: self.options.fingerprint(), recent_deletions, ..status }
    }
}
