//! The ledger of a pair: the digest of each tag at the source, and its state at the destination.

mod absence;
mod failures;
mod known;
mod packing;
mod pushes;
mod row;
mod unread;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use self::absence::AbsentTags;
pub use self::row::MAX_LATE_WRITE;
use self::row::{AUDIT_INTERVAL, MAX_RESTORED_WAIT};
pub use self::row::{Attempt, Counts, FailedAttempt, Freshness, ReferrersRow, Replica, Row, RowFailure, RowState};
pub use self::unread::{FailedRead, LedgerEntry, UnreadEntry, UnreadTag};
use super::backoff::retry_delay;
use super::phase::next_in_cycle;
use super::recorded_images::RecordedImages;
use super::referrers::Referred;
use crate::image::{Digest, Tag};
use crate::terms::{ImageStatus, ReferrersMode, ReplicationState};

/// The rows of one pair, with their counts kept up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Boxed: a node of the map has room for eleven of them, and seldom that many.
    rows: BTreeMap<Tag, Box<Row>>,
    /// Tags that could not be read when they were last observed, whether they have a row or not.
    unread: BTreeMap<Tag, UnreadTag>,
    counts: Counts,
    /// Complete listings in a row that were empty although there are rows.
    empty_listings: u32,
    /// The tags that the last complete listing lacked are others than before.
    are_other_missed: bool,
    /// The number of rows when they were last packed.
    packed: usize,
}

impl Ledger {
    /// Restores what an earlier process wrote. An image that was in progress then is pending now, since its worker is
    /// gone. `since` is the age of images that are not complete. Restored digests count as observed before everything
    /// else.
    pub fn restore(recorded: &RecordedImages, shown: &[ImageStatus], since: Option<Timestamp>, now: Timestamp) -> Self {
        let mut ledger = Self::default();
        recorded.each(shown, |image| ledger.restore_image(image, since, now));
        ledger
    }

    /// Records that the source had `digest` under `tag` when the request of the observation was sent. Changes nothing
    /// unless that is the newest observation.
    pub fn observe(&mut self, tag: &Tag, digest: &Digest, sent_at: Timestamp, now: Timestamp) -> Freshness {
        let was_unread = self.read_again(tag, sent_at);
        let is_new = !self.rows.contains_key(tag);
        self.are_other_missed |= self.rows.get(tag).is_some_and(|row| row.absence.is_some());
        if is_new {
            let row = Row { owed: was_unread, ..Row::new(digest, sent_at, now) };
            if !self.unread.contains_key(tag) {
                self.counts.add(&row);
            }
            self.rows.insert(tag.clone(), Box::new(row));
            return Freshness::Newest;
        }
        let observed = self.change(tag, |row| {
            if row.observed_at > sent_at {
                return Freshness::Outdated;
            }
            if row.digest != *digest && row.taken_at > sent_at {
                row.absence = None; // It was there in any case.
                return Freshness::Unclear;
            }
            (row.observed_at, row.taken_at, row.absence) = (sent_at.into(), now.into(), None);
            if row.digest != *digest {
                let (was_there, written, owed) = (row.was_there, row.written.take(), row.owed);
                *row = Row { was_there, written, owed, ..Row::new(digest, sent_at, now) };
            }
            row.owed |= was_unread && !matches!(row.state, RowState::Complete { .. });
            Freshness::Newest
        });
        observed.unwrap_or(Freshness::Outdated)
    }

    /// Records fingerprints of the referrers of the image under `tag` at the source: of its tags, and of the referrers
    /// API if that was asked. A complete image is copied again with new referrers, and one whose signature was missing or
    /// invalid is tried again.
    pub fn observe_referrers(
        &mut self,
        tag: &Tag,
        tags: Option<String>,
        listed: Option<Option<String>>,
        now: Timestamp,
    ) {
        self.change(tag, |row| row.observe_referrers(tags, listed, now));
    }

    /// Records that a copy of `tag` begins, with the referrers that are known by now. One without referrers verifies
    /// none of them.
    pub fn begin(&mut self, tag: &Tag, mode: ReferrersMode) {
        self.change(tag, |row| {
            if mode == ReferrersMode::Ignore {
                row.referrers = ReferrersRow::default();
            }
            row.referrers.copying = row.referrers.seen.clone();
        });
    }

    /// Returns the next step for a known tag.
    pub fn attempt(&self, tag: &Tag, now: Timestamp) -> Attempt {
        self.rows.get(tag).map_or(Attempt::Nothing, |row| row.attempt(now))
    }

    /// Records that a copy of `digest` to `tag` is under way, and has read `bytes`. Returns true if the status shows
    /// that.
    pub fn progress(&mut self, tag: &Tag, digest: &Digest, bytes: u64) -> bool {
        let changed = self.change(tag, |row| {
            // An image that is read back again stays complete meanwhile.
            if row.digest != *digest || matches!(row.state, RowState::Complete { .. }) {
                return false;
            }
            let state = RowState::InProgress { attempts: row.attempts(), bytes };
            let is_new = row.state != state;
            row.state = state;
            is_new
        });
        changed.unwrap_or(false)
    }

