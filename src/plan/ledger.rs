//! What is known of each tag of a pair: which digest it has at the source, and how far that is at the destination.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::backoff::{Jitter, retry_delay};
use crate::api::{FailureCode, ImageStatus, ReplicationState};
use crate::image::{Digest, Tag};

/// The rows of one pair. Complete while the process lives; after a restart it holds what the status told, and tags that are
/// missing are observed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    rows: BTreeMap<Tag, Row>,
}

/// What is known of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The digest that the source has under the tag.
    pub digest: Digest,
    /// How far that digest is at the destination.
    pub state: State,
    /// Since when that digest is wanted.
    pub since: Timestamp,
    /// What refers to the image, and how far that is.
    pub referrers: ReferrersRow,
    /// When all of it is looked at again.
    audit_at: Timestamp,
}

/// Fingerprints of what refers to an image; `None` if nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersRow {
    /// At the source, as it was last seen.
    seen: Option<String>,
    /// When the copy that is under way began.
    copying: Option<String>,
    /// When the image was last verified.
    pub verified: Option<String>,
}

/// How far an image is at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Verified there.
    Complete {
        /// The bytes of the image.
        bytes: u64,
        /// When it was verified.
        at: Timestamp,
        /// The digest there, where it is not that of the source.
        destination_digest: Option<Digest>,
    },
    /// The last attempt failed.
    Failed(Failure),
    /// Being copied, as attempt number so many plus one.
    InProgress {
        /// Failures so far.
        attempts: u32,
        /// Bytes of blobs that were read for this attempt, as they were last told.
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
}

/// Why an attempt failed, and when the next one is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The cause.
    pub code: FailureCode,
    /// A sentence.
    pub message: String,
    /// Failures so far.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Timestamp,
}

/// What is to be done about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Copy the digest.
    Copy(Digest),
    /// Nothing: it is verified there, or under way.
    Nothing,
    /// Nothing before this time.
    Wait(Timestamp),
}

impl Ledger {
    /// Takes up what an earlier process wrote. What was in progress then is pending now: its owner is gone.
    pub fn from_status(images: &[ImageStatus], now: Timestamp) -> Self {
        let rows = images.iter().filter_map(|image| {
            let digest: Digest = image.digest.parse().ok()?;
            let state = match (image.status, image.failure_code) {
                (ReplicationState::Complete, _) => State::Complete {
                    bytes: image.bytes.unwrap_or(0),
                    at: image.completed_at.unwrap_or(now),
                    destination_digest: image.destination_digest.as_deref().and_then(|digest| digest.parse().ok()),
                },
                (ReplicationState::Failed, Some(code)) => State::Failed(Failure {
                    code,
                    message: image.message.clone().unwrap_or_default(),
                    attempts: image.attempts.unwrap_or(1),
                    next_attempt_at: image.next_attempt_at.unwrap_or(now).min(now + Duration::from_secs(3600)),
                }),
                _ => State::Pending,
            };
            let verified = image.referrers.clone();
            let referrers = ReferrersRow { seen: verified.clone(), copying: None, verified };
            // Spread over a day, so that a restart does not look at everything at once.
            let audit_at = now + AUDIT_EVERY.mul_f64(phase(&image.tag));
            Some((image.tag.parse().ok()?, Row { digest, state, since: now, referrers, audit_at }))
        });
        Self { rows: rows.collect() }
    }

    /// Records that the source has `digest` under `tag`, and says what is to be done about it.
    pub fn observe(&mut self, tag: &Tag, digest: &Digest, now: Timestamp) -> Attempt {
        let row = match self.rows.get_mut(tag) {
            Some(row) if row.digest == *digest => row,
            Some(row) => {
                *row = Row::new(digest, now);
                row
            }
            None => self.rows.entry(tag.clone()).or_insert_with(|| Row::new(digest, now)),
        };
        row.attempt(now)
    }

    /// Records a fingerprint of what refers to the image under `tag` at the source, and says what is to be done about it: an image
    /// that is complete is copied again with what is new.
    pub fn observe_referrers(&mut self, tag: &Tag, seen: Option<String>, now: Timestamp) -> Attempt {
        let Some(row) = self.rows.get_mut(tag) else { return Attempt::Nothing };
        row.referrers.seen = seen;
        if matches!(row.state, State::Complete { .. }) && row.referrers.seen != row.referrers.verified {
            (row.state, row.since) = (State::Pending, now);
        }
        row.attempt(now)
    }

    /// Records that a copy of `tag` begins: with what refers to the image by now.
    pub fn begin(&mut self, tag: &Tag) {
        if let Some(row) = self.rows.get_mut(tag) {
            row.referrers.copying = row.referrers.seen.clone();
        }
    }

