//! The bytes that the pairs of a run have moved and keep at their destinations.

use super::text::bytes;
use crate::replication::machine::Machine;

/// Sums over the pairs of a run; with a state folder those of earlier runs are in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsageTotals {
    pub(super) moved: u64,
    pub(super) stored: u64,
}

impl UsageTotals {
    pub(super) fn of(machines: &[Machine]) -> Self {
        let pairs = machines.iter().flat_map(Machine::pairs);
        pairs.fold(Self::default(), |sum, pair| Self {
            moved: sum.moved.saturating_add(pair.usage.moved()),
            stored: sum.stored.saturating_add(pair.usage.stored()),
        })
    }

    /// Returns a line; none before anything is known.
    pub(super) fn line(self) -> String {
        match self {
            Self { moved: 0, stored: 0 } => String::new(),
            Self { moved, stored } => format!("in all {} moved, {} stored\n", bytes(moved), bytes(stored)),
        }
    }
}
