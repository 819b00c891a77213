//! `transship sync`: one run of the core until nothing is due.

use std::process::ExitCode;
use std::sync::Arc;

use super::flags::{PlanFlags, SyncFlags};
use super::output::{ImageResult, Printer};
use super::plan::plan;
use super::run::run_once;
use super::signals::StopSignals;
use super::store::FileStore;
use super::wiring::{Mode, Wiring};
use super::{UsageError, printed, read};
use crate::copy::Copied;
use crate::locked::Locked;
use crate::plan::CodedError;
use crate::replication::machine::Assignment;

/// Replicates what the files say. Prints a line an image, in case of `is_quiet` only of those that failed, and a
/// summary. Returns 0 if all is done, 1 if something failed, 4 if deletions wait for a person, and 130 or 143 after a
/// signal.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn sync(flags: SyncFlags, is_quiet: bool) -> Result<ExitCode, UsageError> {
    if flags.dry_run {
        let SyncFlags { files, run, state, output, delete, .. } = flags;
        return plan(PlanFlags { files, run, state, output, delete }).await;
    }
    let content = read(&flags.files)?;
    let store = FileStore::open(flags.state.as_deref(), "transship sync")?;
    let signals = StopSignals::catch()?;
    let printer = Arc::new(Printer::new(flags.output, is_quiet));
    let results = Arc::new(Locked::new(Vec::new()));
    let (listening, taken) = (printer.clone(), results.clone());
    let listener = move |assignment: &Assignment, copied: &Result<Copied, CodedError>| {
        let mut result = ImageResult::of_copy(assignment, copied.clone());
        if !result.may_be_tried_again() {
            listening.print(&mut result);
        }
        taken.lock().push(result);
    };
    let copies = usize::from(flags.copies);
    let mut wiring = Wiring::new(content, store, copies, flags.run.retry_for, Some(Box::new(listener)));
    wiring.deletes = flags.delete;
    tokio::spawn(wiring.core.clock.clone().beat());
    wiring.templates.ask(&wiring.access.content()).await;
    let machines = run_once(&wiring, Mode::Sync, signals.token()).await;
    let results = std::mem::take(&mut *results.lock());
    let stopped = signals.exit_code();
    let summary = printer.finish(&machines, results, stopped.is_some());
    let code = stopped.unwrap_or_else(|| summary.exit_code(flags.run.detailed_exit_code));
    printed(summary.text)?;
    printer.printed()?;
    Ok(code)
}
