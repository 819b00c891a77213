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

    /// Waits for the comparisons of other callers that do not know the verdict either.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

const TTL: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

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
