//! An exponential backoff for each object.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The failures in a row of every object that fails; objects that succeed take no memory.
#[derive(Debug)]
pub(super) struct ObjectBackoff<K>(HashMap<K, u32>);

impl<K> Default for ObjectBackoff<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> ObjectBackoff<K> {
    /// Counts a failure and returns the delay before the next attempt: [`MIN_DELAY`], doubling to [`MAX_DELAY`].
    pub(super) fn fail(&mut self, object: K) -> Duration {
        let failures = self.0.entry(object).or_default();
        let delay = MIN_DELAY.saturating_mul(1 << (*failures).min(MAX_DOUBLINGS)).min(MAX_DELAY);
        *failures = failures.saturating_add(1);
        delay
    }

    /// Forgets the failures of an object that succeeded, or that does not exist any more.
    pub(super) fn reset(&mut self, object: &K) {
        self.0.remove(object);
    }
}

const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(300);
/// Enough to pass [`MAX_DELAY`], too few to overflow.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_maximum() {
        let mut backoff = ObjectBackoff::default();
        let delays: Vec<u64> = (0..40).map(|_| backoff.fail("a").as_secs()).collect();
        assert_eq!(delays[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(delays[10..].iter().all(|delay| *delay == 300));
    }

    #[test]
    fn a_success_resets_its_object_and_no_other() {
        let mut backoff = ObjectBackoff::default();
        for _ in 0..3 {
            backoff.fail("a");
            backoff.fail("b");
        }
        backoff.reset(&"a");
        assert_eq!((backoff.fail("a").as_secs(), backoff.fail("b").as_secs()), (1, 8));
    }
}
