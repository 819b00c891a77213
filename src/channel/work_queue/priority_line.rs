//! A line of images: those of a higher priority come first, then those that came first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::messages::ItemId;

/// The images of a lane that wait.
#[derive(Debug, Default)]
pub(super) struct PriorityLine {
    images: BTreeMap<(Reverse<i32>, i64), ItemId>,
    first: i64,
    last: i64,
}

impl PriorityLine {
    /// Adds an image behind those of its priority.
    pub(super) fn push_back(&mut self, priority: i32, id: ItemId) {
        self.last += 1;
        self.images.insert((Reverse(priority), self.last), id);
    }

    /// Adds an image in front of those of its priority.
    pub(super) fn push_front(&mut self, priority: i32, id: ItemId) {
        self.first -= 1;
        self.images.insert((Reverse(priority), self.first), id);
    }

    pub(super) fn pop(&mut self) -> Option<ItemId> {
        self.images.pop_first().map(|(_, id)| id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ItemId> {
        self.images.values()
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&ItemId) -> bool) {
        self.images.retain(|_, id| is_kept(id));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_priority_comes_first_and_then_what_came_first() {
        let mut line = PriorityLine::default();
        for (priority, id) in [(0, "c"), (-100, "z"), (0, "d"), (5, "b"), (100, "a")] {
            line.push_back(priority, ItemId(id.to_owned()));
        }
        line.push_front(0, ItemId("lost".to_owned()));
        let order: Vec<String> = std::iter::from_fn(|| line.pop()).map(|ItemId(id)| id).collect();
        assert_eq!(order, ["a", "b", "lost", "c", "d", "z"]);
    }
}
