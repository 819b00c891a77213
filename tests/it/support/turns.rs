//! Tests that measure, and tests that keep the machine busy, run one after the other.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::{Mutex, MutexGuard};

static MACHINE: Mutex<()> = Mutex::const_new(());

/// Waits until no other such test runs.
pub async fn turn() -> MutexGuard<'static, ()> {
    MACHINE.lock().await
}

/// Takes a turn, and up to three tries: what a program knows of a registry it believes for seconds only, and a machine
/// that is busy with other tests takes longer.
pub async fn in_three_tries(check: impl AsyncFn()) {
    let _turn = turn().await;
    for failed in 1..3 {
        if AssertUnwindSafe(check()).catch_unwind().await.is_ok() {
            return;
        }
        println!("try {failed} of 3 failed");
        quiet().await;
    }
    check().await;
}

/// Waits, for at most a minute, until the machine is idle for half of a second.
async fn quiet() {
    let began = Instant::now();
    loop {
        let (idle, all) = cpu_ticks();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (idle_then, all_then) = cpu_ticks();
        if 2 * (idle_then - idle) >= all_then - all || began.elapsed() > Duration::from_secs(60) {
            return;
        }
    }
}

/// Returns the idle time of all processors since the start of the machine, and all their time.
fn cpu_ticks() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel has /proc/stat");
    let ticks = stat.lines().next().into_iter().flat_map(|line| line.split_whitespace().skip(1));
    let ticks: Vec<u64> = ticks.map(|field| field.parse().expect("a number")).collect();
    (ticks[3] + ticks[4], ticks[..8].iter().sum())
}
