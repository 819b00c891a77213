//! Files that are replaced at once and deleted without complaint.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Ends the name of a file that is not complete yet.
pub(super) const PARTIAL: &str = ".partial";

/// Returns the name under which a file is written before it replaces `file`.
pub(super) fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}{PARTIAL}", std::process::id()));
    name.into()
}

/// Replaces a file. A reader, and the next process, finds the earlier content or the new one.
///
/// # Errors
/// It could not be written; the earlier content may be in force.
pub(super) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let partial = partial(file);
    let mut new = File::create(&partial)?;
    new.write_all(content)?;
    new.sync_all()?;
    std::fs::rename(&partial, file)
}

/// Removes the files that processes left behind that were killed while they replaced one whose name begins with `name`.
pub(super) fn remove_partial(folder: &Path, name: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.starts_with(name) && found.ends_with(PARTIAL) {
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
