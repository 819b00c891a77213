//! A bounded map that keeps the newest entries, and those that are asked for.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use crate::locked::Locked;

/// A map of at most `capacity` entries. Every operation takes constant time, amortized.
pub(super) struct Memo<K, V> {
    capacity: usize,
    entries: Locked<Entries<K, V>>,
}

struct Entries<K, V> {
    known: HashMap<Arc<K>, MemoEntry<V>>,
    /// Keys in the order in which they were noted. One that was noted again, or forgotten, leaves an entry behind whose
    /// number is not that of `known`.
    order: VecDeque<(u64, Arc<K>)>,
    next: u64,
}

struct MemoEntry<V> {
    number: u64,
    value: V,
    /// True if it was asked for since it was noted, or since it was last spared.
    is_used: bool,
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// Returns an empty memory.
    pub(super) fn new(capacity: usize) -> Self {
        let entries = Entries { known: HashMap::new(), order: VecDeque::new(), next: 0 };
        Self { capacity, entries: Locked::new(entries) }
    }

    /// Returns the value of `key`.
    pub(super) fn recall(&self, key: &K) -> Option<V> {
        let mut entries = self.entries.lock();
        let entry = entries.known.get_mut(key)?;
        entry.is_used = true;
        Some(entry.value.clone())
    }

    /// Sets the value of `key`, which becomes the newest entry. Where there is no room the oldest one makes some that was
    /// not asked for: a layer that every image has stays known.
    pub(super) fn note(&self, key: K, value: V) {
        let mut entries = self.entries.lock();
        let (key, number) = (Arc::new(key), entries.next);
        entries.next += 1;
        entries.known.insert(key.clone(), MemoEntry { number, value, is_used: false });
        entries.order.push_back((number, key));
        entries.make_room(self.capacity);
    }

    /// Removes `key`.
    pub(super) fn forget(&self, key: &K) {
        self.entries.lock().known.remove(key);
    }
}

impl<K: Eq + Hash, V> Entries<K, V> {
    fn make_room(&mut self, capacity: usize) {
        while self.known.len() > capacity {
            let Some((number, key)) = self.order.pop_front() else { break };
            match self.known.get_mut(&key).filter(|entry| entry.number == number) {
                Some(entry) if entry.is_used => {
                    entry.is_used = false;
                    self.order.push_back((number, key));
                }
                Some(_) => drop(self.known.remove(&key)),
                None => {}
            }
        }
        if self.order.len() > 2 * capacity + SLACK {
            let known = &self.known;
            self.order.retain(|(number, key)| known.get(key).is_some_and(|entry| entry.number == *number));
        }
    }
}

const SLACK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let memo = Memo::new(2);
        for (key, value) in [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')] {
            memo.note(key, value);
        }
        assert_eq!((memo.recall(&1), memo.recall(&2), memo.recall(&3)), (Some('c'), None, Some('d')));
        memo.forget(&1);
        memo.note(4, 'e');
        assert_eq!((memo.recall(&1), memo.recall(&3), memo.recall(&4)), (None, Some('d'), Some('e')));
    }

    #[test]
    fn an_entry_that_is_asked_for_outlives_newer_ones() {
        let memo = Memo::new(3);
        memo.note(0, ());
        for key in 1..100 {
            memo.note(key, ());
            assert!(memo.recall(&0).is_some(), "{key}");
        }
        for key in 100..106 {
            memo.note(key, ());
        }
        assert_eq!(memo.recall(&0), None, "it was not asked for any more");
        assert_eq!(memo.entries.lock().known.len(), 3);
    }

    #[test]
    fn what_is_noted_and_forgotten_for_ever_takes_no_more_memory() {
        let memo = Memo::new(10);
        for round in 0..10_000 {
            memo.note(round % 7, round);
            memo.forget(&(round % 5));
        }
        assert!(memo.entries.lock().order.len() <= 2 * 10 + SLACK, "{}", memo.entries.lock().order.len());
    }
}
