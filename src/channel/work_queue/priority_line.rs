//! A line of images: those of a higher priority come first, then those that came first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::super::messages::ItemId;

/// The images of a lane that wait.
#[derive(Debug, Default)]
pub(super) struct PriorityLine {
    images: BTreeMap<LinePlace, (ItemId, Instant)>,
    /// The images by the time since which they wait.
    ages: BTreeSet<(Instant, LinePlace)>,
    first: i64,
    last: i64,
}

/// The place of an image in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinePlace(Reverse<i32>, i64);

impl PriorityLine {
    /// Adds an image behind those of its priority, which waits since `since`.
    pub(super) fn push_back(&mut self, priority: i32, id: ItemId, since: Instant) -> LinePlace {
        self.last += 1;
        self.insert(LinePlace(Reverse(priority), self.last), id, since)
    }

    /// Adds an image in front of those of its priority, which waits since `since`.
    pub(super) fn push_front(&mut self, priority: i32, id: ItemId, since: Instant) -> LinePlace {
        self.first -= 1;
        self.insert(LinePlace(Reverse(priority), self.first), id, since)
    }

    pub(super) fn pop(&mut self) -> Option<ItemId> {
        let (turn, (id, since)) = self.images.pop_first()?;
        self.ages.remove(&(since, turn));
        Some(id)
    }

    pub(super) fn remove(&mut self, turn: LinePlace) {
        if let Some((_, since)) = self.images.remove(&turn) {
            self.ages.remove(&(since, turn));
        }
    }

    /// Returns the highest priority, and the time since which the oldest image waits.
    pub(super) fn summary(&self) -> Option<(i32, Instant)> {
        let (LinePlace(Reverse(priority), _), _) = self.images.first_key_value()?;
        self.ages.first().map(|(since, _)| (*priority, *since))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    fn insert(&mut self, turn: LinePlace, id: ItemId, since: Instant) -> LinePlace {
        self.images.insert(turn, (id, since));
        self.ages.insert((since, turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_higher_priority_comes_first_and_then_what_came_first() {
        let (mut line, now) = (PriorityLine::default(), Instant::now());
        for (priority, id) in [(0, "c"), (-100, "z"), (0, "d"), (5, "b"), (100, "a")] {
            line.push_back(priority, ItemId(id.to_owned()), now);
        }
        line.push_front(0, ItemId("lost".to_owned()), now);
        let order: Vec<String> = std::iter::from_fn(|| line.pop()).map(|ItemId(id)| id).collect();
        assert_eq!(order, ["a", "b", "lost", "c", "d", "z"]);
    }

    #[test]
    fn a_line_knows_its_highest_priority_and_its_oldest_image() {
        let (mut line, now) = (PriorityLine::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let old = line.push_back(-1, ItemId("old".to_owned()), now);
        line.push_back(5, ItemId("high".to_owned()), later);
        assert_eq!(line.summary(), Some((5, now)));
        line.remove(old);
        line.remove(old);
        assert_eq!(line.summary(), Some((5, later)));
        line.pop();
        assert_eq!((line.summary(), line.is_empty()), (None, true));
    }
}
