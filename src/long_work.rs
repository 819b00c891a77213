//! Runs what holds a thread for long, while other threads take the tasks that would wait for it.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Runs `work` on this thread, which leaves its tasks to another one. A runtime of one thread has no other.
pub(crate) fn long_work<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

/// Runs `work`, as [`long_work`] does if it takes long.
pub(crate) fn long_work_if<T>(takes_long: bool, work: impl FnOnce() -> T) -> T {
    if takes_long { long_work(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The work ends only once a task has run that would wait for it on a thread of its own.
    async fn is_not_alone() -> bool {
        let (sender, receiver) = mpsc::channel();
        let task = tokio::spawn(async move { sender.send(()) });
        let work = || receiver.recv_timeout(std::time::Duration::from_secs(20)).is_ok();
        let is_run = long_work(work);
        drop(task.await);
        is_run
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_task_runs_beside_long_work() {
        assert!(tokio::spawn(is_not_alone()).await.unwrap());
    }

    #[tokio::test]
    async fn long_work_runs_on_a_runtime_of_one_thread_too() {
        assert_eq!(long_work(|| 1), 1);
    }
}
