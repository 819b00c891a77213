//! The statuses of Registries and RegistryPermissionPolicies.

use jiff::Timestamp;

use crate::terms::{Conditions, ObjectState, RegistryPermissionPolicyStatus, RegistryQuota, RegistryStatus, reason};

/// The result of checking a Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, and takes the credentials if it has any.
    Ready {
        /// True if no credentials are configured.
        is_anonymous: bool,
    },
    /// It serves images, and refuses the request that checks it.
    Odd {
        /// The refusal.
        message: String,
    },
    /// It cannot be used.
    Failing {
        /// True if a person has to change something.
        stalled: bool,
        /// One of [`crate::terms::reason`].
        reason: &'static str,
        /// A sentence that names the remedy.
        message: String,
    },
}

/// Returns the status of a Registry after a check.
pub fn registry_status(
    previous: &RegistryStatus,
    generation: Option<i64>,
    health: &Health,
    now: Timestamp,
) -> RegistryStatus {
    use ObjectState::{Ready, Reconciling, Stalled};
    let (state, why, message) = match health {
        Health::Ready { is_anonymous: false } => {
            (Ready, reason::REACHABLE, "the registry answers and takes the credentials".to_owned())
        }
        Health::Ready { is_anonymous: true } => {
            (Ready, reason::REACHABLE, "the registry answers without credentials: none are configured".to_owned())
        }
        Health::Odd { message } => {
            (Ready, reason::REACHABLE, format!("images are read or written, although {message}"))
        }
        Health::Failing { stalled: true, reason, message } => (Stalled, *reason, message.clone()),
        Health::Failing { stalled: false, reason, message } => (Reconciling, *reason, message.clone()),
    };
    let conditions = Conditions::of(&previous.conditions, generation, now).set_ready(state, why, &message).into_list();
    RegistryStatus { observed_generation: generation, conditions, quota: previous.quota }
}

/// Returns the quota that the status of a Registry shows, which states `stated` now. One that has changed by less than a
/// tenth is not published again, unless it is used up or no longer so.
pub fn quota_to_publish(published: Option<RegistryQuota>, stated: Option<RegistryQuota>) -> Option<RegistryQuota> {
    let (Some(known), Some(new)) = (published, stated) else { return stated.or(published) };
    let is_same = (known.limit, known.window_seconds) == (new.limit, new.window_seconds)
        && known.remaining.abs_diff(new.remaining).saturating_mul(10) < new.limit
        && (known.remaining == 0) == (new.remaining == 0);
    Some(if is_same { known } else { new })
}

/// Returns the status of a policy. `exists` is true if its Registry exists.
pub fn policy_status(
    previous: &RegistryPermissionPolicyStatus,
    generation: Option<i64>,
    registry: &str,
    exists: bool,
    now: Timestamp,
) -> RegistryPermissionPolicyStatus {
    let (state, why, message) = if exists {
        (ObjectState::Ready, reason::IN_FORCE, format!("the statements are in force for Registry {registry}"))
    } else {
        (
            ObjectState::Stalled,
            reason::REGISTRY_NOT_FOUND,
            format!("spec.registryRef: there is no Registry {registry} in this namespace"),
        )
    };
    let conditions = Conditions::of(&previous.conditions, generation, now).set_ready(state, why, &message).into_list();
    RegistryPermissionPolicyStatus { observed_generation: generation, conditions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Condition;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn words(conditions: &[Condition]) -> Vec<String> {
        let word = |c: &Condition| format!("{}={}:{}", c.type_, c.status, c.reason);
        conditions.iter().map(word).collect()
    }

    #[test]
    fn a_registry_is_ready_failing_or_stalled() {
        let failing = |stalled, reason| Health::Failing { stalled, reason, message: "m".to_owned() };
        for (health, expected) in [
            (Health::Ready { is_anonymous: false }, vec!["Ready=True:Reachable"]),
            (Health::Odd { message: "m".to_owned() }, vec!["Ready=True:Reachable"]),
            (failing(false, reason::UNREACHABLE), vec!["Ready=False:Unreachable", "Reconciling=True:Unreachable"]),
            (
                failing(true, reason::AUTHENTICATION_FAILED),
                vec!["Ready=False:AuthenticationFailed", "Stalled=True:AuthenticationFailed"],
            ),
        ] {
            let stalled = registry_status(&RegistryStatus::default(), None, &failing(true, reason::CA_INVALID), at(0));
            for previous in [RegistryStatus::default(), stalled] {
                let status = registry_status(&previous, Some(3), &health, at(1));
                assert_eq!(words(&status.conditions), expected);
                assert_eq!(
                    registry_status(&status, Some(3), &health, at(9)),
                    status,
                    "nothing changes with time alone"
                );
            }
        }
    }

    #[test]
    fn a_quota_is_published_again_once_it_has_changed_by_a_tenth() {
        let quota = |limit, remaining| Some(RegistryQuota { limit, remaining, window_seconds: 21_600 });
        // published, stated, shown
        let table = [
            (None, None, None),
            (None, quota(100, 99), quota(100, 99)),
            (quota(100, 99), None, quota(100, 99)),
            (quota(100, 99), quota(100, 90), quota(100, 99)),
            (quota(100, 99), quota(100, 89), quota(100, 89)),
            (quota(100, 5), quota(100, 0), quota(100, 0)),
            (quota(100, 0), quota(100, 1), quota(100, 1)),
            (quota(100, 99), quota(200, 99), quota(200, 99)),
        ];
        for (published, stated, shown) in table {
            assert_eq!(quota_to_publish(published, stated), shown, "{published:?} {stated:?}");
        }
    }

    #[test]
    fn a_policy_is_in_force_while_its_registry_exists() {
        let without = policy_status(&RegistryPermissionPolicyStatus::default(), Some(1), "eu", false, at(0));
        assert_eq!(words(&without.conditions), ["Ready=False:RegistryNotFound", "Stalled=True:RegistryNotFound"]);
        let with = policy_status(&without, Some(1), "eu", true, at(1));
        assert_eq!(words(&with.conditions), ["Ready=True:InForce"]);
    }
}
