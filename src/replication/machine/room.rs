//! Gives back the room of collections that have become empty: each keeps a node for eleven entries, and most configurations
//! are idle.

use std::collections::{BTreeMap, BTreeSet};

use super::{Machine, Pair};

impl Machine {
    /// Gives back the room of what copies, deletions and deadlines needed, once nothing is under way.
    pub(super) fn give_back_room(&mut self) {
        if !self.is_at_rest() {
            return;
        }
        self.queue.shrink_to_fit();
        map(&mut self.copies);
        map(&mut self.groups);
        map(&mut self.writing);
        map(&mut self.delete_again_at);
        map(&mut self.deletions.running);
        map(&mut self.deletions.held);
        set(&mut self.deletions.busy);
        set(&mut self.backfills.suspected);
        [&mut self.retries, &mut self.publications, &mut self.deletions.due]
            .into_iter()
            .for_each(|timers| timers.give_back_room());
    }
}

impl Pair {
    /// Gives back the room of what its copies needed, once none is under way.
    pub(super) fn give_back_room(&mut self) {
        set(&mut self.queued);
        set(&mut self.urgent);
        map(&mut self.running);
    }
}

fn map<K, V>(map: &mut BTreeMap<K, V>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}

fn set<T>(set: &mut BTreeSet<T>) {
    if set.is_empty() {
        *set = BTreeSet::new();
    }
}
