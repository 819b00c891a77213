//! One run of the replication core over all configurations, for `sync` and `plan`.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::wiring::{Mode, Wiring};
use crate::replication::machine::{Machine, Orders};
use crate::replication::{Driver, Inlets, Mailbox};

/// Runs every configuration once. One begins when the sources of those before it have been compared, so that claims are
/// made in the order of the files; copies overlap.
pub(super) async fn run_once(wiring: &Wiring, mode: Mode) -> Vec<Machine> {
    let mut tasks = Vec::new();
    for orders in wiring.orders(mode) {
        let stored = wiring.stored(&orders);
        let (keep, inlets) = inlets(orders);
        let (compared, is_compared) = oneshot::channel();
        let driver = Driver::new(wiring.core.clone(), inlets, stored);
        tasks.push(tokio::spawn(async move {
            let machine = driver.run_once(compared).await;
            drop(keep);
            machine
        }));
        let _ = is_compared.await;
    }
    let mut machines = Vec::new();
    for task in tasks {
        match task.await {
            Ok(machine) => machines.push(machine),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    machines
}

/// Returns inlets through which nothing comes, and the senders that keep them open.
fn inlets(orders: Orders) -> (impl Send, Inlets) {
    let (sender, orders) = tokio::sync::watch::channel(orders);
    let (workers_sender, workers) = tokio::sync::watch::channel(None);
    let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
    ((sender, workers_sender), Inlets { orders, hints: Arc::new(Mailbox::default()), workers, retire, shutdown })
}
