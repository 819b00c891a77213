//! One run of the replication core over all configurations, for `sync` and `plan`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::wiring::{Mode, Wiring};
use crate::registry::uploads_given_up;
use crate::replication::machine::Machine;
use crate::replication::{Driver, Inlets, Mailbox};

/// Runs every configuration once. One begins when the sources of those before it have been compared, so that claims are
/// made in the order of the files; copies overlap. After `stop` nothing is begun, and copies that run have a short time
/// to end.
pub(super) async fn run_once(wiring: &Wiring, mode: Mode, stop: &CancellationToken) -> Vec<Machine> {
    let shutdown = CancellationToken::new();
    tokio::spawn(shut_down_late(stop.clone(), shutdown.clone()));
    let mut tasks = Vec::new();
    for orders in wiring.orders(mode) {
        if stop.is_cancelled() {
            break;
        }
        let stored = wiring.stored(&orders);
        let inlets = inlets(stop.clone(), shutdown.clone());
        let (compared, is_compared) = oneshot::channel();
        let driver = Driver::new(wiring.core.clone(), Arc::new(orders), inlets, stored);
        tasks.push(tokio::spawn(driver.run_once(compared)));
        let _ = is_compared.await;
    }
    let mut machines = Vec::new();
    for task in tasks {
        match task.await {
            Ok(machine) => machines.push(machine),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    if stop.is_cancelled() {
        uploads_given_up(GIVE_UP).await;
    }
    machines
}

async fn shut_down_late(stop: CancellationToken, shutdown: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
    shutdown.cancel();
}

/// Returns inlets through which no further order and no hint comes.
fn inlets(drain: CancellationToken, shutdown: CancellationToken) -> Inlets {
    let (mailbox, retire) = (Arc::new(Mailbox::default()), CancellationToken::new());
    Inlets { mailbox, retire, drain, shutdown }
}

/// The time that copies have to end after a signal: less than a CI system or a container runtime waits.
const GRACE: Duration = Duration::from_secs(5);
/// The longest wait for registries to take the cancellation of uploads.
const GIVE_UP: Duration = Duration::from_secs(2);
