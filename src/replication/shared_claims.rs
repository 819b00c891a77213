//! The claims of all configurations of a process. A thread that waits for them keeps no task from running.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::long_work::{long_work, long_work_if};
use crate::plan::Claims;

/// The claims of all configurations of a process.
#[derive(Clone, Default)]
pub(crate) struct SharedClaims(Arc<Mutex<Claims>>);

impl SharedClaims {
    /// Waits for the claims. Where that takes long, other threads take the tasks of this one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Claims> {
        self.0.try_lock_for(PATIENCE).unwrap_or_else(|| long_work(|| self.0.lock()))
    }

    /// Runs `work` with the claims; if it takes long, as [`long_work`] does.
    pub(crate) fn hold<T>(&self, takes_long: bool, work: impl FnOnce(&mut Claims) -> T) -> T {
        long_work_if(takes_long, || work(&mut self.lock()))
    }
}

/// The time for which a thread waits with its tasks: nearly all work with the claims takes some microseconds.
const PATIENCE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Two threads of the runtime wait for claims that are held until a third task has run.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tasks_go_on_while_claims_are_held_for_long() {
        let (claims, (begin, begun), (done, is_done)) = (SharedClaims::default(), mpsc::channel(), mpsc::channel());
        let held = claims.clone();
        let holder = tokio::spawn(async move {
            held.hold(true, |_| {
                begin.send(()).unwrap();
                is_done.recv_timeout(Duration::from_secs(20)).is_ok()
            })
        });
        long_work(|| begun.recv().unwrap());
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let claims = claims.clone();
                tokio::spawn(async move { drop(claims.lock()) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let runs = tokio::spawn(async move { done.send(()) });
        assert!(holder.await.unwrap(), "a task runs beside them");
        runs.await.unwrap().unwrap();
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }
}
