//! Conditions of objects, and how they change.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{condition_type, reason};

/// One aspect of the state of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition, such as `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316), regex(pattern = TYPE))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// The cause as one word for programs.
    #[schemars(length(min = 1, max = 1024), regex(pattern = REASON))]
    pub reason: String,
    /// The cause as a sentence, with the remedy if there is one.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// The generation of the spec that the condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The time at which `status` changed to its present value.
    #[serde(serialize_with = "whole_seconds")]
    pub last_transition_time: Timestamp,
}

/// Writes a time without fractions of a second, as everywhere in Kubernetes.
fn whole_seconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    Timestamp::from_second(time.as_second()).unwrap_or(*time).serialize(serializer)
}

/// The state of an object as kstatus, Flux, Helm and Argo CD distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Nothing is left to do.
    Ready,
    /// Work is under way, or is tried again by itself.
    Reconciling,
    /// A user must change something.
    Stalled,
}

/// The new conditions of one object, built from its present ones.
#[derive(Debug)]
pub struct Conditions {
    list: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Starts with the `previous` conditions. Those that are set are about `generation` of the spec.
    pub fn of(previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { list: previous.to_vec(), generation, now }
    }

    /// Sets the condition of `kind`. Its transition time changes only together with its status; `message` is cut to
    /// 1,024 bytes.
    #[must_use]
    pub fn set(mut self, kind: &str, is_true: bool, reason: &str, message: &str) -> Self {
        let status = if is_true { "True" } else { "False" };
        let unchanged = self.list.iter().find(|c| c.type_ == kind && c.status == status);
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shorten(message, MAX_MESSAGE_BYTES),
            observed_generation: self.generation,
            last_transition_time: unchanged.map_or(self.now, |c| c.last_transition_time),
        };
        match self.list.iter_mut().find(|c| c.type_ == kind) {
            Some(present) => *present = condition,
            None => self.list.push(condition),
        }
        self
    }

    /// Sets the condition of `kind` to true with a reason and a message, or removes it.
    #[must_use]
    pub fn set_or_remove(mut self, kind: &str, cause: Option<(&str, &str)>) -> Self {
        match cause {
            Some((reason, message)) => self.set(kind, true, reason, message),
            None => {
                self.list.retain(|condition| condition.type_ != kind);
                self
            }
        }
    }

    /// Sets `Ready`, and while it is false either `Stalled` or `Reconciling`: by the rules of kstatus an object that has
    /// failed, or that is in progress.
    #[must_use]
    pub fn set_ready(self, outcome: ObjectState, reason: &str, message: &str) -> Self {
        let cause = |of| (outcome == of).then_some((reason, message));
        self.set(condition_type::READY, outcome == ObjectState::Ready, reason, message)
            .set_or_remove(condition_type::RECONCILING, cause(ObjectState::Reconciling))
            .set_or_remove(condition_type::STALLED, cause(ObjectState::Stalled))
    }

    /// Removes the condition of `kind` if it has this reason.
    #[must_use]
    pub fn without(mut self, kind: &str, reason: &str) -> Self {
        self.list.retain(|condition| condition.type_ != kind || condition.reason != reason);
        self
    }

    /// Returns the conditions: `Ready`, and the others by their types. Their order says nothing of what was before.
    pub fn into_list(mut self) -> Vec<Condition> {
        self.list.sort_by(|a, b| place(a).cmp(&place(b)));
        self.list
    }
}

fn place(condition: &Condition) -> (bool, &str) {
    (condition.type_ != condition_type::READY, &condition.type_)
}

/// Returns `Ready` of `after` if its status or reason differs from that of `before`. Work under way is not news.
pub fn ready_transition<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    let ready = after.iter().find(|condition| condition.type_ == condition_type::READY)?;
    let earlier = before.iter().find(|condition| condition.type_ == condition_type::READY);
    let is_same = earlier.is_some_and(|earlier| (&earlier.status, &earlier.reason) == (&ready.status, &ready.reason));
    (!is_same && ready.reason != reason::PROGRESSING).then_some(ready)
}

