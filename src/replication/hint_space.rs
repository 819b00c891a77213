//! The memory that hints may take in this process, shared fairly between namespaces.

use std::collections::HashMap;
use std::sync::Arc;

use crate::locked::Locked;

/// The memory of all hints that wait.
#[derive(Default)]
pub(crate) struct HintSpace(Locked<Usage>);

#[derive(Default)]
struct Usage {
    bytes: usize,
    by_namespace: HashMap<Arc<str>, NamespaceUsage>,
}

#[derive(Clone, Copy, Default)]
struct NamespaceUsage {
    bytes: usize,
    hints: usize,
}

/// Memory that one hint takes, given back when it is dropped.
pub(crate) struct HintReservation {
    space: Arc<HintSpace>,
    namespace: Arc<str>,
    bytes: usize,
}

impl HintSpace {
    /// Reserves `bytes` for a hint of `namespace`; `None` if there is no room.
    ///
    /// A namespace may hold as much as is left free for others: one alone gets half of the memory, two a third each.
    /// So the notifications of one namespace never keep out those of another, and nothing is evicted.
    pub(crate) fn reserve(self: &Arc<Self>, namespace: &str, bytes: usize) -> Option<HintReservation> {
        let mut usage = self.0.lock();
        let known = usage.by_namespace.get_key_value(namespace);
        let (name, held) = match known {
            Some((name, held)) => (name.clone(), *held),
            None => (Arc::from(namespace), NamespaceUsage::default()),
        };
        let free = MAX_HINT_BYTES - usage.bytes;
        if held.bytes + bytes > free.saturating_sub(bytes) {
            return None;
        }
        usage.bytes += bytes;
        let held = NamespaceUsage { bytes: held.bytes + bytes, hints: held.hints + 1 };
        usage.by_namespace.insert(name.clone(), held);
        Some(HintReservation { space: self.clone(), namespace: name, bytes })
    }

    /// Returns the number of hints of `namespace` that wait or are looked at.
    pub(crate) fn hints(&self, namespace: &str) -> usize {
        self.0.lock().by_namespace.get(namespace).map_or(0, |held| held.hints)
    }
}

impl Drop for HintReservation {
    fn drop(&mut self) {
        let mut usage = self.space.0.lock();
        usage.bytes -= self.bytes;
        let Some(held) = usage.by_namespace.get_mut(&self.namespace) else { return };
        held.bytes -= self.bytes;
        held.hints -= 1;
        if held.hints == 0 {
            usage.by_namespace.remove(&self.namespace);
        }
    }
}

/// The memory of all hints together, in bytes: two thirds of it hold what two namespaces can send in one body of 1 MiB
/// each, for five configurations.
const MAX_HINT_BYTES: usize = 24 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(space: &Arc<HintSpace>, namespace: &str) -> Vec<HintReservation> {
        std::iter::from_fn(|| space.reserve(namespace, 1024)).collect()
    }

    #[test]
    fn a_namespace_takes_no_more_than_it_leaves_to_others() {
        let space = Arc::new(HintSpace::default());
        let first = fill(&space, "a");
        assert_eq!(first.len() * 1024, MAX_HINT_BYTES / 2);
        let second = fill(&space, "b");
        assert_eq!(second.len() * 1024, MAX_HINT_BYTES / 4);
        assert!(space.reserve("a", 1024).is_none(), "the one that holds more waits");
        drop(first);
        assert_eq!(space.hints("a"), 0);
        let more = fill(&space, "a");
        assert_eq!(more.len() * 1024, MAX_HINT_BYTES * 3 / 8);
        drop((more, second));
        assert!(space.0.lock().by_namespace.is_empty() && space.0.lock().bytes == 0);
    }
}
