//! Turns of configurations that are refused for one cause at one Registry: one of them tries in each pause.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::backoff::retry_delay;
use super::namespaced_name::NamespacedName;
use super::shared_cause::SharedCause;

/// The Registry that refuses, and the cause.
pub type ProbeSubject = (NamespacedName, SharedCause);

/// The configurations of a process that wait for a probe, over all namespaces.
///
/// Namespaces take turns, and so do the configurations of one. A turn that is not taken in time passes on, so that a
/// configuration that has ended holds up no other one.
#[derive(Debug, Default)]
pub struct ProbeTurns {
    lines: BTreeMap<ProbeSubject, Line>,
    changes: u64,
}

/// The configurations that wait for one cause at one Registry.
#[derive(Debug)]
struct Line {
    /// The uids of each namespace, all in the order of their turn.
    namespaces: VecDeque<(String, VecDeque<String>)>,
    next_at: Timestamp,
    /// Probes since one last succeeded: the pause grows with them.
    probes: u32,
}

impl ProbeTurns {
    /// Takes the turn of a configuration to probe, if it has come.
    ///
    /// # Errors
    /// The time at which it is to ask again.
    pub fn take(&mut self, subject: &ProbeSubject, holder: (&str, &str), now: Timestamp) -> Result<(), Timestamp> {
        let new = || Line { namespaces: VecDeque::new(), next_at: now, probes: 0 };
        let line = self.lines.entry(subject.clone()).or_insert_with(new);
        line.join(holder);
        line.pass_missed_turns(holder, now);
        let position = line.position(holder).unwrap_or_default();
        if position == 0 && line.next_at <= now {
            line.probes = line.probes.saturating_add(1);
            line.next_at = now + line.pause(subject.1);
            line.pass_on();
            return Ok(());
        }
        let first = if line.next_at <= now { now + TURN_LASTS } else { line.next_at };
        let ahead = u32::try_from(position).unwrap_or(u32::MAX);
        let pauses = line.pause(subject.1).saturating_mul(ahead).min(MAX_WAIT);
        Err((first + pauses).min(now + MAX_WAIT).max(now + MIN_WAIT))
    }

    /// Counts the attempt of a configuration that something else has made due as the probe of this pause.
    pub fn count(&mut self, subject: &ProbeSubject, now: Timestamp) {
        if let Some(line) = self.lines.get_mut(subject) {
            line.next_at = line.next_at.max(now + line.pause(subject.1));
        }
    }

    /// Has the next configuration try soon, as one has succeeded and waits no more. Returns the uid of the next one.
    pub fn succeed(&mut self, subject: &ProbeSubject, holder: (&str, &str), now: Timestamp) -> Option<String> {
        let line = self.lines.get_mut(subject)?;
        line.leave(holder);
        (line.probes, line.next_at) = (0, line.next_at.min(now + AFTER_SUCCESS));
        let next = line.namespaces.front().and_then(|(_, uids)| uids.front()).cloned();
        if next.is_none() {
            self.lines.remove(subject);
        }
        self.changes += 1;
        next
    }

    /// Removes a configuration that ends.
    pub fn leave(&mut self, holder: (&str, &str)) {
        self.lines.values_mut().for_each(|line| line.leave(holder));
        self.lines.retain(|_, line| !line.namespaces.is_empty());
    }

    /// Returns the number of successes so far: turns may come earlier when it changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl Line {
    fn pause(&self, cause: SharedCause) -> Duration {
        retry_delay(cause.code, self.probes.max(1), None, 0.5)
    }

    fn join(&mut self, (namespace, uid): (&str, &str)) {
        match self.namespaces.iter_mut().find(|(name, _)| name == namespace) {
            Some((_, uids)) if uids.iter().any(|waiting| waiting == uid) => {}
            Some((_, uids)) => uids.push_back(uid.to_owned()),
            None => self.namespaces.push_back((namespace.to_owned(), VecDeque::from([uid.to_owned()]))),
        }
    }

    /// Returns the number of turns before that of a configuration.
    fn position(&self, (namespace, uid): (&str, &str)) -> Option<usize> {
        let index = self.namespaces.iter().position(|(name, _)| name == namespace)?;
        let rank = self.namespaces[index].1.iter().position(|waiting| waiting == uid)?;
        let before = |(other, (_, uids)): (usize, &(String, VecDeque<String>))| {
            uids.len().min(if other < index { rank + 1 } else { rank })
        };
        Some(self.namespaces.iter().enumerate().map(before).sum::<usize>())
    }

    /// Passes the turns on that were not taken, up to the turn of the one that asks.
    fn pass_missed_turns(&mut self, holder: (&str, &str), now: Timestamp) {
        while self.next_at + TURN_LASTS <= now && self.position(holder).is_some_and(|position| position > 0) {
            self.next_at += TURN_LASTS;
            if let Some((_, uids)) = self.namespaces.front_mut() {
                uids.pop_front();
            }
            self.rotate();
        }
    }

    /// Gives the turn to the next configuration; the one that had it waits again.
    fn pass_on(&mut self) {
        if let Some((_, uids)) = self.namespaces.front_mut() {
            uids.rotate_left(1);
        }
        self.rotate();
    }

