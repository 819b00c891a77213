//! One row of a ledger: the state of a tag at the destination, and how rows are counted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::Digest;
use crate::plan::backoff::Jitter;
use crate::plan::content_sketch::ContentSketch;
use crate::plan::micro_time::MicroTime;
use crate::plan::referrers::{Referred, fingerprint_or_none};
use crate::terms::FailureCode;

/// Counts over the rows of a ledger; the totals of a configuration are sums of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All rows.
    pub images: u64,
    /// Verified rows.
    pub complete: u64,
    /// Rows whose last attempt failed.
    pub failed: u64,
    /// Failed rows that only a user can resolve.
    pub stuck: u64,
    /// Rows whose tag the destination keeps with other content.
    pub skipped: u64,
    /// Rows that are being copied.
    pub in_progress: u64,
    /// Rows that wait.
    pub pending: u64,
    /// Those of them whose tag has left the source: they wait to be deleted.
    pub leaving: u64,
    /// Bytes of the verified rows.
    pub bytes: u64,
    /// Bytes that were moved for the pair, which no row knows.
    pub bytes_moved: u64,
    /// Bytes that the pair keeps at the destination, which no row knows.
    pub bytes_stored: u64,
    /// Rows that keep the configuration from being Ready: found by the last complete comparison, or failed, and not
    /// verified since.
    pub owed: u64,
    /// Owed rows that have not been tried to the end.
    pub untried: u64,
}

/// The state of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The digest that the source has under the tag.
    pub digest: Digest,
    /// The state of that digest at the destination.
    pub state: RowState,
    /// The time since which that digest is wanted.
    pub since: MicroTime,
    /// Fingerprints of the referrers of the image.
    pub referrers: ReferrersRow,
    /// The time at which the request of the newest observation was sent.
    pub observed_at: MicroTime,
    /// The time at which that observation was recorded: a request that was sent before may have been answered earlier.
    pub(super) taken_at: MicroTime,
    /// The time of the next audit.
    pub(super) audit_at: MicroTime,
    /// True if the row counts as [`Counts::owed`].
    pub(super) owed: bool,
    /// The absence of the tag from the last complete listings, if they lacked it.
    pub(super) absence: Option<Box<TagAbsence>>,
    /// True if the tag has been verified at the destination, with this or an earlier digest.
    pub was_there: bool,
    /// The digest that was last verified under the tag at the destination.
    pub written: Option<Digest>,
}

/// The absence of a tag from the complete lists since a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TagAbsence {
    /// The time at which the first of these lists was taken.
    pub(super) since: Timestamp,
    /// True once a list that was requested an interval later lacked the tag, too.
    pub(super) is_proved: bool,
    /// True as long as these lists were empty and prove nothing.
    pub(super) is_doubted: bool,
    /// True if the source has the tag, and the rules take only newer ones.
    pub(super) is_outside: bool,
}

/// Fingerprints of the referrers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersRow {
    /// The fingerprints at the source, as last observed.
    pub(super) seen: Referred,
    /// The fingerprints at the begin of the copy that is under way; without one they are empty.
    pub(super) copying: Referred,
    /// The fingerprints at the last verification.
    pub verified: Referred,
}

impl ReferrersRow {
    /// Takes the end of a copy that saw this list. What was observed since its begin is newer.
    pub(super) fn copied(&mut self, listed: Option<String>) {
        let copying = std::mem::take(&mut self.copying);
        let is_newest = self.seen == copying;
        self.verified = match listed {
            Some(listed) => copying.with_list(listed),
            None => copying,
        };
        if is_newest {
            self.seen = self.verified.clone();
        }
    }
}

/// The rank of an observation among others of the same tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The observation is the newest one.
    Newest,
    /// A newer one is known.
    Outdated,
    /// Another digest was observed by a request that was under way at the same time: the newer one is unknown.
    Unclear,
}

