//! Adapters to the Kubernetes API: credentials, policies, status objects and events. Every call has a deadline.

mod channel_authorities;
mod credentials;
mod events;
mod execution_class;
mod jobs;
mod log_limit;
mod object_backoff;
mod policies;
mod registries;
mod statuses;
mod view;
mod watch_errors;
mod watched;

use std::time::Duration;

pub use channel_authorities::channel_authorities;
pub use credentials::{CredentialsError, notification_token, registry_credentials};
pub use events::Events;
pub use execution_class::{ExecutionClass, ExecutionClasses};
pub use jobs::{CopyJobs, JobSettings, WORKERS, has_ended, pod_has_ended, pod_trouble, served_by};
pub use policies::Policies;
pub use registries::{Registries, reason_of};
pub use statuses::{Statuses, patch_status};
pub use view::{Stores, View};
pub use watch_errors::WatchErrors;
pub use watched::watched;

/// The name under which every write is done.
pub const FIELD_MANAGER: &str = "transship";

/// The deadline of one call to the API server: kube sets none for an answer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Runs one call to the API server under [`CALL_DEADLINE`].
///
/// # Errors
/// The call's own, or [`CallError::Deadline`].
pub async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(result) => result.map_err(CallError::from),
        Err(_) => Err(CallError::Deadline),
    }
}

/// The error of a call to the API server.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("the API server did not answer within {} s", CALL_DEADLINE.as_secs())]
    Deadline,
    /// The API server, or the way to it.
    #[error("{0}")]
    Kube(Box<kube::Error>),
}

impl CallError {
    /// Returns true if the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status_code() == Some(404)
    }

    /// Returns true if the object may not be read.
    pub fn is_forbidden(&self) -> bool {
        self.status_code() == Some(403)
    }

    fn status_code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Deadline => None,
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}
