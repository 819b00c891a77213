//! Remembers which Registries serve images although their check fails: `/v2/` of some registries is odd.

use std::collections::HashMap;
use std::time::Instant;

use crate::locked::Locked;

/// The use of every Registry in this process, by its uid.
#[derive(Debug, Default)]
pub(crate) struct RegistryUse(Locked<HashMap<String, LastUse>>);

/// The times at which one Registry worked, and failed its check.
#[derive(Clone, Copy, Debug, Default)]
struct LastUse {
    served_at: Option<Instant>,
    failing_since: Option<Instant>,
    /// True once the registry accepted the credentials, until it refuses them; `None` before the first check.
    is_accepted: Option<bool>,
}

impl LastUse {
    fn serves(&self) -> bool {
        self.failing_since.zip(self.served_at).is_some_and(|(failing_since, served_at)| failing_since < served_at)
    }
}

impl RegistryUse {
    /// Records that the Registry gave a list or an image, or took one. Returns true if its check failed and this is the
    /// first use since: the next check has another result.
    pub(crate) fn served(&self, uid: &str, now: Instant) -> bool {
        self.change(uid, |last| {
            let served = std::mem::replace(last, LastUse { served_at: Some(now), ..*last });
            last.serves() && !served.serves()
        })
    }

    /// Records that the Registry refused the credentials, or could not be reached by its name.
    pub(crate) fn refused(&self, uid: &str) {
        self.change(uid, |last| last.served_at = None);
    }

    /// Records that a check failed. Returns true if the Registry has served since the first check that did.
    pub(crate) fn check_failed(&self, uid: &str, now: Instant) -> bool {
        self.change(uid, |last| {
            last.failing_since.get_or_insert(now);
            last.serves()
        })
    }

    /// Records that a check passed.
    pub(crate) fn check_passed(&self, uid: &str) {
        self.change(uid, |last| (last.failing_since, last.is_accepted) = (None, Some(true)));
    }

    /// Records that the credentials cannot be used: they are refused, or missing.
    pub(crate) fn credentials_refused(&self, uid: &str) {
        self.change(uid, |last| last.is_accepted = Some(false));
    }

    /// Records that a check said nothing about the credentials. Before the first one that did, the state in which the
    /// process before left them holds: `was_accepted`.
    pub(crate) fn check_silent(&self, uid: &str, was_accepted: bool) {
        self.change(uid, |last| last.is_accepted = last.is_accepted.or(Some(was_accepted)));
    }

    /// Returns true if the registry accepted the credentials, and false if it refuses them; `None` before a check.
    pub(crate) fn is_accepted(&self, uid: &str) -> Option<bool> {
        self.0.lock().get(uid).and_then(|last| last.is_accepted)
    }

    /// Forgets a Registry object that does not exist any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    fn change<T>(&self, uid: &str, change: impl FnOnce(&mut LastUse) -> T) -> T {
        let mut known = self.0.lock();
        if !known.contains_key(uid) {
            known.insert(uid.to_owned(), LastUse::default());
        }
        change(known.get_mut(uid).expect("it was inserted"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_is_served_after_the_check_failed_speaks_for_a_registry() {
        let (uses, began) = (RegistryUse::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!uses.served("r", at(0)), "nothing is wrong");
        assert!(!uses.check_failed("r", at(1)), "it served before that");
        assert!(uses.served("r", at(2)) && !uses.served("r", at(3)), "one check is due");
        assert!(uses.check_failed("r", at(4)) && !uses.check_failed("other", at(4)));
        uses.refused("r");
        assert!(!uses.check_failed("r", at(5)));
        assert!(uses.served("r", at(6)));
        uses.check_passed("r");
        assert!(!uses.check_failed("r", at(7)), "it fails anew");
    }

    #[test]
    fn a_check_that_says_nothing_leaves_the_credentials_as_they_were() {
        let uses = RegistryUse::default();
        for (uid, was_accepted) in [("ready", true), ("new", false)] {
            uses.check_silent(uid, was_accepted);
            uses.check_silent(uid, !was_accepted);
            assert_eq!(uses.is_accepted(uid), Some(was_accepted), "its status shows the failure by now");
        }
        uses.credentials_refused("ready");
        uses.check_silent("ready", true);
        assert_eq!(uses.is_accepted("ready"), Some(false));
        uses.check_passed("ready");
        uses.check_silent("ready", false);
        assert_eq!(uses.is_accepted("ready"), Some(true));
    }
}