/// The state of an image at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowState {
    /// Verified there.
    Complete {
        /// The bytes of the image.
        bytes: u64,
        /// The time of verification.
        at: MicroTime,
    },
    /// The last attempt failed, or found that the destination keeps the tag ([`FailureCode::is_skip`]).
    Failed(Box<RowFailure>),
    /// Being copied.
    InProgress {
        /// Failures so far.
        attempts: u32,
        /// Bytes of blobs that were read for this attempt, as last reported.
        bytes: u64,
    },
    /// Waits for its first attempt, or for the end of an attempt with an earlier digest.
    Pending,
}

/// An image that is verified at a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// The bytes of the image.
    pub bytes: u64,
    /// The digest there, where it is not that of the source.
    pub destination_digest: Option<Digest>,
    /// The fingerprint of the referrers that were copied with it, as the referrers API of the source lists them; `None` if
    /// it lists none, or the copy looked for others.
    #[serde(default, deserialize_with = "fingerprint_or_none", skip_serializing_if = "Option::is_none")]
    pub listed: Option<String>,
    /// Its manifests and blobs.
    #[serde(default, skip_serializing_if = "ContentSketch::is_empty")]
    pub content: ContentSketch,
}

/// The failure of the last attempt, and the time of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFailure {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// Failures so far.
    pub attempts: u32,
    /// The time of the next attempt; [`Timestamp::MAX`] while another image tries for all that share the cause.
    pub next_attempt_at: Timestamp,
}

/// The next step for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Copy the digest.
    Copy(Digest),
    /// Nothing: it is verified there, or under way.
    Nothing,
    /// Nothing before this time.
    Wait(Timestamp),
}

/// A failed copy, with everything that the time of the next attempt depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedAttempt {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// The pause that a registry asked for.
    pub retry_after: Option<Duration>,
    /// Spreads retries.
    pub jitter: Jitter,
}

impl Counts {
    /// Adds the counts of another ledger.
    pub fn include(&mut self, other: &Self) {
        self.each(other, u64::wrapping_add);
    }

    /// Takes the counts of another ledger away, which were added before.
    pub fn exclude(&mut self, other: &Self) {
        self.each(other, u64::wrapping_sub);
    }

    fn each(&mut self, other: &Self, apply: fn(u64, u64) -> u64) {
        for (own, other) in [
            (&mut self.images, other.images),
            (&mut self.complete, other.complete),
            (&mut self.failed, other.failed),
            (&mut self.stuck, other.stuck),
            (&mut self.skipped, other.skipped),
            (&mut self.in_progress, other.in_progress),
            (&mut self.pending, other.pending),
            (&mut self.leaving, other.leaving),
            (&mut self.bytes, other.bytes),
            (&mut self.bytes_moved, other.bytes_moved),
            (&mut self.bytes_stored, other.bytes_stored),
            (&mut self.owed, other.owed),
            (&mut self.untried, other.untried),
        ] {
            *own = apply(*own, other);
        }
    }

    pub(super) fn add(&mut self, row: &Row) {
        self.include(&Self::of(row));
    }

    pub(super) fn subtract(&mut self, row: &Row) {
        self.exclude(&Self::of(row));
    }

    fn of(row: &Row) -> Self {
        let mut counts = Self { images: 1, owed: row.owed.into(), ..Self::default() };
        match &row.state {
            RowState::Complete { bytes, .. } => (counts.complete, counts.bytes) = (1, *bytes),
            RowState::Failed(failure) if failure.code.is_skip() => (counts.skipped, counts.owed) = (1, 0),
            RowState::Failed(failure) => (counts.failed, counts.stuck) = (1, failure.code.needs_user().into()),
            RowState::InProgress { .. } => (counts.in_progress, counts.untried) = (1, counts.owed),
            RowState::Pending if row.is_leaving() => (counts.pending, counts.leaving, counts.owed) = (1, 1, 0),
            RowState::Pending => (counts.pending, counts.untried) = (1, counts.owed),
        }
        counts
    }
}