    /// What is to be done about a tag that is already known.
    pub fn attempt(&self, tag: &Tag, now: Timestamp) -> Attempt {
        self.rows.get(tag).map_or(Attempt::Nothing, |row| row.attempt(now))
    }

    /// Records that a copy of `digest` to `tag` is under way, and has read `bytes`. Answers whether people are to see that.
    pub fn progress(&mut self, tag: &Tag, digest: &Digest, bytes: u64) -> bool {
        let Some(row) = self.rows.get_mut(tag).filter(|row| row.digest == *digest) else { return false };
        let attempts = match &row.state {
            State::Failed(failure) => failure.attempts,
            State::InProgress { attempts, .. } => *attempts,
            _ => 0,
        };
        // An image that is looked at again stays complete meanwhile.
        if matches!(row.state, State::Complete { .. }) {
            return false;
        }
        let state = State::InProgress { attempts, bytes };
        let is_new = row.state != state;
        row.state = state;
        is_new
    }

    /// Records that the copy of `digest` to `tag` ended well. Nothing changes if the tag has moved on at the source.
    pub fn complete(&mut self, tag: &Tag, digest: &Digest, replica: Replica, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(tag).filter(|row| row.digest == *digest) {
            let Replica { bytes, destination_digest } = replica;
            let at = match row.state {
                State::Complete { at, .. } => at,
                _ => now,
            };
            row.audit_at = now + AUDIT_EVERY;
            row.referrers.verified = row.referrers.copying.take();
            let is_current = row.referrers.verified == row.referrers.seen;
            let complete = State::Complete { bytes, at, destination_digest };
            row.state = if is_current { complete } else { State::Pending };
        }
    }

    /// Records that the copy of `digest` to `tag` failed. Nothing changes if the tag has moved on at the source.
    pub fn fail(
        &mut self,
        tag: &Tag,
        digest: &Digest,
        cause: (FailureCode, String),
        retry_after: Option<Duration>,
        now: Timestamp,
        jitter: Jitter,
    ) {
        let Some(row) = self.rows.get_mut(tag).filter(|row| row.digest == *digest) else {
            return;
        };
        let attempts = 1 + match &row.state {
            State::InProgress { attempts, .. } => *attempts,
            State::Failed(failure) => failure.attempts,
            _ => 0,
        };
        let (code, message) = cause;
        let next_attempt_at = now + retry_delay(code, attempts, retry_after, jitter);
        row.state = State::Failed(Failure { code, message, attempts, next_attempt_at });
    }

    /// Makes every failure that `chosen` picks due now: its cause may be mended.
    pub fn make_due(&mut self, now: Timestamp, chosen: impl Fn(FailureCode) -> bool) {
        for row in self.rows.values_mut() {
            if let State::Failed(failure) = &mut row.state
                && chosen(failure.code)
            {
                failure.next_attempt_at = failure.next_attempt_at.min(now);
            }
        }
    }

    /// Records that the copy of `tag` was broken off. Answers whether one was under way.
    pub fn interrupt(&mut self, tag: &Tag) -> bool {
        let found = self.rows.get_mut(tag).filter(|row| matches!(row.state, State::InProgress { .. }));
        found.map(|row| row.state = State::Pending).is_some()
    }

    /// Has every image looked at again: what was verified, or failed, says nothing about what is wanted now.
    pub fn start_over(&mut self) {
        self.rows.values_mut().for_each(|row| row.state = State::Pending);
    }

    /// Whether the tag is verified at the destination, with the digest that the source had when it was asked last.
    pub fn is_complete(&self, tag: &Tag) -> bool {
        self.rows.get(tag).is_some_and(|row| matches!(row.state, State::Complete { .. }))
    }

    /// Forgets every tag that the source does not have any more; answers whether there were any. `listed` has to be a complete
    /// listing that was begun at `begun`: it says nothing about rows that are younger.
    pub fn retain(&mut self, listed: &BTreeSet<Tag>, begun: Timestamp) -> bool {
        let before = self.rows.len();
        self.rows.retain(|tag, row| row.since >= begun || listed.contains(tag));
        self.rows.len() != before
    }

    /// Forgets every tag that `takes` does not pick; answers whether there were any.
    pub fn retain_taken(&mut self, takes: impl Fn(&Tag) -> bool) -> bool {
        let before = self.rows.len();
        self.rows.retain(|tag, _| takes(tag));
        self.rows.len() != before
    }

