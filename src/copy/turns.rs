//! One owner at a time for each key: later callers wait, and find the work done, learn why it failed, or take it over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedMutexGuard;

use crate::locked::Locked;

/// Turns at keys. A turn ends when its guard is dropped, also by an owner that is cancelled: the next caller in line
/// takes over, none waits for ever. An owner that fails leaves the reason `F` to the callers that were waiting by then.
pub(super) struct Turns<K, F = ()> {
    waiting: Locked<HashMap<K, Arc<TurnSlot<F>>>>,
}

/// The failure of the last owner, and its time.
type TurnSlot<F> = tokio::sync::Mutex<Option<(Instant, F)>>;

/// The turn at one key.
pub(super) struct Turn<'a, K: Eq + Hash, F = ()> {
    turns: &'a Turns<K, F>,
    key: K,
    arrived: Instant,
    guard: Option<OwnedMutexGuard<Option<(Instant, F)>>>,
}

impl<K, F> Default for Turns<K, F> {
    fn default() -> Self {
        Self { waiting: Locked::default() }
    }
}

impl<K: Clone + Eq + Hash, F> Turns<K, F> {
    /// Waits for the turn at `key`.
    pub(super) async fn at(&self, key: K) -> Turn<'_, K, F> {
        let arrived = Instant::now();
        let slot = self.waiting.lock().entry(key.clone()).or_default().clone();
        let mut turn = Turn { turns: self, key, arrived, guard: None };
        turn.guard = Some(slot.lock_owned().await);
        turn
    }
}

impl<K: Eq + Hash, F: Clone> Turn<'_, K, F> {
    /// Returns the failure that an earlier owner had while this turn was waited for.
    pub(super) fn inherited(&self) -> Option<F> {
        let (failed, reason) = self.guard.as_deref()?.as_ref()?;
        (*failed >= self.arrived).then(|| reason.clone())
    }

    /// Leaves `reason` to the callers that wait now.
    pub(super) fn fail(&mut self, reason: F) {
        if let Some(guard) = &mut self.guard {
            **guard = Some((Instant::now(), reason));
        }
    }
}

impl<K: Eq + Hash, F> Drop for Turn<'_, K, F> {
    fn drop(&mut self) {
        self.guard = None;
        let mut waiting = self.turns.waiting.lock();
        if waiting.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_waiters_cause_one_piece_of_work() {
        let (turns, done, work) =
            (Arc::new(Turns::<_, ()>::default()), Arc::new(Locked::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..50).map(|_| {
            let (turns, done, work) = (turns.clone(), done.clone(), work.clone());
            tokio::spawn(async move {
                let _turn = turns.at("blob").await;
                if !*done.lock() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    work.fetch_add(1, Ordering::SeqCst);
                    *done.lock() = true;
                }
            })
        });
        futures::future::join_all(tasks).await;
        assert_eq!(work.load(Ordering::SeqCst), 1);
        assert!(turns.waiting.lock().is_empty(), "nothing is kept of turns that are over");
    }

    #[tokio::test]
    async fn an_owner_that_is_cancelled_hands_over() {
        let turns = Arc::new(Turns::<_, ()>::default());
        let owner = tokio::spawn({
            let turns = turns.clone();
            async move {
                let _turn = turns.at(1).await;
                std::future::pending::<()>().await;
            }
        });
        tokio::task::yield_now().await;
        let waiter = tokio::spawn({
            let turns = turns.clone();
            async move { turns.at(1).await.inherited() }
        });
        tokio::task::yield_now().await;
        owner.abort();
        let inherited = tokio::time::timeout(Duration::from_secs(5), waiter).await.expect("the waiter gets its turn");
        assert_eq!(inherited.unwrap(), None, "to be cancelled is no reason for others to fail");
        assert!(turns.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_does_not_block_others() {
        let turns = Turns::<_, ()>::default();
        let owner = turns.at(1).await;
        assert!(tokio::time::timeout(Duration::from_millis(5), turns.at(1)).await.is_err());
        drop(owner);
        assert!(turns.waiting.lock().is_empty());
        drop(turns.at(1).await);
    }

    #[tokio::test]
    async fn waiters_share_a_failure_and_later_callers_try() {
        let turns = Turns::<_, &str>::default();
        let mut owner = turns.at(1).await;
        let mut waiters = [Box::pin(turns.at(1)), Box::pin(turns.at(1))];
        for waiter in &mut waiters {
            assert!(futures::poll!(waiter).is_pending());
        }
        owner.fail("broken");
        let mut late = Box::pin(turns.at(1));
        assert!(futures::poll!(&mut late).is_pending());
        drop(owner);
        for waiter in waiters {
            assert_eq!(waiter.await.inherited(), Some("broken"));
        }
        assert_eq!(late.await.inherited(), None);
        assert!(turns.waiting.lock().is_empty());
    }
}
