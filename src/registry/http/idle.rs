//! The time for which a connection without a request is kept: the shorter, the more clients there are, as each connection
//! takes 17 kB.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One of the clients of this process, counted until it is dropped.
pub(super) struct CountedClient(());

impl CountedClient {
    /// Counts one more.
    pub(super) fn new() -> Self {
        CLIENTS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Returns the time for which a client is to keep idle connections, if it begins to send now.
    pub(super) fn idle_time(&self) -> Duration {
        idle_time(CLIENTS.load(Ordering::Relaxed))
    }
}

impl Drop for CountedClient {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn idle_time(clients: usize) -> Duration {
    let shared = LONGEST.saturating_mul(FEW).checked_div(u32::try_from(clients).unwrap_or(u32::MAX));
    shared.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
}

static CLIENTS: AtomicUsize = AtomicUsize::new(0);
/// Idle connections are closed before registries and load balancers usually do it, so that few requests meet a dead
/// one.
const LONGEST: Duration = Duration::from_secs(20);
/// The requests of one copy mostly follow each other within less.
const SHORTEST: Duration = Duration::from_secs(2);
/// The clients up to which each keeps its connections for the longest time.
const FEW: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_clients_keep_idle_connections_for_a_shorter_time_than_few() {
        for (clients, seconds) in [(0, 20), (1, 20), (100, 20), (200, 10), (1_000, 2), (1_000_000, 2)] {
            assert_eq!(idle_time(clients), Duration::from_secs(seconds), "{clients} clients");
        }
    }

    #[test]
    fn a_client_counts_until_it_is_dropped() {
        // Other tests make clients meanwhile, but not thousands.
        let many: Vec<CountedClient> = (0..2_000).map(|_| CountedClient::new()).collect();
        assert_eq!(many[0].idle_time(), SHORTEST);
        drop(many);
        assert!(CountedClient::new().idle_time() > SHORTEST);
    }
}
