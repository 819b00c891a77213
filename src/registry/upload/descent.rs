//! The way of one upload down the ladder.

use tokio::time::Instant;

use crate::registry::error::RegistryError;
use crate::registry::upload::ladder::{DescentReason, Ladder, Rung};

/// The rungs that one upload tries.
pub(super) struct Descent<'a> {
    ladder: &'a Ladder,
    size: u64,
    pub(super) rung: Rung,
    tried: Vec<Rung>,
    /// The failure of the last rung.
    reason: Option<DescentReason>,
    lost_sessions: u32,
    broken_connections: u32,
    /// The error to return if a broken connection led to a rung that fails too.
    broke_with: Option<RegistryError>,
}

impl<'a> Descent<'a> {
    pub(super) fn new(ladder: &'a Ladder, size: u64) -> Self {
        let rung = ladder.first(size, Instant::now());
        let (lost_sessions, broken_connections) = (0, 0);
        Self {
            ladder,
            size,
            rung,
            tried: vec![rung],
            reason: None,
            lost_sessions,
            broken_connections,
            broke_with: None,
        }
    }

    /// Goes to the next rung.
    ///
    /// # Errors
    /// `error`, if there is none.
    pub(super) fn descend(&mut self, error: RegistryError, reason: DescentReason) -> Result<(), RegistryError> {
        if self.tried.len() == 1 && reason != DescentReason::ConnectionBroke {
            self.ladder.forget();
        }
        let Some(rung) = self.ladder.below(&self.tried, reason) else {
            return Err(self.broke_with.take().unwrap_or(error));
        };
        tracing::debug!(error = %error.message, ?rung, "uploading in another way");
        (self.rung, self.reason) = (rung, Some(reason));
        self.tried.push(rung);
        Ok(())
    }

    /// Counts a session that the registry does not know right after it opened it. Returns true at the second one, as
    /// the first may be due to a restart.
    pub(super) fn is_lost_again(&mut self) -> bool {
        self.lost_sessions += 1;
        self.lost_sessions == 2 && self.rung != Rung::Chunks
    }

    /// Counts a broken connection. At the second one something may cut connections at a certain size or time: chunks
    /// can get through.
    pub(super) fn connection_broke(&mut self, error: &RegistryError) {
        self.broken_connections += 1;
        let is_cut = self.broken_connections >= 2 && self.size >= MIN_BLOB_TO_CHECK && self.rung != Rung::Chunks;
        if is_cut && self.descend(error.clone(), DescentReason::ConnectionBroke).is_ok() {
            self.broke_with = Some(error.clone());
        }
    }

    /// Remembers the rung that worked.
    pub(super) fn succeeded(&self) {
        if let Some(reason) = self.reason {
            self.ladder.worked(self.rung, self.size, reason, Instant::now());
        }
    }
}

/// From this size on an existence check costs less than sending the bytes again, and chunks less than another broken
/// connection.
pub(super) const MIN_BLOB_TO_CHECK: u64 = 1024 * 1024;