    /// Records that the copy of `digest` to `tag` was verified. Returns false, and changes nothing, if the tag has
    /// moved on at the source. Until `doubt_until` an earlier write that was never answered may still take effect: the
    /// image is read back again then.
    pub fn complete(
        &mut self,
        tag: &Tag,
        digest: &Digest,
        replica: Replica,
        doubt_until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let changed = self.change(tag, |row| {
            row.was_there = true;
            if row.digest != *digest {
                return false;
            }
            let Replica { bytes, destination_digest, listed, .. } = replica;
            row.written = Some(destination_digest.unwrap_or_else(|| row.digest.clone()));
            let at = match row.state {
                RowState::Complete { at, .. } => at,
                _ => now.into(),
            };
            row.audit_at = if doubt_until > now { doubt_until } else { now + AUDIT_INTERVAL }.into();
            row.referrers.copied(listed);
            if row.referrers.verified == row.referrers.seen {
                (row.state, row.owed) = (RowState::Complete { bytes, at }, false);
            } else {
                row.state = RowState::Pending;
            }
            true
        });
        changed.unwrap_or(false)
    }

    /// Records that the copy of `digest` to `tag` failed. Nothing changes if the tag has moved on at the source.
    pub fn fail(&mut self, tag: &Tag, digest: &Digest, failed: FailedAttempt, now: Timestamp) {
        self.change(tag, |row| {
            if row.digest != *digest {
                return;
            }
            let FailedAttempt { code, message, retry_after, jitter } = failed;
            let attempts = 1 + row.attempts();
            let next_attempt_at = now + retry_delay(code, attempts, retry_after, jitter);
            // A tag that has left the source is not copied any more.
            let failed = RowState::Failed(Box::new(RowFailure { code, message, attempts, next_attempt_at }));
            row.state = if row.is_leaving() { RowState::Pending } else { failed };
            row.owed = !row.is_leaving();
        });
    }

    /// Records that the copy of `tag` was stopped. Returns true if the status showed one.
    pub fn interrupt(&mut self, tag: &Tag) -> bool {
        let changed = self.change(tag, |row| {
            let was_running = matches!(row.state, RowState::InProgress { .. });
            if was_running {
                row.state = RowState::Pending;
            }
            was_running
        });
        changed.unwrap_or(false)
    }

    /// Makes every image pending: earlier verifications and failures do not apply to the present options.
    pub fn start_over(&mut self, now: Timestamp) {
        self.change_all(|row| (row.state, row.since, row.owed) = (RowState::Pending, now.into(), true));
    }

    /// Counts every image as owed that was observed since `begun`, the start of a comparison that is complete, and is
    /// not verified.
    pub fn owe(&mut self, begun: Timestamp) {
        self.owe_where(|row| row.observed_at >= begun);
    }

    /// Counts an image as owed that a comparison has found under an unclear digest, and that is not verified.
    pub fn owe_unclear(&mut self, tag: &Tag) {
        self.change(tag, |row| row.owed |= !matches!(row.state, RowState::Complete { .. }));
    }

    /// Has every verified image read back: another process may have written meanwhile.
    pub fn audit_all(&mut self, now: Timestamp) {
        self.change_all(|row| row.audit_at = row.audit_at.min(now.into()));
    }

    /// Counts every image as owed that is not verified: another process may have compared them meanwhile.
    pub fn owe_all(&mut self) {
        self.owe_where(|_| true);
    }

    fn owe_where(&mut self, is_meant: impl Fn(&Row) -> bool) {
        if self.counts.complete < self.counts.images {
            self.change_all(|row| row.owed |= is_meant(row) && !matches!(row.state, RowState::Complete { .. }));
        }
    }

    /// Returns true if the tag is verified at the destination, with the newest digest that was observed.
    pub fn is_complete(&self, tag: &Tag) -> bool {
        self.rows.get(tag).is_some_and(|row| matches!(row.state, RowState::Complete { .. }))
    }

    /// Forgets every tag that `takes` does not pick, and returns those.
    pub fn retain_taken(&mut self, takes: impl Fn(&Tag) -> bool) -> Vec<Tag> {
        let tags = self.rows.keys().chain(self.unread.keys());
        let gone: BTreeSet<Tag> = tags.filter(|tag| !takes(tag)).cloned().collect();
        gone.iter().for_each(|tag| self.remove(tag));
        gone.into_iter().collect()
    }

    /// Returns the tags whose next attempt is due at `now`, and the time of the next one after that.
    pub fn due(&self, now: Timestamp) -> (Vec<Tag>, Option<Timestamp>) {
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (tag, row) in &self.rows {
            match row.attempt(now) {
                Attempt::Copy(_) => due.push(tag.clone()),
                Attempt::Wait(until) => next = next.into_iter().chain([until]).min(),
                Attempt::Nothing if matches!(row.state, RowState::Complete { .. }) && !row.is_leaving() => {
                    next = next.into_iter().chain([row.audit_at.get()]).min();
                }
                Attempt::Nothing => {}
            }
        }
        (due, next)
    }

