//! The places of a port's connections, and which one makes room for another.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A bounded number of connections in the order of their last use, by owner.
#[derive(Debug)]
pub(super) struct PlacesByOwner<K> {
    most: usize,
    taken: VecDeque<(u64, K)>,
    by_owner: HashMap<K, usize>,
}

impl<K: Clone + Eq + Hash> PlacesByOwner<K> {
    /// Returns `most` free places.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: VecDeque::new(), by_owner: HashMap::new() }
    }

    /// Adds a connection. Returns the one that makes room for it, if all places were taken: the one whose last use is
    /// the oldest, of the owner that has the most.
    pub(super) fn add(&mut self, id: u64, owner: K) -> Option<u64> {
        let replaced = if self.taken.len() < self.most { None } else { self.remove_oldest_of_most() };
        *self.by_owner.entry(owner.clone()).or_default() += 1;
        self.taken.push_back((id, owner));
        replaced
    }

    /// Removes a connection that ended, or has its place elsewhere now. Returns true if it was there.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(at) = self.taken.iter().position(|(other, _)| *other == id) else { return false };
        self.remove_at(at);
        true
    }

    fn remove_oldest_of_most(&mut self) -> Option<u64> {
        let most = self.by_owner.values().copied().max()?;
        let at = self.taken.iter().position(|(_, owner)| self.by_owner.get(owner) == Some(&most))?;
        self.remove_at(at)
    }

    fn remove_at(&mut self, at: usize) -> Option<u64> {
        let (id, owner) = self.taken.remove(at)?;
        let count = self.by_owner.get_mut(&owner)?;
        *count -= 1;
        if *count == 0 {
            self.by_owner.remove(&owner);
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 256;

    #[test]
    fn the_owner_with_the_most_places_loses_its_oldest() {
        let mut places = PlacesByOwner::new(MOST);
        assert_eq!(places.add(0, "quiet"), None, "the oldest of all");
        for id in 1..MOST as u64 {
            assert_eq!(places.add(id, "many"), None);
        }
        assert_eq!(places.add(1000, "other"), Some(1), "the oldest of the owner that has the most");
        assert_eq!(places.add(1001, "many"), Some(2));
        assert_eq!(places.add(1002, "quiet"), Some(3), "the quiet owner keeps its first");
    }

    #[test]
    fn a_connection_that_is_known_or_gone_takes_no_place() {
        let mut places = PlacesByOwner::new(MOST);
        (0..MOST as u64).for_each(|id| _ = places.add(id, "one"));
        assert!(places.remove(7) && !places.remove(7));
        assert_eq!(places.add(1000, "one"), None);
        assert_eq!(places.add(1001, "one"), Some(0));
        let everyone: Vec<u64> = places.taken.iter().map(|(id, _)| *id).collect();
        everyone.into_iter().for_each(|id| assert!(places.remove(id)));
        assert!(places.by_owner.is_empty());
    }
}