    fn rotate(&mut self) {
        if let Some(namespace) = self.namespaces.pop_front().filter(|(_, uids)| !uids.is_empty()) {
            self.namespaces.push_back(namespace);
        }
    }

    fn leave(&mut self, (namespace, uid): (&str, &str)) {
        if let Some((_, uids)) = self.namespaces.iter_mut().find(|(name, _)| name == namespace) {
            uids.retain(|waiting| waiting != uid);
        }
        self.namespaces.retain(|(_, uids)| !uids.is_empty());
    }
}

/// The time within which a configuration takes its turn.
const TURN_LASTS: Duration = Duration::from_secs(2);
/// The pause after a probe that succeeded.
const AFTER_SUCCESS: Duration = Duration::from_secs(1);
/// The longest time after which a configuration asks again: others may have left the line.
const MAX_WAIT: Duration = Duration::from_secs(60);
const MIN_WAIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::FailureCode;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn subject(code: FailureCode) -> ProbeSubject {
        let registry = NamespacedName { namespace: "d".to_owned(), name: "shared".to_owned() };
        (registry, SharedCause::of(code, false).unwrap())
    }

    /// Lets the configurations ask as they are due from one second to another; returns those that probed, with the time.
    fn play(
        turns: &mut ProbeTurns,
        subject: &ProbeSubject,
        holders: &[(&str, &str)],
        seconds: std::ops::Range<i64>,
    ) -> Vec<(i64, String)> {
        let mut due: Vec<Timestamp> = vec![at(seconds.start); holders.len()];
        let mut probed = Vec::new();
        for second in seconds {
            for (holder, due) in holders.iter().zip(&mut due) {
                while *due <= at(second) {
                    match turns.take(subject, *holder, at(second)) {
                        Ok(()) => {
                            probed.push((second, holder.1.to_owned()));
                            *due = at(second + 15);
                        }
                        Err(again) => {
                            assert!(again > at(second), "it is not asked all the time");
                            *due = again;
                        }
                    }
                }
            }
        }
        probed
    }

    #[test]
    fn two_hundred_configurations_cost_one_probe_in_fifteen_seconds() {
        let names: Vec<(String, String)> = (0..200).map(|n| (format!("team-{}", n % 3), format!("uid-{n}"))).collect();
        let holders: Vec<(&str, &str)> = names.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut turns = ProbeTurns::default();
        let probed = play(&mut turns, &subject(FailureCode::DestinationDenied), &holders, 0..4000);
        let late: Vec<i64> = probed.iter().map(|(second, _)| *second).filter(|second| *second > 60).collect();
        assert!(late.windows(2).all(|pair| pair[1] - pair[0] >= 15), "{late:?}");
        assert!(late.len() > 200, "{}: nor is a turn lost", late.len());
        let distinct: std::collections::BTreeSet<&String> = probed.iter().map(|(_, uid)| uid).collect();
        assert_eq!(distinct.len(), 200, "each has its turn");
    }

    #[test]
    fn a_namespace_with_one_configuration_has_every_second_turn() {
        let names: Vec<String> = (0..50).map(|n| format!("evil-{n}")).collect();
        let mut holders: Vec<(&str, &str)> = names.iter().map(|name| ("evil", name.as_str())).collect();
        holders.push(("good", "good"));
        let mut turns = ProbeTurns::default();
        let probed = play(&mut turns, &subject(FailureCode::RegistryPermissionDenied), &holders, 0..600);
        let good = probed.iter().filter(|(_, uid)| uid == "good").count();
        assert!(good * 2 + 3 >= probed.len(), "{good} of {}", probed.len());
    }

    #[test]
    fn those_that_ended_without_a_word_hold_up_no_other() {
        let names: Vec<String> = (0..100).map(|n| format!("gone-{n}")).collect();
        let gone: Vec<(&str, &str)> = names.iter().map(|name| ("a", name.as_str())).collect();
        let (mut turns, subject) = (ProbeTurns::default(), subject(FailureCode::SourceDenied));
        play(&mut turns, &subject, &gone, 0..60);
        let probed = play(&mut turns, &subject, &[("a", "stays")], 60..600);
        assert!(probed.len() > 15, "{probed:?}");
        let (mut turns, stays) = (ProbeTurns::default(), [("a", "stays")]);
        play(&mut turns, &subject, &gone, 0..60);
        gone.iter().for_each(|holder| turns.leave(*holder));
        assert!(play(&mut turns, &subject, &stays, 60..62).len() == 1, "and no time at all where they take leave");
    }

    #[test]
    fn a_success_has_the_next_one_try_within_a_second() {
        let (mut turns, subject) = (ProbeTurns::default(), subject(FailureCode::DestinationDenied));
        let holders = [("a", "1"), ("b", "2"), ("c", "3")];
        play(&mut turns, &subject, &holders, 0..200);
        let before = turns.changes();
        let next = turns.succeed(&subject, ("a", "1"), at(200)).expect("others wait");
        assert_eq!(turns.changes(), before + 1);
        let next = *holders.iter().find(|(_, uid)| *uid == next).unwrap();
        assert_eq!(turns.take(&subject, next, at(201)), Ok(()));
        turns.succeed(&subject, ("b", "2"), at(202));
        assert_eq!(turns.succeed(&subject, ("c", "3"), at(203)), None);
        assert!(turns.lines.is_empty());
    }
}
