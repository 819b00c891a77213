//! Logs the waits for readings that take long.

use std::time::{Duration, Instant};

/// Does `work`, and logs now and then that it goes on: `subject` completes "still reading".
pub(super) async fn announced<T>(subject: String, work: impl Future<Output = T>) -> T {
    let (began, mut work) = (Instant::now(), std::pin::pin!(work));
    loop {
        match tokio::time::timeout(ANNOUNCE_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                let seconds = began.elapsed().as_secs();
                tracing::info!(target: "transship::waiting", "still reading {subject}, for {seconds} s");
            }
        }
    }
}

const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
