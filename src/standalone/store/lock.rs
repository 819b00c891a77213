//! The lock of a state folder: one process at a time writes to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use super::error::StateError;

/// An exclusive lock on `DIR/lock`. The kernel releases it when the process ends, however it ends; the file stays.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Releases the lock at once: closing the file does not while a child that is being started still has a copy of it.
    fn drop(&mut self) {
        // Where this fails, the end of the process releases the lock.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Locks `folder` for this process, which runs `command`.
    ///
    /// # Errors
    /// Another process has the lock, or the file system refuses.
    pub(super) fn take(folder: &Path, command: &str) -> Result<Self, StateError> {
        let failed = |error: io::Error| StateError::Unlockable { folder: folder.to_owned(), error };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join("lock"));
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse { folder: folder.to_owned(), owner: owner(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{} {command}", std::process::id()));
        written.map_err(failed)?;
        Ok(Self { file })
    }
}

/// Returns the process that has the lock, as it wrote itself into the file.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_OWNER_BYTES).read_to_string(&mut text);
    match text.trim().split_once(' ').filter(|(process, _)| read.is_ok() && process.parse::<u32>().is_ok()) {
        Some((process, command)) => format!("process {process} ({command})"),
        None => "another process".to_owned(),
    }
}

const MAX_OWNER_BYTES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_process_learns_which_one_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lock"), "1 transship that was killed and had a longer line\n").unwrap();
        let first = Lock::take(folder.path(), "transship serve").unwrap();
        let expected = format!(
            "--state {} is in use by process {} (transship serve): end it first, or give another folder",
            folder.path().display(),
            std::process::id()
        );
        assert_eq!(Lock::take(folder.path(), "transship sync").unwrap_err().to_string(), expected);
        drop(first);
        Lock::take(folder.path(), "transship sync").unwrap();
    }

    #[test]
    fn a_lock_whose_owner_is_not_written_yet_is_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Lock::take(folder.path(), "transship serve").unwrap();
        std::fs::write(folder.path().join("lock"), "").unwrap();
        let refused = Lock::take(folder.path(), "transship sync").unwrap_err().to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
    }
}
