//! The verdict on a registry's answers of 404 to HEAD, which some registries give for content that they have.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::locked::Locked;

/// The treatment of a 404 to HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// GET confirms it, each time.
    Confirmed,
    /// It is believed: of a manifest if GET agreed with an earlier one, of a blob always, as it is uploaded then.
    Believed,
}

/// The verdict on the answers of 404 to HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadVerdict {
    Unknown,
    /// GET agreed with HEAD.
    Right,
    /// GET found content that HEAD did not find.
    Wrong,
}

/// Remembers the verdict on the manifests, or on the blobs, of one registry for an hour.
#[derive(Default)]
pub(super) struct HeadVerdicts {
    last: Locked<Option<(HeadVerdict, Instant)>>,
    /// The time at which GET last failed as HEAD did.
    away_at: Locked<Option<Instant>>,
    turn: Mutex<()>,
}

impl HeadVerdicts {
    pub(super) fn get(&self, now: Instant) -> HeadVerdict {
        let last = *self.last.lock();
        last.filter(|(_, until)| *until > now).map_or(HeadVerdict::Unknown, |(verdict, _)| verdict)
    }

    /// Remembers a comparison of HEAD and GET. A later agreement does not withdraw [`HeadVerdict::Wrong`]: HEAD may be
    /// wrong about some content only.
    pub(super) fn note(&self, verdict: HeadVerdict, now: Instant) {
        if verdict == HeadVerdict::Wrong || self.get(now) != HeadVerdict::Wrong {
            *self.last.lock() = Some((verdict, now + TTL));
        }
    }

    /// Returns true if GET failed like HEAD a moment ago: the registry is away, and GET is not worth its attempts.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.away_at.lock().is_some_and(|away_at| now < away_at + AWAY_FOR)
    }

    /// Records the result of GET after HEAD failed as if the registry were away.
    pub(super) fn note_away(&self, is_away: bool, now: Instant) {
        *self.away_at.lock() = is_away.then_some(now);
    }

    /// Waits for the comparisons of other callers that do not know the verdict either.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

const TTL: Duration = Duration::from_secs(3600);
const AWAY_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_away_is_not_read_for_a_moment() {
        let (verdicts, now) = (HeadVerdicts::default(), Instant::now());
        assert!(!verdicts.is_away(now));
        verdicts.note_away(true, now);
        assert!(verdicts.is_away(now) && !verdicts.is_away(now + AWAY_FOR));
        verdicts.note_away(false, now);
        assert!(!verdicts.is_away(now));
    }

    #[test]
    fn a_registry_that_was_wrong_once_is_believed_after_an_hour() {
        let (verdicts, now) = (HeadVerdicts::default(), Instant::now());
        assert_eq!(verdicts.get(now), HeadVerdict::Unknown);
        for (noted, expected) in [
            (HeadVerdict::Right, HeadVerdict::Right),
            (HeadVerdict::Wrong, HeadVerdict::Wrong),
            (HeadVerdict::Right, HeadVerdict::Wrong),
        ] {
            verdicts.note(noted, now);
            assert_eq!(verdicts.get(now), expected, "{noted:?}");
        }
        assert_eq!(verdicts.get(now + TTL), HeadVerdict::Unknown);
    }
}
