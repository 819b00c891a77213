//! The causes for which destinations refuse work, and when an image tries again for all that share one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::ids::PairId;
use crate::image::Tag;
use crate::plan::{NamespacedName, ProbeSubject, ProbeTurns, SharedCause, Sharing, retry_delay};

/// The causes by destination.
#[derive(Debug, Default)]
pub(super) struct SharedCauses {
    pub(super) refusals: BTreeMap<(NamespacedName, SharedCause), Refusals>,
    /// Causes of which an image was admitted; other configurations are to learn of that.
    pub(super) admitted: Vec<(NamespacedName, SharedCause)>,
    /// The successes of all configurations when turns were last asked for.
    pub(super) seen_changes: u64,
}

/// The refusals for one cause at one destination.
#[derive(Debug)]
pub(super) struct Refusals {
    /// The pairs that wait, in the order of their turn.
    pub(super) pairs: VecDeque<PairId>,
    /// Images that were refused since one was last copied to the destination, up to [`IN_A_ROW`].
    in_a_row: BTreeSet<(PairId, Tag)>,
    /// The images that try now.
    pub(super) probing: BTreeSet<(PairId, Tag)>,
    pub(super) probe_at: Timestamp,
    probed_at: Timestamp,
    /// True if an image of every pair is to try: the cause may be gone for some of them.
    is_doubted: bool,
    /// The number of probes so far: each is made by another image.
    pub(super) turn: usize,
    /// Probes since the cause was last doubted: the pause before the next one grows with them.
    probes: u32,
    /// The sentence of the last failure.
    pub(super) message: String,
    /// Probes that need no turn, as a change may not be in force yet.
    quick: u32,
    /// True while the probe is due, and others have their turn first.
    pub(super) waits_for_turn: bool,
}

impl SharedCauses {
    /// Returns the time of the next probe.
    pub(super) fn probe_at(&self) -> Option<Timestamp> {
        self.refusals.values().filter(|refusals| !refusals.pairs.is_empty()).map(|refusals| refusals.probe_at).min()
    }

    /// Records that an image was copied to a destination.
    pub(super) fn take_success(&mut self, destination: &NamespacedName) {
        let of_destination = self.refusals.iter_mut().filter(|((of, _), _)| of == destination);
        of_destination.for_each(|(_, refusals)| refusals.in_a_row.clear());
    }
}

impl Refusals {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            pairs: VecDeque::new(),
            in_a_row: BTreeSet::new(),
            probing: BTreeSet::new(),
            probe_at: now,
            probed_at: now,
            is_doubted: false,
            turn: 0,
            probes: 0,
            message: String::new(),
            quick: 0,
            waits_for_turn: false,
        }
    }

    /// Has an image of every pair try at `at`, or earlier if that is due.
    pub(super) fn doubt(&mut self, at: Timestamp) {
        (self.is_doubted, self.probes, self.probe_at) = (true, 0, self.probe_at.min(at));
        self.quick = QUICK;
    }

    /// Forgets a pair that is no longer refused, and has one image of each other pair tried soon.
    pub(super) fn admit(&mut self, id: PairId, now: Timestamp) {
        self.pairs.retain(|other| *other != id);
        self.probing.retain(|(other, _)| *other != id);
        self.in_a_row.clear();
        self.doubt(now + ADMIT_EVERY);
    }

    /// Records the failure of an image. Returns true if it speaks for others.
    pub(super) fn take_failure(
        &mut self,
        cause: SharedCause,
        (id, tag): (PairId, &Tag),
        jitter: f64,
        now: Timestamp,
    ) -> bool {
        self.probing.remove(&(id, tag.clone()));
        if self.in_a_row.len() < IN_A_ROW {
            self.in_a_row.insert((id, tag.clone()));
        }
        if cause.sharing == Sharing::InARow && !self.is_proved() {
            return false;
        }
        if self.probing.is_empty() && !self.is_doubted {
            self.probe_at = now + retry_delay(cause.code, 1 + self.probes, None, jitter);
        }
        true
    }

    /// Returns true if an image of the pair is among those that failed in a row.
    pub(super) fn counts(&self, id: PairId) -> bool {
        self.in_a_row.iter().any(|(of, _)| *of == id)
    }

    /// Returns true if several images failed in a row.
    pub(super) fn is_proved(&self) -> bool {
        self.in_a_row.len() >= IN_A_ROW
    }

    /// Puts the next probe off where the check of the Registry tries for all. Returns true if it is put off.
    pub(super) fn leave_to_check(&mut self, now: Timestamp) -> bool {
        self.probe_at = self.probe_at.max(self.probed_at + UNCHECKED);
        self.probe_at > now
    }

    /// Returns true if the configuration may probe now: at once where something changed, else in its turn.
    pub(super) fn takes_turn(
        &mut self,
        turns: &mut ProbeTurns,
        subject: &ProbeSubject,
        holder: (&str, &str),
        now: Timestamp,
    ) -> bool {
        if self.is_doubted || self.quick > 0 {
            self.quick = self.quick.saturating_sub(u32::from(!self.is_doubted));
            turns.count(subject, now);
            return true;
        }
        let turn = turns.take(subject, holder, now);
        self.waits_for_turn = turn.is_err();
        self.probe_at = turn.err().unwrap_or(self.probe_at);
        !self.waits_for_turn
    }

    /// Begins to try, and returns the number of pairs of which an image tries now.
    pub(super) fn begin_round(&mut self, cause: SharedCause, now: Timestamp) -> usize {
        let count = match (std::mem::take(&mut self.is_doubted), self.probing.is_empty()) {
            (true, _) => self.pairs.len(),
            (false, true) => 1,
            (false, false) => 0,
        };
        self.probe_at = now + retry_delay(cause.code, MANY, None, 0.5);
        self.probed_at = now;
        (self.turn, self.probes) = (self.turn.wrapping_add(1), self.probes.saturating_add(1));
        count
    }
}

/// Images that a registry refuses in a row from which on they count as refused for one cause.
const IN_A_ROW: usize = 3;
/// Probes without a turn after a change.
const QUICK: u32 = 2;
/// The number of failures from which the pause no longer grows.
const MANY: u32 = 8;
/// The least time between the first image of a cause that succeeds and the next of other pairs.
const ADMIT_EVERY: Duration = Duration::from_secs(1);
/// The pause between probes of a Registry whose check is refused as well: some refuse the check alone.
const UNCHECKED: Duration = Duration::from_secs(600);
