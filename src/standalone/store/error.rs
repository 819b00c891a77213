//! The errors of a state folder, as the command line prints them.

use std::io;
use std::path::PathBuf;

/// A state folder that cannot be used, or a file of it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something else has the name of the folder.
    #[error("--state {} is no folder", .0.display())]
    NotAFolder(PathBuf),
    /// The folder to read from is absent.
    #[error("--state {} does not exist: give the folder of transship serve or sync", .0.display())]
    Absent(PathBuf),
    /// The folder has no statuses.
    #[error("--state {} is no state folder: give the one of transship serve or sync", .0.display())]
    NoState(PathBuf),
    /// Another process has the lock.
    #[error("--state {} is in use by {owner}: end it first, or give another folder", folder.display())]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// The process as it wrote itself into the lock file.
        owner: String,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("--state {} cannot be locked: {error}", folder.display())]
    Unlockable {
        /// The state folder.
        folder: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// The folder or a part of it cannot be created.
    #[error("--state {} cannot be written: {error}", folder.display())]
    Unwritable {
        /// The state folder.
        folder: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// A journal lacks changes.
    #[error("{} cannot be written: {error}; what it lacks is verified again after a restart", file.display())]
    Incomplete {
        /// The journal.
        file: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// The deletions of the last day are garbage, or not readable by this user.
    #[error("{} cannot be read: {error}: restore it, or delete it, and deletions before do not count", file.display())]
    UnreadableCounts {
        /// The file.
        file: PathBuf,
        /// The answer of the file system, or the fault of the JSON.
        error: io::Error,
    },
    /// A status that is garbage, or not readable by this user.
    #[error("{} cannot be read: {error}", file.display())]
    UnreadableStatus {
        /// The status.
        file: PathBuf,
        /// The answer of the file system, or the fault of the JSON.
        error: io::Error,
    },
}