impl RowFailure {
    /// Returns true if the time of the next attempt is known.
    pub fn is_scheduled(&self) -> bool {
        self.next_attempt_at < Timestamp::MAX
    }
}

impl TagAbsence {
    pub(super) fn since(since: Timestamp) -> Self {
        Self { since, is_proved: false, is_doubted: false, is_outside: false }
    }
}

impl Row {
    /// Returns true if the absence of the tag from the source is proved: it is not copied any more.
    pub fn is_leaving(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.is_proved)
    }

    /// Returns true if the source has the tag, and the rules take only newer ones.
    pub fn is_outside(&self) -> bool {
        self.absence.as_ref().is_some_and(|absence| absence.is_outside)
    }

    /// Returns the time at which the first of the lists in a row was taken that lack the tag.
    pub fn absent_since(&self) -> Option<Timestamp> {
        self.absence.as_ref().map(|absence| absence.since)
    }
}

impl Row {
    /// Takes fingerprints of the referrers at the source. A complete image with other ones is copied again, and one whose
    /// signature was missing or invalid is tried again.
    pub(super) fn observe_referrers(&mut self, tags: Option<String>, listed: Option<Option<String>>, now: Timestamp) {
        let listed = listed.unwrap_or_else(|| self.referrers.seen.listed().map(str::to_owned));
        let seen = Referred::new(tags, listed);
        let is_new = self.referrers.seen != seen;
        self.referrers.seen = seen;
        match &mut self.state {
            RowState::Complete { .. } if self.referrers.seen != self.referrers.verified => {
                (self.state, self.since) = (RowState::Pending, now.into());
            }
            RowState::Failed(failure) if is_new && failure.code.is_of_signature() => {
                failure.next_attempt_at = failure.next_attempt_at.min(now);
            }
            _ => {}
        }
    }

    pub(super) fn new(digest: &Digest, observed_at: Timestamp, now: Timestamp) -> Self {
        Self {
            digest: digest.clone(),
            state: RowState::Pending,
            since: now.into(),
            referrers: ReferrersRow::default(),
            observed_at: observed_at.into(),
            taken_at: now.into(),
            audit_at: (now + AUDIT_INTERVAL).into(),
            owed: false,
            absence: None,
            was_there: false,
            written: None,
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        match &self.state {
            RowState::Failed(failure) => failure.attempts,
            RowState::InProgress { attempts, .. } => *attempts,
            _ => 0,
        }
    }

    /// Returns the time at which the image, verified at `at`, is read back again soon: a write that was sent before and
    /// never answered may still take effect.
    pub fn doubted_until(&self, at: Timestamp) -> Option<Timestamp> {
        (self.audit_at <= at + MAX_LATE_WRITE).then(|| self.audit_at.get())
    }

    pub(super) fn attempt(&self, now: Timestamp) -> Attempt {
        match &self.state {
            _ if self.is_leaving() => Attempt::Nothing,
            RowState::Pending => Attempt::Copy(self.digest.clone()),
            RowState::Failed(failure) if failure.next_attempt_at <= now => Attempt::Copy(self.digest.clone()),
            RowState::Failed(failure) => Attempt::Wait(failure.next_attempt_at),
            RowState::Complete { .. } if self.audit_at <= now => Attempt::Copy(self.digest.clone()),
            RowState::InProgress { .. } | RowState::Complete { .. } => Attempt::Nothing,
        }
    }
}

/// The interval of audits: a destination may lose what it had.
pub(super) const AUDIT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The time for which writes of an earlier process may still arrive: longer than a registry works on a request whose
/// client is gone.
pub const MAX_LATE_WRITE: Duration = Duration::from_secs(120);
/// The longest wait that a restored status may ask for.
pub(super) const MAX_RESTORED_WAIT: Duration = Duration::from_secs(3600);
