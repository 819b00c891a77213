//! The texts of a status, and the differences of statuses that are worth a write.

use crate::terms::{ImageStatus, PairEnd, PairSummary, ReplicationStatusStatus};

/// Returns true if two statuses differ at most in the usage, and the numbers and times of attempts: these alone are not
/// worth a write.
pub(super) fn shows_the_same(earlier: &ReplicationStatusStatus, later: &ReplicationStatusStatus) -> bool {
    let is_same = |(earlier, later): (&ImageStatus, &ImageStatus)| {
        let (attempts, next_attempt_at) = (later.attempts, later.next_attempt_at);
        earlier == later || ImageStatus { attempts, next_attempt_at, ..earlier.clone() } == *later
    };
    let are_same = earlier.images.len() == later.images.len() && earlier.images.iter().zip(&later.images).all(is_same);
    let PairSummary { bytes_moved, bytes_stored, .. } = later.summary;
    let summary = PairSummary { bytes_moved, bytes_stored, ..earlier.summary.clone() };
    are_same && ReplicationStatusStatus { images: later.images.clone(), summary, ..earlier.clone() } == *later
}

/// Returns one end of a pair as the columns show it.
pub(super) fn label(end: &PairEnd) -> String {
    match &end.registry_ref.namespace {
        Some(namespace) => format!("{namespace}/{}/{}", end.registry_ref.name, end.repository),
        None => format!("{}/{}", end.registry_ref.name, end.repository),
    }
}
