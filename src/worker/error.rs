//! The causes that end a worker before its work is done.

use crate::channel::{AccessError, ChannelError, ChannelSetupError};
use crate::registry::RegistryError;

/// The cause that ended a worker before the operator let it go. Displays as the sentence that its pod's status shows.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The files of its Secret cannot be used.
    #[error(transparent)]
    Setup(#[from] ChannelSetupError),
    /// The process cannot wait for signals.
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    /// The operator does not know it any more.
    #[error(transparent)]
    Unknown(ChannelError),
    /// The operator did not answer for too long.
    #[error("OperatorUnreachable: {0}")]
    Unreachable(ChannelError),
    /// The access that the operator gave cannot be parsed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The access that the operator gave makes no client.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
