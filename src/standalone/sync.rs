//! `transship sync`: one run of the core until nothing is due.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::flags::SyncFlags;
use super::output::{ImageResult, Printer};
use super::store::FileStore;
use super::wiring::{Mode, Wiring};
use super::{UsageError, printed, read};
use crate::copy::{CodedError, Copied};
use crate::replication::machine::{Assignment, Machine, Orders};
use crate::replication::{Driver, Inlets, Mailbox};

/// Replicates what the files say. Prints a line an image and a summary; returns 0 if all is done, 1 if something failed.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn sync(flags: SyncFlags) -> Result<ExitCode, UsageError> {
    let content = read(&flags.files)?;
    let store = FileStore::open(flags.state.as_deref(), "transship sync").map_err(UsageError)?;
    let (printer, results) = (Printer::new(flags.output), Arc::new(Mutex::new(Vec::new())));
    let taken = results.clone();
    let listener = move |assignment: &Assignment, copied: &Result<Copied, CodedError>| {
        let result = ImageResult::of_copy(assignment, copied.clone());
        printer.print(&result);
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(result);
    };
    let wiring = Wiring::new(content, store, usize::from(flags.copies), Some(Box::new(listener)));
    tokio::spawn(wiring.core.clock.clone().beat());
    let machines = run(&wiring, Mode::Sync).await;
    let results = std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner));
    let summary = printer.finish(&machines, results);
    let is_good = summary.is_good();
    printed(summary.text)?;
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// Runs every configuration once. One begins when the sources of those before it have been compared, so that claims are made in the
/// order of the files; copies overlap.
pub(super) async fn run(wiring: &Wiring, mode: Mode) -> Vec<Machine> {
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

/// Inlets through which nothing comes, and what keeps them open.
fn inlets(orders: Orders) -> (impl Send, Inlets) {
    let (sender, orders) = tokio::sync::watch::channel(orders);
    let (workers_sender, workers) = tokio::sync::watch::channel(None);
    let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
    ((sender, workers_sender), Inlets { orders, hints: Arc::new(Mailbox::default()), workers, retire, shutdown })
}
