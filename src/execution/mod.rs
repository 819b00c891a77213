//! Carries out one image: in this process, or by a copy Job.

mod dispatcher;
mod in_process;
mod job;
mod jobs;
mod slots;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use dispatcher::Dispatcher;
pub use in_process::{InProcess, Listener};
pub use jobs::{JobControl, adopt as adopt_jobs, run as run_jobs};
pub use slots::Slots;

use crate::copy::Failed;
use crate::plan::{DestinationReference, Replica};
use crate::policy::Decision;
use crate::registry::Client;
use crate::replication::machine::{Assignment, Outcome};
use crate::replication::{Access, Executor};
use crate::terms::{Action, FailureCode};

/// Copies by Jobs where the configuration says so, and in this process elsewhere.
pub struct ByClass {
    /// Copies in this process.
    pub in_process: InProcess,
    /// Hands images to Jobs.
    pub dispatcher: Arc<Dispatcher>,
}

impl Executor for ByClass {
    fn copy<'a>(
        &'a self,
        assignment: Arc<Assignment>,
        progress: &'a (dyn Fn(Option<u64>) + Send + Sync),
    ) -> BoxFuture<'a, Outcome> {
        match assignment.class {
            Some(_) => Box::pin(job::copy(self, assignment, progress)),
            None => self.in_process.copy(assignment, progress),
        }
    }
}

/// The clients of both ends of a copy.
struct Ends {
    source: Client,
    destination: Client,
}

impl Ends {
    /// The cause in the Registry of another namespace is for its owner to read.
    async fn of(access: &dyn Access, assignment: &Assignment) -> Result<Self, Failed> {
        let not_ready = |message| Failed::new(FailureCode::RegistryNotReady, message);
        let DestinationReference { namespace, name } = &assignment.destination;
        let destination = access.client(&assignment.destination).await.map_err(|unusable| {
            not_ready(match *namespace == assignment.configuration.0 {
                true => format!("Registry {name}: {}", unusable.message),
                false => format!("Registry {namespace}/{name} is not ready"),
            })
        })?;
        let source = access.client(&assignment.source).await.map_err(|unusable| not_ready(unusable.message))?;
        Ok(Self { source, destination })
    }
}

/// Does `work` if the destination's owner consents. Without consent no request reaches the destination. Returns the last decision.
async fn with_consent<T>(
    access: &dyn Access,
    assignment: &Assignment,
    work: impl Future<Output = Result<T, Failed>>,
) -> (Decision, Result<T, Failed>) {
    let permission = access.decide(assignment.policy_request(Action::ReplicateImage)).await;
    if !permission.allowed {
        let failed = Failed::new(FailureCode::RegistryPermissionDenied, permission.message.clone());
        return (permission, Err(failed));
    }
    match work.await {
        Err(failed) if failed.code == FailureCode::RegistryPermissionDenied => {
            // It was allowed when it began: consent that is missing now was revoked meanwhile.
            let permission = access.decide(assignment.policy_request(Action::ReplicateImage)).await;
            let code = if permission.allowed { failed.code } else { FailureCode::PolicyRevoked };
            (permission, Err(Failed { code, ..failed }))
        }
        result => (permission, result),
    }
}

impl Outcome {
    fn new(permission: Decision, result: Result<Replica, Failed>) -> Self {
        let is_unanswered = result.as_ref().err().is_some_and(|failed| is_unanswered(failed.code));
        Self { permission, result, is_unanswered }
    }
}

/// Returns true if a write of a copy that failed so may still take effect.
fn is_unanswered(code: FailureCode) -> bool {
    matches!(code, FailureCode::DestinationUnavailable | FailureCode::WorkerFailed | FailureCode::PolicyRevoked)
}