    /// The tags whose next attempt is due at `now`, and when the next one after that is.
    pub fn due(&self, now: Timestamp) -> (Vec<(Tag, Digest)>, Option<Timestamp>) {
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (tag, row) in &self.rows {
            match row.attempt(now) {
                Attempt::Copy(digest) => due.push((tag.clone(), digest)),
                Attempt::Wait(until) => next = Some(next.map_or(until, |n| n.min(until))),
                Attempt::Nothing => {}
            }
        }
        (due, next)
    }

    /// The digest of every row.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.rows.values().map(|row| row.digest.clone())
    }

    /// Every row, by tag.
    pub fn rows(&self) -> impl Iterator<Item = (&Tag, &Row)> {
        self.rows.iter()
    }
}

impl Row {
    fn new(digest: &Digest, now: Timestamp) -> Self {
        let (referrers, audit_at) = (ReferrersRow::default(), now + AUDIT_EVERY);
        Self { digest: digest.clone(), state: State::Pending, since: now, referrers, audit_at }
    }

    fn attempt(&self, now: Timestamp) -> Attempt {
        match &self.state {
            State::Pending => Attempt::Copy(self.digest.clone()),
            State::Failed(failure) if failure.next_attempt_at <= now => Attempt::Copy(self.digest.clone()),
            State::Failed(failure) => Attempt::Wait(failure.next_attempt_at),
            State::Complete { .. } if self.audit_at <= now => Attempt::Copy(self.digest.clone()),
            State::InProgress { .. } | State::Complete { .. } => Attempt::Nothing,
        }
    }
}

/// A number from 0 to 1 that belongs to a tag.
fn phase(tag: &str) -> f64 {
    let hash = Digest::sha256(tag.as_bytes());
    let part = u32::from_str_radix(&hash.encoded()[..8], 16).unwrap_or(0);
    f64::from(part) / f64::from(u32::MAX)
}

