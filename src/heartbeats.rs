//! Heartbeats of the parts of a process, and the decision which of them stand still.
//!
//! A part that works regularly beats. One that may wait for work says when it begins with some and when it is done: it
//! stands still only while it has begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::locked::Locked;

/// The heartbeats of a process.
#[derive(Clone, Default)]
pub(crate) struct Heartbeats(Arc<Locked<BTreeMap<String, Pulse>>>);

/// The last sign of life of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    /// It has to give the next one within [`STANDSTILL`].
    Working(Instant),
    /// It waits for work.
    Waiting,
}

impl Heartbeats {
    /// Records that `part` works, and will say so again.
    pub(crate) fn beat(&self, part: &str) {
        self.set(part, Pulse::Working(Instant::now()));
    }

    /// Records that `part` has done its work, and waits for more.
    pub(crate) fn rest(&self, part: &str) {
        self.set(part, Pulse::Waiting);
    }

    /// Returns the parts that stand still, with the seconds since their last sign of life.
    pub(crate) fn standing(&self) -> Vec<(String, u64)> {
        let pulses = self.0.lock();
        standing(pulses.iter().map(|(part, pulse)| (part.as_str(), *pulse)), Instant::now())
    }

    fn set(&self, part: &str, pulse: Pulse) {
        let mut pulses = self.0.lock();
        match pulses.get_mut(part) {
            Some(present) => *present = pulse,
            None => drop(pulses.insert(part.to_owned(), pulse)),
        }
    }
}

fn standing<'a>(pulses: impl Iterator<Item = (&'a str, Pulse)>, now: Instant) -> Vec<(String, u64)> {
    let silent = |pulse| match pulse {
        Pulse::Working(since) => Some(now.saturating_duration_since(since)).filter(|silence| *silence > STANDSTILL),
        Pulse::Waiting => None,
    };
    pulses.filter_map(|(part, pulse)| Some((part.to_owned(), silent(pulse)?.as_secs()))).collect()
}

/// The time without a sign of life after which a part stands still.
const STANDSTILL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// Pulses, and those that stand still with their seconds.
    type PulseCase<'a> = (&'a [(&'a str, Pulse)], &'a [(&'a str, u64)]);

    #[test]
    fn a_part_stands_still_after_a_minute_in_which_it_should_have_worked() {
        let now = Instant::now() + Duration::from_secs(1_000);
        let ago = |seconds| Pulse::Working(now - Duration::from_secs(seconds));
        let table: [PulseCase<'_>; 6] = [
            (&[], &[]),
            (&[("runtime", ago(0))], &[]),
            (&[("runtime", ago(60))], &[]),
            (&[("runtime", ago(61))], &[("runtime", 61)]),
            (&[("queue of Jobs", Pulse::Waiting), ("watch of secrets", ago(59))], &[]),
            (&[("a", ago(900)), ("b", ago(1)), ("c", ago(70))], &[("a", 900), ("c", 70)]),
        ];
        for (pulses, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(part, seconds)| ((*part).to_owned(), *seconds)).collect();
            assert_eq!(standing(pulses.iter().copied(), now), expected, "{pulses:?}");
        }
    }

    #[test]
    fn a_part_that_works_again_does_not_stand_still() {
        let heartbeats = Heartbeats::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        heartbeats.set("x", Pulse::Working(long_ago));
        assert_eq!(heartbeats.standing().len(), 1);
        heartbeats.rest("x");
        assert_eq!(heartbeats.standing(), []);
        heartbeats.set("x", Pulse::Working(long_ago));
        heartbeats.beat("x");
        assert_eq!(heartbeats.standing(), []);
    }
}
