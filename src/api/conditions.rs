//! Condition types and reasons: the one place where they are spelled, and how a condition changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions.
pub mod condition_type {
    /// The object does what its spec says.
    pub const READY: &str = "Ready";
    /// Work towards the spec is under way. Present only while true.
    pub const RECONCILING: &str = "Reconciling";
    /// Somebody has to change something. Present only while true.
    pub const STALLED: &str = "Stalled";
    /// Every image of the pair is at its destination, read back and verified.
    pub const REPLICATED: &str = "Replicated";
    /// The destination's owner consents; the message names the deciding statement.
    pub const PERMITTED: &str = "Permitted";
}

/// Reasons of conditions.
pub mod reason {
    /// The registry answers and takes the credentials.
    pub const REACHABLE: &str = "Reachable";
    /// The Secret is absent, or the operator may not read it: the two read the same.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The Secret is of a type that holds no registry credentials, or lacks their keys.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// The Secret is not bound to the host of the Registry.
    pub const SECRET_NOT_BOUND_TO_HOST: &str = "SecretNotBoundToHost";
    /// The CA certificates are absent or are not PEM certificates.
    pub const CA_INVALID: &str = "CaInvalid";
    /// The registry refuses the credentials.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// The host name does not resolve.
    pub const HOST_UNKNOWN: &str = "HostUnknown";
    /// The certificate of the registry is refused.
    pub const TLS_REFUSED: &str = "TlsRefused";
    /// The operator's egress settings refuse the address.
    pub const EGRESS_REFUSED: &str = "EgressRefused";
    /// The registry does not answer, or not as a registry.
    pub const UNREACHABLE: &str = "Unreachable";
    /// The spec cannot be carried out as it stands.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The Registry that is referred to does not exist.
    pub const REGISTRY_NOT_FOUND: &str = "RegistryNotFound";
    /// The Registry that is referred to is not ready.
    pub const REGISTRY_NOT_READY: &str = "RegistryNotReady";
    /// The policy is in force.
    pub const IN_FORCE: &str = "InForce";
    /// The last complete comparison left nothing failed.
    pub const REPLICATED: &str = "Replicated";
    /// A comparison or copies are under way.
    pub const PROGRESSING: &str = "Progressing";
    /// Some images could not be replicated.
    pub const IMAGES_FAILED: &str = "ImagesFailed";
    /// The source could not be read.
    pub const SOURCE_UNREADABLE: &str = "SourceUnreadable";
    /// The source has no repository of a name that an EXACT_MATCH filter gives.
    pub const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFound";
    /// The source cannot list its repositories.
    pub const REPOSITORY_LISTING_UNSUPPORTED: &str = "RepositoryListingUnsupported";
    /// An older configuration writes to the same destination repository.
    pub const DESTINATION_CONFLICT: &str = "DestinationConflict";
    /// A rule would copy a repository onto itself.
    pub const SELF_REPLICATION: &str = "SelfReplication";
    /// The execution class does not exist, or this namespace may not use it: the two read the same.
    pub const EXECUTION_CLASS_NOT_ALLOWED: &str = "ExecutionClassNotAllowed";
    /// The operator is not set up to start Jobs.
    pub const JOBS_UNAVAILABLE: &str = "JobsUnavailable";
    /// The pod of a copy Job does not run, or does not reach the operator: images wait.
    pub const WORKER_PENDING: &str = "WorkerPending";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// The destination belongs to the same namespace and no statement denies it.
    pub const SAME_NAMESPACE: &str = "SameNamespace";
    /// A statement allows it.
    pub const STATEMENT_ALLOWS: &str = "StatementAllows";
    /// A statement denies it.
    pub const STATEMENT_DENIES: &str = "StatementDenies";
    /// No statement allows it.
    pub const NO_STATEMENT_ALLOWS: &str = "NoStatementAllows";
    /// The policies could not be read: nothing is allowed.
    pub const POLICY_UNREADABLE: &str = "PolicyUnreadable";
    /// The configuration does not exist any more.
    pub const CONFIGURATION_GONE: &str = "ConfigurationGone";
}

/// `Ready` as it is in `after`, where its status or reason is another than in `before`. Work that is under way is no news.
pub fn ready_transition<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    let ready = after.iter().find(|condition| condition.type_ == condition_type::READY)?;
    let earlier = before.iter().find(|condition| condition.type_ == condition_type::READY);
    let is_same = earlier.is_some_and(|earlier| (&earlier.status, &earlier.reason) == (&ready.status, &ready.reason));
    (!is_same && ready.reason != reason::PROGRESSING).then_some(ready)
}

/// Sets the condition of `kind`; its transition time changes only together with its status.
///
/// `message` is cut to 1,024 bytes.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if status { "True" } else { "False" };
    let unchanged = conditions.iter().find(|c| c.type_ == kind && c.status == status);
    let last_transition_time = unchanged.map_or(Time(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shorten(message, MAX_MESSAGE_BYTES),
        observed_generation: generation,
        last_transition_time,
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}

/// The first `limit` bytes of `text`, cut at a character, with `…` where something was cut.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_outcome_is_news() {
        let told = |status, why| {
            let mut conditions = Vec::new();
            set_condition(&mut conditions, condition_type::READY, status, why, "m", None, Timestamp::UNIX_EPOCH);
            conditions
        };
        let (good, bad) = (told(true, reason::REPLICATED), told(false, reason::IMAGES_FAILED));
        let busy = told(false, reason::PROGRESSING);
        assert!(ready_transition(&good, &good).is_none());
        assert!(ready_transition(&good, &busy).is_none());
        assert_eq!(ready_transition(&good, &bad).unwrap().reason, reason::IMAGES_FAILED);
        assert_eq!(ready_transition(&[], &good).unwrap().status, "True");
    }

    #[test]
    fn the_transition_time_stays_while_the_status_stays() {
        let mut conditions = Vec::new();
        let early = Timestamp::from_second(100).unwrap();
        let late = Timestamp::from_second(200).unwrap();
        set_condition(&mut conditions, condition_type::READY, false, reason::UNREACHABLE, "a", None, early);
        set_condition(&mut conditions, condition_type::READY, false, reason::HOST_UNKNOWN, "b", None, late);
        assert_eq!(conditions[0].last_transition_time, Time(early));
        set_condition(&mut conditions, condition_type::READY, true, reason::REACHABLE, "c", None, late);
        assert_eq!(conditions[0].last_transition_time, Time(late));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let cut = shorten(&"é".repeat(1000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'));
        assert_eq!(shorten("short", 1024), "short");
    }
}
