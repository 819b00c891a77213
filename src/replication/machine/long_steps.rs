//! Finds the steps that compare many names with filters: a driver takes them as long work.

use super::{Event, Finding, Machine, Stored};
use crate::plan::MANY_NAMES;

impl Machine {
    /// Returns true if an event compares many names with filters.
    pub(crate) fn takes_long(&self, event: &Event) -> bool {
        let names = match event {
            Event::Orders(_) => {
                self.totals.values().map(|counts| counts.images).sum::<u64>() + self.pairs.keys().count() as u64
            }
            Event::Found(_, Finding::Repositories { names, .. }) => names.len() as u64,
            Event::Found(_, Finding::Tags(listed)) => listed.tags.len() as u64,
            _ => 0,
        };
        names > MANY_NAMES as u64
    }
}

impl Stored {
    /// Returns true if to restore this compares many tags with filters.
    pub(crate) fn takes_long(&self) -> bool {
        self.pairs.iter().map(|pair| 1 + pair.status.summary.images).sum::<u64>() > MANY_NAMES as u64
    }
}
