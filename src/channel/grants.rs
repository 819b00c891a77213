//! Commit grants: the right to write a tag or create a repository now, never held by two at a time.

use std::collections::HashMap;
use std::time::Instant;

use crate::image::{RepositoryName, Tag};
use crate::plan::GRANT_LASTS;

/// A tag or repository that a grant is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GrantSubject {
    /// The canonical host of the destination.
    pub host: String,
    /// The repository there.
    pub repository: RepositoryName,
    /// The tag; `None` for the creation of the repository.
    pub tag: Option<Tag>,
}

/// One copy in one process, which asks for grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GrantHolder {
    /// The session of the process.
    pub session: String,
    /// The name of the copy within the process.
    pub copy: String,
}

/// The answer to a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantDecision {
    /// The holder may write until then.
    Granted(Instant),
    /// Another holder may be writing until then.
    Busy(Instant),
}

/// The grants in force. A grant ends when its holder gives it back, or when it has run out: no other holder gets one
/// before.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    given: HashMap<GrantSubject, (GrantHolder, Instant)>,
    not_before: Option<Instant>,
}

impl Grants {
    /// Gives nothing before `until`: an earlier process may have given grants that are still in use.
    pub(crate) fn hold_back(&mut self, until: Instant) {
        self.not_before = Some(until);
    }

    /// Asks for `subject`. The holder of a grant gets it again, for longer; copies of one process may create a
    /// repository together.
    pub(crate) fn ask(&mut self, subject: &GrantSubject, holder: &GrantHolder, now: Instant) -> GrantDecision {
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return GrantDecision::Busy(until);
        }
        if self.given.len() > SWEEP_ABOVE {
            self.given.retain(|_, (_, until)| *until > now);
        }
        if let Some((present, until)) = self.given.get(subject)
            && *until > now
            && !(present == holder || (subject.tag.is_none() && present.session == holder.session))
        {
            return GrantDecision::Busy(*until);
        }
        let until = now + GRANT_LASTS;
        self.given.insert(subject.clone(), (holder.clone(), until));
        GrantDecision::Granted(until)
    }

    /// Gives back what `holder` has: it writes no more.
    pub(crate) fn give_back(&mut self, holder: &GrantHolder) {
        self.given.retain(|_, (present, _)| present != holder);
    }
}

const SWEEP_ABOVE: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn subject(tag: &str) -> GrantSubject {
        GrantSubject { host: "h".into(), repository: "r".parse().unwrap(), tag: Some(tag.parse().unwrap()) }
    }

    fn holder(session: &str, copy: &str) -> GrantHolder {
        GrantHolder { session: session.into(), copy: copy.into() }
    }

    #[test]
    fn a_repository_may_be_created_by_all_copies_of_one_process_and_by_no_other() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let subject = GrantSubject { tag: None, ..subject("t") };
        assert!(matches!(grants.ask(&subject, &holder("a", "1"), now), GrantDecision::Granted(_)));
        assert!(matches!(grants.ask(&subject, &holder("a", "2"), now), GrantDecision::Granted(_)));
        assert!(matches!(grants.ask(&subject, &holder("b", "3"), now), GrantDecision::Busy(_)));
    }

    #[test]
    fn nothing_is_granted_while_grants_of_an_earlier_process_may_be_in_use() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        grants.hold_back(now + GRANT_LASTS);
        assert_eq!(grants.ask(&subject("t"), &holder("a", "1"), now), GrantDecision::Busy(now + GRANT_LASTS));
        assert!(matches!(grants.ask(&subject("t"), &holder("a", "1"), now + GRANT_LASTS), GrantDecision::Granted(_)));
    }

    /// One event of the model: a copy asks, its answer arrives late or never, it writes while it believes it may, it
    /// gives back.
    #[derive(Clone, Debug)]
    enum GrantStep {
        Ask { copy: usize, lost: bool },
        Write { copy: usize },
        GiveBack { copy: usize },
        Pass { ms: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<GrantStep>> {
        let step = prop_oneof![
            (0..4_usize, any::<bool>()).prop_map(|(copy, lost)| GrantStep::Ask { copy, lost }),
            (0..4_usize).prop_map(|copy| GrantStep::Write { copy }),
            (0..4_usize).prop_map(|copy| GrantStep::GiveBack { copy }),
            (1..6_000_u64).prop_map(|ms| GrantStep::Pass { ms }),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        /// Copies of one tag in two processes, each with a digest of a newer observation than the one before: a writer
        /// has the only grant at that instant, whatever answers were lost and however long a process slept.
        #[test]
        fn two_never_hold_one_tag(steps in steps()) {
            let (mut grants, mut now) = (Grants::default(), Instant::now());
            let copies: Vec<GrantHolder> = (0..4).map(|n| holder(&format!("process-{}", n % 2), &n.to_string())).collect();
            let mut believed: [Option<Instant>; 4] = [None; 4];
            for step in steps {
                match step {
                    GrantStep::Pass { ms } => now += Duration::from_millis(ms),
                    GrantStep::Ask { copy, lost } => {
                        // A worker counts from when it asked.
                        if let GrantDecision::Granted(until) = grants.ask(&subject("t"), &copies[copy], now) && !lost {
                            believed[copy] = Some(until);
                        }
                    }
                    GrantStep::Write { copy } if believed[copy].is_some_and(|until| now < until) => {
                        let others = (0..4).filter(|other| *other != copy);
                        for other in others {
                            prop_assert!(believed[other].is_none_or(|until| now >= until), "{copy} and {other} write together");
                        }
                    }
                    GrantStep::Write { .. } => {}
                    GrantStep::GiveBack { copy } => {
                        believed[copy] = None;
                        grants.give_back(&copies[copy]);
                    }
                }
            }
        }
    }
}
