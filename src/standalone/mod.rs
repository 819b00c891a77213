//! Replicates without a cluster, from the same YAML kinds: `transship serve`, `sync`, `plan` and `status`.

mod access;
mod files;
mod flags;
mod output;
mod plan;
mod registries;
mod serve;
mod status;
mod store;
mod sync;
mod table;
mod wiring;

use std::io::Write;

pub use flags::{PlanFlags, ServeFlags, SyncFlags};
pub use plan::plan;
pub use serve::serve;
pub use status::{StatusFlags, status};
pub use sync::sync;

use self::access::Content;
use self::files::Documents;
use self::flags::FileFlags;
use self::registries::Registries;

/// An error of the command line or of the files: nothing was read or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

fn read(flags: &FileFlags) -> Result<Content, UsageError> {
    let content = read_content(flags, None)?;
    if content.documents.configurations.is_empty() {
        return Err(UsageError("the files have no ReplicationConfiguration: there is nothing to do".to_owned()));
    }
    Ok(content)
}

/// Reads the files again; what did not change of `earlier` is kept.
fn read_again(flags: &FileFlags, earlier: &Content) -> Result<Content, UsageError> {
    read_content(flags, Some(&earlier.registries))
}

fn read_content(flags: &FileFlags, earlier: Option<&Registries>) -> Result<Content, UsageError> {
    let join = |errors: Vec<String>| UsageError(errors.join("\ntransship: "));
    let documents = Documents::read(&flags.files).map_err(join)?;
    let registries = Registries::new(&documents, flags, earlier).map_err(join)?;
    Ok(Content { documents, registries })
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
