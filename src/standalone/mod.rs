//! Replicates once, without a cluster, from the same YAML kinds: `transship sync`, and its dry run `transship plan`.

mod discovering;
mod files;
mod flags;
mod ledgers;
mod left_out;
mod observing;
mod output;
mod planning;
mod registries;
mod running;
mod state;

use std::io::Write;
use std::process::ExitCode;

pub use flags::{PlanFlags, SyncFlags};

use tokio::sync::mpsc;

use self::discovering::Taker;
use self::files::Documents;
use self::flags::FileFlags;
use self::ledgers::Ledgers;
use self::registries::Registries;
use self::state::State;
use crate::copy::Engine;

/// What is wrong with the command line or with the files: nothing was read or written then.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Replicates what the files say. Prints a line an image and a summary; answers 0 if all is done, 1 if something failed.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn sync(flags: SyncFlags) -> Result<ExitCode, UsageError> {
    let (documents, registries) = read(&flags.files)?;
    let state = State::open(flags.state.as_deref()).map_err(UsageError)?;
    let (engine, ledgers) = (Engine::default(), Ledgers::new(&state));
    let printer = output::Printer::new(flags.files.output);
    // What is planned first is copied while the rest is still planned.
    let (sender, images) = mpsc::channel(PLANNED_AHEAD);
    let taker = Taker { engine: &engine, images: sender };
    let (planned, outcomes) = futures::join!(
        planning::plan(&documents, &registries, &ledgers, Some(taker)),
        running::copy_all((&documents, &registries, &ledgers), &engine, images, flags.copies as usize, &printer),
    );
    ledgers.close(&planned.asked);
    printed(printer.summary(&planned, &outcomes))?;
    Ok(ExitCode::from(u8::from(
        !planned.troubles.is_empty() || outcomes.iter().any(|outcome| outcome.failed.is_some()),
    )))
}

/// Shows what [`sync`] would do. Nothing is written anywhere; a destination is asked only where its owner consents.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn plan(flags: PlanFlags) -> Result<ExitCode, UsageError> {
    let (documents, registries) = read(&flags.files)?;
    let state = State::open(flags.state.as_deref()).map_err(UsageError)?;
    let mut planned = planning::plan(&documents, &registries, &Ledgers::new(&state), None).await;
    planning::look_at_destinations(&mut planned, &registries).await;
    printed(output::show_plan(flags.files.output, &planned))?;
    Ok(ExitCode::from(u8::from(!planned.troubles.is_empty())))
}

fn read(flags: &FileFlags) -> Result<(Documents, Registries), UsageError> {
    let documents = Documents::read(&flags.files).map_err(|errors| UsageError(errors.join("\ntransship: ")))?;
    for left_out in &documents.left_out {
        eprintln!("transship: {left_out}");
    }
    let registries = Registries::new(&documents, flags).map_err(|errors| UsageError(errors.join("\ntransship: ")))?;
    Ok((documents, registries))
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
fn printed(text: String) -> Result<(), UsageError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(UsageError(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// The most images that are planned and wait to be copied.
const PLANNED_AHEAD: usize = 256;