/// How often a complete image is read back again: a destination may lose what it had.
const AUDIT_EVERY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn unavailable() -> (FailureCode, String) {
        (FailureCode::SourceUnavailable, "no answer".to_owned())
    }

    #[test]
    fn an_image_is_copied_once_and_again_only_when_its_tag_moves() {
        let (mut ledger, one, two) = (Ledger::default(), Digest::sha256(b"1"), Digest::sha256(b"2"));
        let latest = tag("latest");
        assert_eq!(ledger.observe(&latest, &one, at(0)), Attempt::Copy(one.clone()));
        ledger.progress(&latest, &one, 0);
        assert_eq!(ledger.observe(&latest, &one, at(1)), Attempt::Nothing);
        ledger.complete(&latest, &one, Replica::default(), at(2));
        assert_eq!(ledger.observe(&latest, &one, at(3)), Attempt::Nothing);
        assert_eq!(ledger.observe(&latest, &two, at(4)), Attempt::Copy(two));
    }

    #[test]
    fn the_outcome_of_an_earlier_digest_says_nothing_about_the_present_one() {
        let (mut ledger, one, two) = (Ledger::default(), Digest::sha256(b"1"), Digest::sha256(b"2"));
        let latest = tag("latest");
        ledger.observe(&latest, &one, at(0));
        ledger.progress(&latest, &one, 0);
        ledger.observe(&latest, &two, at(1));
        ledger.complete(&latest, &one, Replica::default(), at(2));
        ledger.fail(&latest, &one, unavailable(), None, at(2), 0.0);
        assert_eq!(ledger.attempt(&latest, at(2)), Attempt::Copy(two));
    }

    #[test]
    fn failures_wait_longer_each_time_and_are_due_at_once_when_the_cause_is_mended() {
        let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
        ledger.observe(&v1, &one, at(0));
        let mut waits = Vec::new();
        for _ in 0..3 {
            ledger.progress(&v1, &one, 0);
            ledger.fail(&v1, &one, unavailable(), None, at(100), 1.0);
            let Attempt::Wait(until) = ledger.attempt(&v1, at(100)) else { panic!("it waits") };
            waits.push(until.as_second() - 100);
        }
        assert_eq!(waits, [2, 4, 8]);
        ledger.make_due(at(101), |code| code == FailureCode::SourceUnavailable);
        assert_eq!(ledger.attempt(&v1, at(101)), Attempt::Copy(one));
    }

    #[test]
    fn bytes_are_news_once_and_an_image_whose_worker_was_lost_waits_again() {
        let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
        ledger.observe(&v1, &one, at(0));
        assert!(ledger.progress(&v1, &one, 5) && !ledger.progress(&v1, &one, 5) && ledger.progress(&v1, &one, 6));
        assert!(!ledger.progress(&v1, &Digest::sha256(b"2"), 7), "another digest is another image");
        assert!(ledger.interrupt(&v1) && !ledger.interrupt(&v1));
        assert_eq!(ledger.rows().next().unwrap().1.state, State::Pending);
    }

    #[test]
    fn nothing_stays_in_progress_without_a_living_owner() {
        let image = ImageStatus {
            tag: "v1".to_owned(),
            digest: Digest::sha256(b"1").to_string(),
            destination_digest: None,
            status: ReplicationState::InProgress,
            failure_code: None,
            message: None,
            attempts: None,
            next_attempt_at: None,
            bytes: None,
            completed_at: None,
            referrers: None,
        };
        let ledger = Ledger::from_status(&[image], at(0));
        assert_eq!(ledger.rows().next().unwrap().1.state, State::Pending);
    }

    #[test]
    fn an_image_is_looked_at_again_once_a_day_and_stays_complete_meanwhile() {
        let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
        ledger.observe(&v1, &one, at(0));
        ledger.complete(&v1, &one, Replica { bytes: 7, destination_digest: None }, at(10));
        let day = 24 * 3600;
        assert_eq!(ledger.observe(&v1, &one, at(day)), Attempt::Nothing);
        assert_eq!(ledger.observe(&v1, &one, at(day + 10)), Attempt::Copy(one.clone()));
        ledger.begin(&v1);
        assert!(!ledger.progress(&v1, &one, 5), "nobody is to see that");
        ledger.complete(&v1, &one, Replica { bytes: 7, destination_digest: None }, at(day + 11));
        assert_eq!(
            ledger.rows().next().unwrap().1.state,
            State::Complete { bytes: 7, at: at(10), destination_digest: None }
        );
        assert_eq!(ledger.observe(&v1, &one, at(day + 12)), Attempt::Nothing);
        assert_eq!(ledger.observe(&v1, &one, at(2 * day + 12)), Attempt::Copy(one.clone()));
        ledger.fail(&v1, &one, unavailable(), None, at(2 * day + 13), 0.0);
        assert!(
            matches!(ledger.rows().next().unwrap().1.state, State::Failed(_)),
            "what is not there any more is told"
        );
    }

    #[test]
    fn what_refers_to_an_image_is_copied_when_it_changes_also_while_a_copy_runs() {
        let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
        let print = |text: &str| Some(text.to_owned());
        ledger.observe(&v1, &one, at(0));
        assert_eq!(ledger.observe_referrers(&v1, print("a"), at(0)), Attempt::Copy(one.clone()));
        ledger.begin(&v1);
        ledger.progress(&v1, &one, 0);
        assert_eq!(ledger.observe_referrers(&v1, print("b"), at(1)), Attempt::Nothing, "it is under way");
        ledger.complete(&v1, &one, Replica { bytes: 7, destination_digest: None }, at(2));
        assert_eq!(ledger.attempt(&v1, at(2)), Attempt::Copy(one.clone()), "what came meanwhile is not there");
        ledger.begin(&v1);
        ledger.complete(&v1, &one, Replica { bytes: 7, destination_digest: None }, at(3));
        assert_eq!(ledger.observe_referrers(&v1, print("b"), at(4)), Attempt::Nothing);
        assert_eq!(ledger.observe_referrers(&v1, None, at(5)), Attempt::Copy(one));
    }

    #[test]
    fn tags_that_are_gone_at_the_source_are_forgotten() {
        let mut ledger = Ledger::default();
        ledger.observe(&tag("a"), &Digest::sha256(b"1"), at(0));
        ledger.observe(&tag("b"), &Digest::sha256(b"1"), at(0));
        ledger.observe(&tag("c"), &Digest::sha256(b"1"), at(6));
        assert!(ledger.retain(&BTreeSet::from([tag("b")]), at(5)));
        assert_eq!(ledger.rows().map(|(t, _)| t.to_string()).collect::<Vec<_>>(), ["b", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn a_plan_applied_twice_is_empty(contents in proptest::collection::btree_map("[a-z]{1,4}", 0_u8..4, 0..20)) {
            let mut ledger = Ledger::default();
            for (name, content) in &contents {
                let (tag, digest) = (tag(name), Digest::sha256(&[*content]));
                if let Attempt::Copy(digest) = ledger.observe(&tag, &digest, at(0)) {
                    ledger.progress(&tag, &digest, 0);
                    ledger.complete(&tag, &digest, Replica::default(), at(1));
                }
            }
            for (name, content) in &contents {
                proptest::prop_assert_eq!(ledger.observe(&tag(name), &Digest::sha256(&[*content]), at(2)), Attempt::Nothing);
            }
            proptest::prop_assert_eq!(ledger.due(at(2)), (vec![], None));
        }
    }
}
