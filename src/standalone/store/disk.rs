//! Files that are replaced at once and deleted without complaint.

use std::io;
use std::path::{Path, PathBuf};

/// Ends the name of a file that is not complete yet.
pub(super) const PARTIAL: &str = ".partial";

/// Returns the name under which a file is written before it replaces `file`.
pub(super) fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}{PARTIAL}", std::process::id()));
    name.into()
}

/// Removes the files that processes left behind that were killed while they replaced one.
pub(super) fn remove_partial(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Deletes a file; an absent one is no error.
///
/// # Errors
/// It is still there.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    absent_is_fine(std::fs::remove_file(file))
}

/// Turns the error that a file is absent into success.
pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
