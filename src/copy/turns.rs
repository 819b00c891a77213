//! One owner at a time for each key: whoever comes later waits, and finds the work done or takes it over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Turns at keys. A turn ends when its guard is dropped, also by an owner that fails or is cancelled: the next in line takes
/// over, nobody waits for ever.
pub struct Turns<K> {
    waiting: Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

/// The turn at one key.
pub struct Turn<'a, K: Eq + Hash> {
    turns: &'a Turns<K>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Waits for the turn at `key`.
    pub async fn at(&self, key: K) -> Turn<'_, K> {
        let mutex = self.lock().entry(key.clone()).or_default().clone();
        let mut turn = Turn { turns: self, key, guard: None };
        turn.guard = Some(mutex.lock_owned().await);
        turn
    }
}

impl<K> Turns<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<tokio::sync::Mutex<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.guard = None;
        let mut waiting = self.turns.lock();
        if waiting.get(&self.key).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
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
            (Arc::new(Turns::default()), Arc::new(Mutex::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..50).map(|_| {
            let (turns, done, work) = (turns.clone(), done.clone(), work.clone());
            tokio::spawn(async move {
                let _turn = turns.at("blob").await;
                if !*done.lock().unwrap() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    work.fetch_add(1, Ordering::SeqCst);
                    *done.lock().unwrap() = true;
                }
            })
        });
        futures::future::join_all(tasks).await;
        assert_eq!(work.load(Ordering::SeqCst), 1);
        assert!(turns.lock().is_empty(), "nothing is kept of turns that are over");
    }

    #[tokio::test]
    async fn an_owner_that_is_cancelled_hands_over() {
        let turns = Arc::new(Turns::default());
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
            async move { drop(turns.at(1).await) }
        });
        tokio::task::yield_now().await;
        owner.abort();
        tokio::time::timeout(Duration::from_secs(5), waiter).await.expect("the waiter gets its turn").unwrap();
        assert!(turns.lock().is_empty());
    }
}
