//! Transitions of pairs that are worth an Event: failed, recovered, kept by the destination. Coalesced.

use std::time::Duration;

use jiff::Timestamp;

use crate::terms::{Condition, condition_type, reason};

/// The last outcome of a pair that was announced, as status and reason of `Ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedOutcome(Option<(bool, String)>);

impl AnnouncedOutcome {
    /// Returns the outcome that the conditions of a stored pair show: it was announced by an earlier process.
    pub fn restore(conditions: &[Condition]) -> Self {
        Self(settled(conditions).map(|ready| (ready.status == "True", ready.reason.clone())))
    }

    /// Returns `Ready` if it is news: a failure, another cause of it, a recovery from one, or tags that the destination
    /// keeps. Work under way changes nothing, so an image that fails again for the same cause after each retry is no
    /// news, and neither is a first success.
    pub fn news<'a>(&mut self, conditions: &'a [Condition]) -> Option<&'a Condition> {
        let ready = settled(conditions)?;
        let present = (ready.status == "True", ready.reason.clone());
        if self.0.as_ref() == Some(&present) {
            return None;
        }
        let has_failed = self.0.as_ref().is_some_and(|(is_ready, _)| !is_ready);
        let is_news = ready.status != "True" || has_failed || ready.reason == reason::IMAGES_SKIPPED;
        self.0 = Some(present);
        is_news.then_some(ready)
    }
}

fn settled(conditions: &[Condition]) -> Option<&Condition> {
    let ready = conditions.iter().find(|condition| condition.type_ == condition_type::READY)?;
    (ready.reason != reason::PROGRESSING).then_some(ready)
}

/// A bound of the Events about pairs: a registry that fails takes thousands of pairs with it.
#[derive(Clone, Debug)]
pub struct NewsBudget {
    left: f64,
    counted_at: Option<Timestamp>,
}

impl Default for NewsBudget {
    fn default() -> Self {
        Self { left: BURST, counted_at: None }
    }
}

impl NewsBudget {
    /// Takes one Event from the budget; false if none is left.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let elapsed = self.counted_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        self.left = (self.left + elapsed / REFILL.as_secs_f64()).min(BURST);
        self.counted_at = Some(now);
        let is_left = self.left >= 1.0;
        self.left -= f64::from(u8::from(is_left));
        is_left
    }
}

/// The Events that may follow one another at once.
const BURST: f64 = 50.0;
/// The time in which one more becomes possible.
const REFILL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Conditions;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(is_true: bool, why: &str) -> Vec<Condition> {
        Conditions::of(&[], None, at(0)).set(condition_type::READY, is_true, why, "m").into_list()
    }

    #[test]
    fn a_failure_is_announced_once_and_so_is_the_recovery() {
        let mut announced = AnnouncedOutcome::default();
        let busy = ready(false, reason::PROGRESSING);
        for (conditions, is_news) in [
            (busy.clone(), false),
            (ready(true, reason::REPLICATED), false),
            (ready(false, "SourceUnavailable"), true),
            (busy.clone(), false),
            (ready(false, "SourceUnavailable"), false),
            (ready(false, "SourceDenied"), true),
            (busy, false),
            (ready(true, reason::REPLICATED), true),
            (ready(true, reason::REPLICATED), false),
            (ready(true, reason::IMAGES_SKIPPED), true),
            (ready(true, reason::REPLICATED), false),
        ] {
            assert_eq!(announced.news(&conditions).is_some(), is_news, "{conditions:?}");
        }
    }

    #[test]
    fn what_an_earlier_process_announced_is_no_news() {
        let failed = ready(false, "SourceUnavailable");
        assert!(AnnouncedOutcome::restore(&failed).news(&failed).is_none());
        assert!(AnnouncedOutcome::restore(&failed).news(&ready(true, reason::REPLICATED)).is_some());
    }

    #[test]
    fn a_burst_of_events_is_followed_by_one_a_second() {
        let mut budget = NewsBudget::default();
        assert_eq!((0..1000).filter(|_| budget.take(at(0))).count(), 50);
        assert_eq!((1..=100).filter(|second| budget.take(at(*second))).count(), 100);
        assert!(!budget.take(at(100)));
    }
}
