//! A bounded memory: the newest entries, the oldest of which make room.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known by key, at most `capacity` entries.
pub struct Memo<K, V> {
    capacity: usize,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    known: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V: Clone> Memo<K, V> {
    /// An empty memory.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::new(Entries { known: HashMap::new(), order: VecDeque::new() }) }
    }

    /// What is known of `key`.
    pub fn recall(&self, key: &K) -> Option<V> {
        self.lock().known.get(key).cloned()
    }

    /// Notes `value` for `key`; the oldest entry makes room where there is none.
    pub fn note(&self, key: K, value: V) {
        let mut entries = self.lock();
        if entries.known.insert(key.clone(), value).is_none() {
            entries.order.push_back(key);
        }
        while entries.known.len() > self.capacity {
            match entries.order.pop_front() {
                Some(oldest) => entries.known.remove(&oldest),
                None => break,
            };
        }
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        let mut entries = self.lock();
        if entries.known.remove(key).is_some() {
            entries.order.retain(|other| other != key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let memo = Memo::new(2);
        for (key, value) in [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')] {
            memo.note(key, value);
        }
        assert_eq!((memo.recall(&1), memo.recall(&2), memo.recall(&3)), (None, Some('b'), Some('d')));
        memo.forget(&2);
        memo.note(4, 'e');
        assert_eq!((memo.recall(&2), memo.recall(&3), memo.recall(&4)), (None, Some('d'), Some('e')));
    }
}
