//! Tests that measure, and tests that keep the machine busy, run one after the other.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::sync::{Mutex, MutexGuard};

static MACHINE: Mutex<()> = Mutex::const_new(());

/// Waits until no other such test runs.
pub async fn turn() -> MutexGuard<'static, ()> {
    MACHINE.lock().await
}

/// Takes a turn, and up to three tries: what a program knows of a registry it believes for seconds only, and a machine that is busy with
/// other tests takes longer.
pub async fn in_three_tries(check: impl AsyncFn()) {
    let _turn = turn().await;
    for _ in 0..2 {
        if AssertUnwindSafe(check()).catch_unwind().await.is_ok() {
            return;
        }
    }
    check().await;
}
