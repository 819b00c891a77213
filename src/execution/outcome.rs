//! The outcome of one image: the last decision of the policies, and the result.

use crate::plan::{CodedError, Replica};
use crate::policy::Decision;
use crate::replication::Access;
use crate::replication::machine::{Assignment, Outcome};
use crate::terms::{Action, FailureCode};

/// Does `work` if the destination's owner consents. Without consent no request reaches the destination. Returns the
/// last decision.
pub(super) async fn with_consent<T>(
    access: &dyn Access,
    assignment: &Assignment,
    work: impl Future<Output = Result<T, CodedError>>,
) -> (Decision, Result<T, CodedError>) {
    let permission = access.decide(assignment.policy_request(Action::ReplicateImage)).await;
    if !permission.allowed {
        let failed = CodedError::new(FailureCode::RegistryPermissionDenied, permission.message.clone());
        return (permission, Err(failed));
    }
    match work.await {
        Err(failed) if failed.code == FailureCode::RegistryPermissionDenied => {
            // It was allowed when it began: consent that is missing now was revoked meanwhile.
            let permission = access.decide(assignment.policy_request(Action::ReplicateImage)).await;
            let code = if permission.allowed { failed.code } else { FailureCode::PolicyRevoked };
            (permission, Err(CodedError { code, ..failed }))
        }
        result => (permission, result),
    }
}

/// Returns the outcome of an image that has ended with `result`, after `moved` bytes.
pub(super) fn outcome(permission: Decision, result: Result<Replica, CodedError>, moved: u64) -> Outcome {
    let is_unanswered = result.as_ref().err().is_some_and(|failed| is_unanswered(failed.code));
    Outcome { permission, result, moved, is_unanswered }
}

/// Returns true if a write of a copy that failed with `code` may still take effect.
pub(super) fn is_unanswered(code: FailureCode) -> bool {
    matches!(code, FailureCode::DestinationUnavailable | FailureCode::WorkerFailed | FailureCode::PolicyRevoked)
}