    /// Returns the time at which a tag is due by itself: the next attempt of one that failed, the next audit of one
    /// that is complete.
    pub fn due_at(&self, tag: &Tag) -> Option<Timestamp> {
        match &self.rows.get(tag).filter(|row| !row.is_leaving())?.state {
            RowState::Failed(failure) => Some(failure.next_attempt_at),
            RowState::Complete { .. } => Some(self.rows[tag].audit_at.get()),
            RowState::InProgress { .. } | RowState::Pending => None,
        }
    }

    /// Returns the counts of all rows, in constant time.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the bytes of the largest verified image.
    pub fn largest(&self) -> u64 {
        let bytes = |row: &Row| if let RowState::Complete { bytes, .. } = row.state { bytes } else { 0 };
        self.rows.values().map(|row| bytes(row)).max().unwrap_or_default()
    }

    /// Returns the digest of every row.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.rows.values().map(|row| &row.digest)
    }

    /// Returns the row of `tag`.
    pub fn row(&self, tag: &Tag) -> Option<&Row> {
        self.rows.get(tag).map(Box::as_ref)
    }

    /// Returns the tag of this name with its row.
    pub fn known(&self, name: &str) -> Option<(&Tag, &Row)> {
        self.rows.get_key_value(&name.parse::<Tag>().ok()?).map(|(tag, row)| (tag, row.as_ref()))
    }

    /// Returns every row, by tag.
    pub fn rows(&self) -> impl Iterator<Item = (&Tag, &Row)> {
        self.rows.iter().map(|(tag, row)| (tag, row.as_ref()))
    }

    fn restore_image(&mut self, image: &ImageStatus, since: Option<Timestamp>, now: Timestamp) {
        let Ok(tag) = image.tag.parse::<Tag>() else { return };
        let Ok(digest) = image.digest.parse::<Digest>() else {
            if let (ReplicationState::Failed, Some(code)) = (image.status, image.failure_code) {
                self.restore_unread(tag, code, image.message.clone().unwrap_or_default(), since.unwrap_or(now));
            }
            return;
        };
        let mut row = Row::new(&digest, Timestamp::MIN, since.unwrap_or(now));
        row.taken_at = Timestamp::MIN.into();
        match (image.status, image.failure_code) {
            (ReplicationState::Complete, _) => {
                let at = image.completed_at.unwrap_or(now);
                (row.since, row.was_there) = (at.into(), true);
                row.state = RowState::Complete { bytes: image.bytes.unwrap_or(0), at: at.into() };
            }
            (ReplicationState::Failed | ReplicationState::Skipped, Some(code)) => {
                row.owed = true;
                row.state = RowState::Failed(Box::new(RowFailure {
                    code,
                    message: image.message.clone().unwrap_or_default(),
                    attempts: image.attempts.unwrap_or(1),
                    next_attempt_at: image.next_attempt_at.unwrap_or(now).min(now + MAX_RESTORED_WAIT),
                }));
            }
            _ => {}
        }
        let there = image.destination_digest.as_deref().and_then(|digest| digest.parse().ok());
        row.written = there.or_else(|| row.was_there.then(|| row.digest.clone()));
        row.referrers.verified = image.referrers_hash.as_deref().map(Referred::parse).unwrap_or_default();
        row.referrers.seen = row.referrers.verified.clone();
        let audit_at = match image.next_attempt_at.filter(|_| row.was_there) {
            Some(doubtful) => doubtful.min(now + MAX_RESTORED_WAIT),
            None => next_audit(image, now),
        };
        row.audit_at = audit_at.into();
        self.counts.add(&row);
        self.rows.insert(tag, Box::new(row));
    }

    fn change<T>(&mut self, tag: &Tag, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let row = self.rows.get_mut(tag)?;
        let is_counted = !self.unread.contains_key(tag);
        if is_counted {
            self.counts.subtract(row);
        }
        let changed = change(row);
        if is_counted {
            self.counts.add(row);
        }
        Some(changed)
    }

    fn change_all(&mut self, change: impl Fn(&mut Row)) {
        self.rows.values_mut().for_each(|row| change(row));
        self.recount();
    }

    fn remove(&mut self, tag: &Tag) {
        self.forget_unread(tag);
        if let Some(row) = self.rows.remove(tag) {
            self.counts.subtract(&row);
        }
    }
}

/// Returns the time of the next audit of an image that an earlier process verified: its time of the day, so that a restart
/// looks at nothing at once and puts nothing off. The same tag of two repositories has two times. An image that was verified
/// just now waits for the next day, since a time so soon after would say that its content is in doubt.
fn next_audit(image: &ImageStatus, now: Timestamp) -> Timestamp {
    let verified = image.completed_at.unwrap_or(now).min(now);
    next_in_cycle(&format!("{}@{}", image.tag, image.digest), AUDIT_INTERVAL, now.max(verified + MAX_LATE_WRITE))
}

#[cfg(test)]
mod tests;
