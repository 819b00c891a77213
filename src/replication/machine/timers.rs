//! Deadlines by key, the earliest first; changing one costs a logarithm.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

/// One deadline a key.
#[derive(Debug)]
pub(super) struct Timers<K> {
    order: BTreeSet<(Timestamp, K)>,
    of: HashMap<K, Timestamp>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), of: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Sets the deadline of `key`, or clears it.
    pub(super) fn set(&mut self, key: K, at: Option<Timestamp>) {
        let earlier = match at {
            Some(at) => self.of.insert(key, at),
            None => self.of.remove(&key),
        };
        if earlier == at {
            return;
        }
        if let Some(earlier) = earlier {
            self.order.remove(&(earlier, key));
        }
        if let Some(at) = at {
            self.order.insert((at, key));
        }
    }

    /// Sets the deadline of `key` unless an earlier one is set.
    pub(super) fn set_no_later(&mut self, key: K, at: Timestamp) {
        if self.of.get(&key).is_none_or(|earlier| *earlier > at) {
            self.set(key, Some(at));
        }
    }

    /// Removes and returns a key whose deadline has come.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// Gives back the room of deadlines that were cleared, once there is none.
    pub(super) fn give_back_room(&mut self) {
        if self.of.is_empty() {
            self.order = BTreeSet::new();
            self.of.shrink_to_fit();
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_and_a_changed_one_counts_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut timers = Timers::default();
        timers.set(1, Some(at(5)));
        timers.set(2, Some(at(3)));
        timers.set(1, Some(at(1)));
        timers.set_no_later(2, at(9));
        assert_eq!((timers.next(), timers.pop(at(0))), (Some(at(1)), None));
        assert_eq!((timers.pop(at(4)), timers.pop(at(4)), timers.pop(at(9))), (Some(1), Some(2), None));
        timers.set(3, Some(at(1)));
        timers.set(3, None);
        assert_eq!(timers.next(), None);
    }
}
