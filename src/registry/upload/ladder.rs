//! Remembers how one registry takes uploads: in which way, from which size on, and whether it mounts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A way to bring bytes into an upload session, the one with the fewest requests first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// One PUT with the whole blob.
    Put,
    /// One PATCH with the whole blob, then an empty PUT.
    Patch,
    /// A PATCH for each chunk, then an empty PUT.
    Chunks,
}

/// Why a rung does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescentReason {
    /// The registry does not take uploads in this way.
    Refused,
    /// Something in front of the registry takes no request of this size.
    TooLarge,
    /// The connection broke again and again: that may be so for this blob only.
    Broke,
}

/// How one registry takes uploads: what is known of its host, and what its answers have taught.
pub(crate) struct Ladder {
    manner: UploadProfile,
    learned: Mutex<Learned>,
}

/// What is known of a registry before the first upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadProfile {
    pub(crate) rungs: &'static [Rung],
    /// The size of a chunk in bytes.
    pub(crate) chunk: u64,
    /// The smallest chunk that it is worth to go down to, in bytes.
    pub(crate) min_chunk: u64,
    /// Larger blobs than this are sent in chunks from the start.
    pub(crate) max_single_request: u64,
}

#[derive(Default)]
struct Learned {
    start: Option<Start>,
    chunk: Option<(u64, Instant)>,
    /// The mounts in a row that ended in a session.
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

impl UploadProfile {
    /// What is known of the registry at `host` (canonical).
    pub(crate) fn of(host: &str) -> Self {
        let is_under = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|h| h.ends_with('.'));
        let usual = Self {
            rungs: &[Rung::Put, Rung::Patch, Rung::Chunks],
            chunk: DEFAULT_CHUNK,
            min_chunk: MIN_CHUNK,
            max_single_request: u64::MAX,
        };
        if is_under("azurecr.io") {
            // A streamed body of over about 20 MB fails.
            return Self { max_single_request: 20_000_000, ..usual };
        }
        if host.contains(".dkr.ecr.") && (is_under("amazonaws.com") || is_under("amazonaws.com.cn")) {
            // The size of a layer part by the service quotas.
            return Self { chunk: 10 * 1024 * 1024, min_chunk: 5 * 1024 * 1024, ..usual };
        }
        if is_under("pkg.dev") || is_under("gcr.io") || host == "ghcr.io" {
            // Google takes no chunks (skopeo#1101); of several, GitHub keeps the last.
            return Self { rungs: &[Rung::Put, Rung::Patch], ..usual };
        }
        usual
    }
}

impl Ladder {
    pub(crate) fn new(manner: UploadProfile) -> Self {
        Self { manner, learned: Mutex::default() }
    }

    /// Where the upload of a blob of `size` bytes starts.
    pub(super) fn first(&self, size: u64, now: Instant) -> Rung {
        if size > self.manner.max_single_request {
            return Rung::Chunks;
        }
        match self.learned().start {
            Some(start) if now < start.until && size >= start.from => start.rung,
            _ => Rung::Put,
        }
    }

    /// Where to go on when the rungs in `tried` did not do, the last one because of `cause`.
    pub(super) fn below(&self, tried: &[Rung], cause: DescentReason) -> Option<Rung> {
        let one_request_is_no_good = cause != DescentReason::Refused;
        let is_open = |rung: &Rung| !tried.contains(rung) && (*rung == Rung::Chunks || !one_request_is_no_good);
        self.manner.rungs.iter().copied().find(is_open)
    }

    /// A blob of `size` bytes was taken at `rung`, after a higher one did not do because of `cause`.
    pub(super) fn worked(&self, rung: Rung, size: u64, cause: DescentReason, now: Instant) {
        let from = match cause {
            DescentReason::Refused => 0,
            DescentReason::TooLarge => size,
            DescentReason::Broke => return,
        };
        let mut learned = self.learned();
        let known = learned.start.filter(|start| start.rung == rung && now < start.until);
        let from = known.map_or(from, |start| start.from.min(from));
        learned.start = Some(Start { rung, from, until: now + LEARNED_TTL });
        tracing::debug!(?rung, from, "how the registry takes uploads");
    }

    /// What was learned does not hold any longer.
    pub(super) fn forget(&self) {
        self.learned().start = None;
    }

    /// The size of a chunk where the registry asks for at least `least` bytes; nothing if it asks for too much.
    pub(super) fn chunk(&self, least: u64, now: Instant) -> Option<u64> {
        let learned = self.learned().chunk.filter(|(_, until)| now < *until).map(|(size, _)| size);
        let size = learned.unwrap_or(self.manner.chunk).max(least);
        (size <= MAX_CHUNK).then_some(size)
    }

    /// A smaller chunk than one of `size` bytes, which was too large; nothing below what the registry takes at least.
    pub(super) fn smaller_chunk(&self, size: u64, least: u64, now: Instant) -> Option<u64> {
        let least = least.max(self.manner.min_chunk);
        if size <= least {
            return None;
        }
        let smaller = (size / 2).max(least);
        self.learned().chunk = Some((smaller, now + LEARNED_TTL));
        Some(smaller)
    }

    /// Whether it is worth to ask for a mount.
    pub(super) fn may_mount(&self, now: Instant) -> bool {
        self.learned().no_mounts_before.is_none_or(|instant| now >= instant)
    }

    /// The registry mounted a blob.
    pub(super) fn mounted(&self) {
        let mut learned = self.learned();
        (learned.missed_mounts, learned.no_mounts_before) = (0, None);
    }

    /// The registry did not mount a blob; `is_refused`: it does not know mounts at all.
    pub(super) fn not_mounted(&self, is_refused: bool, now: Instant) {
        let mut learned = self.learned();
        learned.missed_mounts = learned.missed_mounts.saturating_add(1);
        if is_refused || learned.missed_mounts >= MAX_MISSED_MOUNTS {
            learned.no_mounts_before = Some(now + LEARNED_TTL);
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long what was learned holds; then the registry may have changed.
const LEARNED_TTL: Duration = Duration::from_secs(3600);

/// After so many mounts in a row that did not work out, none are asked for.
const MAX_MISSED_MOUNTS: u32 = 5;

const DEFAULT_CHUNK: u64 = 4 * 1024 * 1024;
const MIN_CHUNK: u64 = 256 * 1024;

/// A registry that asks for larger chunks than this cannot be served in chunks.
pub(crate) const MAX_CHUNK: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