/// Returns `DeletionsHeld` of `after` if `before` lacks it or has another reason: a person may have to act.
pub fn held_transition<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    let held = after.iter().find(|condition| condition.type_ == condition_type::DELETIONS_HELD)?;
    let earlier = before.iter().find(|condition| condition.type_ == condition_type::DELETIONS_HELD);
    earlier.is_none_or(|earlier| earlier.reason != held.reason).then_some(held)
}

/// Returns the first `limit` bytes of `text`, cut at a character, with `…` where something was cut.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

const MAX_MESSAGE_BYTES: usize = 1024;
/// The bounds of the conditions of Kubernetes: `metav1.Condition`.
const TYPE: &str =
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_outcome_is_news() {
        let ready = |is_true, why| {
            let conditions = Conditions::of(&[], None, Timestamp::UNIX_EPOCH);
            conditions.set(condition_type::READY, is_true, why, "m").into_list()
        };
        let (good, bad) = (ready(true, reason::REPLICATED), ready(false, reason::IMAGES_FAILED));
        let busy = ready(false, reason::PROGRESSING);
        assert!(ready_transition(&good, &good).is_none());
        assert!(ready_transition(&good, &busy).is_none());
        assert_eq!(ready_transition(&good, &bad).unwrap().reason, reason::IMAGES_FAILED);
        assert_eq!(ready_transition(&[], &good).unwrap().status, "True");
    }

    #[test]
    fn held_deletions_are_news_once_for_each_reason() {
        let held = |reason, message| {
            let cause = Some((reason, message));
            let conditions = Conditions::of(&[], None, Timestamp::UNIX_EPOCH);
            conditions.set_or_remove(condition_type::DELETIONS_HELD, cause).into_list()
        };
        let (three, four) = (held(reason::DELETION_LIMIT, "3 deletions"), held(reason::DELETION_LIMIT, "4 deletions"));
        assert_eq!(held_transition(&[], &three), Some(&three[0]));
        assert_eq!((held_transition(&three, &four), held_transition(&three, &[])), (None, None));
        assert!(held_transition(&three, &held(reason::DELETION_NOT_PERMITTED, "3 deletions")).is_some());
    }

    #[test]
    fn the_transition_time_stays_while_the_status_stays() {
        let (early, late) = (Timestamp::from_second(100).unwrap(), Timestamp::from_second(200).unwrap());
        let set = |conditions: &[Condition], is_true, reason, now| {
            Conditions::of(conditions, None, now).set(condition_type::READY, is_true, reason, "m").into_list()
        };
        let first = set(&[], false, reason::UNREACHABLE, early);
        let second = set(&first, false, reason::HOST_UNKNOWN, late);
        assert_eq!(second[0].last_transition_time, early);
        let third = set(&second, true, reason::REACHABLE, late);
        assert_eq!(third[0].last_transition_time, late);
        assert_eq!(third.len(), 1);
    }

    #[test]
    fn the_order_of_conditions_says_nothing_of_what_was_before() {
        let types = |previous: &[Condition]| {
            let conditions = Conditions::of(previous, None, Timestamp::UNIX_EPOCH);
            let list = conditions
                .set("Permitted", true, "r", "m")
                .set("Stalled", true, "r", "m")
                .set("Ready", false, "r", "m");
            list.into_list()
        };
        let names = |list: Vec<Condition>| list.into_iter().map(|condition| condition.type_).collect::<Vec<_>>();
        let mut before = types(&[]);
        before.reverse();
        assert_eq!(names(types(&before)), ["Ready", "Permitted", "Stalled"]);
        assert_eq!(names(types(&[])), ["Ready", "Permitted", "Stalled"]);
    }

    #[test]
    fn a_condition_is_written_as_kubernetes_writes_it() {
        let now = Timestamp::new(100, 5_000_000).unwrap();
        let conditions = Conditions::of(&[], Some(3), now).set("Ready", true, "Reachable", "m").into_list();
        let expected = serde_json::json!([{"type": "Ready", "status": "True", "reason": "Reachable", "message": "m",
            "observedGeneration": 3, "lastTransitionTime": "1970-01-01T00:01:40Z"}]);
        assert_eq!(serde_json::to_value(&conditions).unwrap(), expected);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let cut = shorten(&"é".repeat(1000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'));
        assert_eq!(shorten("short", 1024), "short");
    }
}
