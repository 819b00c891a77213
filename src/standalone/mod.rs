//! Replicates without a cluster, from the same YAML kinds: `transship serve`, `sync`, `plan` and `status`.

mod access;
mod deletions;
mod ecr;
mod error;
mod files;
mod flags;
mod invalid_lists;
mod objects;
mod output;
mod plan;
mod preview;
mod reader;
mod registries;
mod run;
mod serve;
mod signals;
mod status;
mod store;
mod sync;
mod template_check;
mod text;
mod usage_totals;
mod wiring;

pub use error::UsageError;
pub use flags::{PlanFlags, ServeFlags, SyncFlags};
pub use plan::plan;
pub use serve::serve;
pub use status::{StatusFlags, status};
pub use sync::sync;

use self::access::FileContent;
use self::files::Documents;
use self::flags::FileFlags;
use self::registries::{FileRegistries, unused_egress};
use crate::console;

fn read(flags: &FileFlags) -> Result<FileContent, UsageError> {
    read_content(flags, None)
}

/// Reads the files again; what did not change of `earlier` is kept.
fn read_again(flags: &FileFlags, earlier: &FileContent) -> Result<FileContent, UsageError> {
    read_content(flags, Some(&earlier.registries))
}

fn read_content(flags: &FileFlags, earlier: Option<&FileRegistries>) -> Result<FileContent, UsageError> {
    let documents = Documents::read(&flags.files).map_err(UsageError::Documents)?;
    // A file that was emptied, or is being written, has none either: it deletes no state.
    if documents.configurations.is_empty() {
        return Err(UsageError::NoConfiguration);
    }
    let warnings = documents.warnings().into_iter().chain(unused_egress(&documents, flags));
    warnings.for_each(|warning| tracing::warn!("{warning}"));
    let registries = FileRegistries::new(&documents, flags, earlier).map_err(UsageError::Registries)?;
    Ok(FileContent { documents, registries })
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
fn printed(text: String) -> Result<(), UsageError> {
    console::print(&text).map_err(UsageError::Output)
}
