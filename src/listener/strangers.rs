//! The connections of strangers: how many there may be, and which one makes room for another.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Connections whose sender is not known yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    waiting: VecDeque<(u64, IpAddr)>,
    by_address: HashMap<IpAddr, usize>,
}

impl Strangers {
    /// Adds a connection. Returns the one that makes room for it, if there were [`MAX_STRANGERS`]: the oldest of the
    /// address that has the most.
    pub(super) fn add(&mut self, id: u64, from: IpAddr) -> Option<u64> {
        let replaced = if self.waiting.len() < MAX_STRANGERS { None } else { self.remove_oldest_of_most() };
        self.waiting.push_back((id, from));
        *self.by_address.entry(from).or_default() += 1;
        replaced
    }

    /// Removes a connection that ended, or is of a stranger no more. Returns true if it was there.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(at) = self.waiting.iter().position(|(other, _)| *other == id) else { return false };
        self.remove_at(at);
        true
    }

    fn remove_oldest_of_most(&mut self) -> Option<u64> {
        let most = self.by_address.values().copied().max()?;
        let at = self.waiting.iter().position(|(_, from)| self.by_address.get(from) == Some(&most))?;
        self.remove_at(at)
    }

    fn remove_at(&mut self, at: usize) -> Option<u64> {
        let (id, from) = self.waiting.remove(at)?;
        let count = self.by_address.get_mut(&from)?;
        *count -= 1;
        if *count == 0 {
            self.by_address.remove(&from);
        }
        Some(id)
    }
}

/// The largest number of connections of strangers: with their buffers they take 8 MiB.
pub(super) const MAX_STRANGERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_address_with_the_most_strangers_loses_its_oldest() {
        let mut strangers = Strangers::default();
        assert_eq!(strangers.add(0, address(1)), None, "the oldest of all");
        for id in 1..MAX_STRANGERS as u64 {
            assert_eq!(strangers.add(id, address(2)), None);
        }
        assert_eq!(strangers.add(1000, address(3)), Some(1), "the oldest of the address that has the most");
        assert_eq!(strangers.add(1001, address(2)), Some(2));
        assert_eq!(strangers.add(1002, address(1)), Some(3), "the quiet address keeps its first");
    }

    #[test]
    fn a_connection_that_is_known_or_gone_takes_no_place() {
        let mut strangers = Strangers::default();
        (0..MAX_STRANGERS as u64).for_each(|id| _ = strangers.add(id, address(1)));
        assert!(strangers.remove(7) && !strangers.remove(7));
        assert_eq!(strangers.add(1000, address(1)), None);
        assert_eq!(strangers.add(1001, address(1)), Some(0));
        let everyone: Vec<u64> = strangers.waiting.iter().map(|(id, _)| *id).collect();
        everyone.into_iter().for_each(|id| assert!(strangers.remove(id)));
        assert!(strangers.by_address.is_empty());
    }
}
