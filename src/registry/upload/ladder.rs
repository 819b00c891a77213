//! The ways to upload to one registry, and the memory of those that work.

use std::sync::MutexGuard;
use std::time::Duration;

use tokio::time::Instant;

use crate::locked::Locked;

/// A way to send bytes into an upload session, ordered by the number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// One PUT with the whole blob.
    Put,
    /// One PATCH with the whole blob, then an empty PUT.
    Patch,
    /// A PATCH for each chunk, then an empty PUT.
    Chunks,
}

/// The reason why a rung failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DescentReason {
    /// The registry does not take uploads in this way.
    Refused,
    /// Something in front of the registry takes no request of this size.
    TooLarge,
    /// The connection broke repeatedly, which may be due to this blob only.
    ConnectionBroke,
}

/// The rungs of one registry: its profile, and the experience of earlier uploads.
pub(crate) struct Ladder {
    profile: UploadProfile,
    learned: Locked<Learned>,
}

/// The limits of a registry that are known before the first upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadProfile {
    pub(crate) rungs: &'static [Rung],
    /// The size of a chunk in bytes, if the registry does not ask for larger ones.
    pub(crate) chunk: u64,
    /// The smallest chunk that is worth a try, in bytes.
    pub(crate) min_chunk: u64,
    /// Larger blobs are sent in chunks from the start.
    pub(crate) max_single_request: u64,
}

#[derive(Default)]
struct Learned {
    start: Option<Start>,
    chunk: Option<(u64, Instant)>,
    /// The consecutive mounts that were not granted.
    missed_mounts: u32,
    no_mounts_before: Option<Instant>,
}

/// Blobs of at least `from` bytes start at `rung`.
#[derive(Clone, Copy)]
struct Start {
    rung: Rung,
    from: u64,
    until: Instant,
}

impl Default for UploadProfile {
    fn default() -> Self {
        Self {
            rungs: &[Rung::Put, Rung::Patch, Rung::Chunks],
            chunk: DEFAULT_CHUNK,
            min_chunk: MIN_CHUNK,
            max_single_request: u64::MAX,
        }
    }
}

impl Ladder {
    pub(crate) fn new(profile: UploadProfile) -> Self {
        Self { profile, learned: Locked::default() }
    }

    /// Returns the rung at which the upload of a blob of `size` bytes starts.
    pub(crate) fn first(&self, size: u64, now: Instant) -> Rung {
        if size > self.profile.max_single_request {
            return Rung::Chunks;
        }
        match self.learned().start {
            Some(start) if now < start.until && size >= start.from => start.rung,
            _ => Rung::Put,
        }
    }

    /// Returns the rung to try after those in `tried` failed, the last one for `reason`.
    pub(super) fn below(&self, tried: &[Rung], reason: DescentReason) -> Option<Rung> {
        let must_split = reason != DescentReason::Refused;
        let is_open = |rung: &Rung| !tried.contains(rung) && (*rung == Rung::Chunks || !must_split);
        self.profile.rungs.iter().copied().find(is_open)
    }

    /// Remembers that `rung` worked for a blob of `size` bytes, after a higher one failed for `reason`.
    pub(super) fn worked(&self, rung: Rung, size: u64, reason: DescentReason, now: Instant) {
        let from = match reason {
            DescentReason::Refused => 0,
            DescentReason::TooLarge => size,
            DescentReason::ConnectionBroke => return,
        };
        let mut learned = self.learned();
        let known = learned.start.filter(|start| start.rung == rung && now < start.until);
        let from = known.map_or(from, |start| start.from.min(from));
        learned.start = Some(Start { rung, from, until: now + LEARNED_TTL });
        tracing::debug!(?rung, from, "remembering the first rung of uploads");
    }

    /// Forgets the first rung that was learned.
    pub(super) fn forget(&self) {
        self.learned().start = None;
    }

    /// Returns the size of a chunk if the registry asks for at least `min` bytes; `None` if that is over [`MAX_CHUNK`].
    pub(crate) fn chunk(&self, min: u64, now: Instant) -> Option<u64> {
        let learned = self.learned().chunk.filter(|(_, until)| now < *until).map(|(size, _)| size);
        let size = learned.unwrap_or(self.profile.chunk).max(min);
        (size <= MAX_CHUNK).then_some(size)
    }

    /// Returns a smaller chunk than `size`, which was too large; `None` if `min` or the profile allows none. Remembers
    /// it.
    pub(super) fn smaller_chunk(&self, size: u64, min: u64, now: Instant) -> Option<u64> {
        let min = min.max(self.profile.min_chunk);
        if size <= min {
            return None;
        }
        let smaller = (size / 2).max(min);
        self.learned().chunk = Some((smaller, now + LEARNED_TTL));
        Some(smaller)
    }

    /// Returns true if a mount is worth a request.
    pub(super) fn may_mount(&self, now: Instant) -> bool {
        self.learned().no_mounts_before.is_none_or(|instant| now >= instant)
    }

    /// Records that the registry mounted a blob.
    pub(super) fn mounted(&self) {
        let mut learned = self.learned();
        (learned.missed_mounts, learned.no_mounts_before) = (0, None);
    }

    /// Records that the registry did not mount a blob; `is_unsupported` if it does not know mounts at all.
    pub(super) fn not_mounted(&self, is_unsupported: bool, now: Instant) {
        let mut learned = self.learned();
        learned.missed_mounts = learned.missed_mounts.saturating_add(1);
        if is_unsupported || learned.missed_mounts >= MAX_MISSED_MOUNTS {
            learned.no_mounts_before = Some(now + LEARNED_TTL);
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock()
    }
}

/// After this time the registry may have changed.
const LEARNED_TTL: Duration = Duration::from_secs(3600);

/// After so many consecutive mounts that were not granted, none is requested until [`LEARNED_TTL`] has passed.
const MAX_MISSED_MOUNTS: u32 = 5;

const DEFAULT_CHUNK: u64 = 4 * 1024 * 1024;
const MIN_CHUNK: u64 = 256 * 1024;

/// A registry that asks for larger chunks cannot be served in chunks.
pub(crate) const MAX_CHUNK: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
