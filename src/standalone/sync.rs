//! `transship sync`: one run of the core until nothing is due.

use std::process::ExitCode;
use std::sync::Arc;

use super::flags::SyncFlags;
use super::output::{ImageResult, Printer};
use super::run::run_once;
use super::store::FileStore;
use super::wiring::{Mode, Wiring};
use super::{UsageError, printed, read};
use crate::copy::{CodedError, Copied};
use crate::locked::Locked;
use crate::replication::machine::Assignment;

/// Replicates what the files say. Prints a line an image and a summary; returns 0 if all is done, 1 if something
/// failed.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn sync(flags: SyncFlags) -> Result<ExitCode, UsageError> {
    let content = read(&flags.files)?;
    let store = FileStore::open(flags.state.as_deref(), "transship sync")?;
    let (printer, results) = (Printer::new(flags.output), Arc::new(Locked::new(Vec::new())));
    let taken = results.clone();
    let listener = move |assignment: &Assignment, copied: &Result<Copied, CodedError>| {
        let result = ImageResult::of_copy(assignment, copied.clone());
        printer.print(&result);
        taken.lock().push(result);
    };
    let wiring = Wiring::new(content, store, usize::from(flags.copies), Some(Box::new(listener)));
    tokio::spawn(wiring.core.clock.clone().beat());
    let machines = run_once(&wiring, Mode::Sync).await;
    let results = std::mem::take(&mut *results.lock());
    let summary = printer.finish(&machines, results);
    let is_good = summary.is_good();
    printed(summary.text)?;
    Ok(ExitCode::from(u8::from(!is_good)))
}
