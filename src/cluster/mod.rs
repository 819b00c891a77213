//! Adapters to the Kubernetes API: credentials, policies, status objects and events. Every call has a deadline.

mod call;
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

pub use call::{CALL_DEADLINE, CallError, FIELD_MANAGER, call};
pub use channel_authorities::{ChannelAuthoritiesError, channel_authorities};
pub use credentials::{CredentialsError, notification_token, registry_credentials};
pub use events::Events;
pub use execution_class::{ExecutionClass, ExecutionClasses, ExecutionClassesError};
pub use jobs::{CopyJobs, JobSettings, WORKERS, WorkerToken, has_ended, pod_has_ended, pod_trouble, served_by};
pub use policies::Policies;
pub use registries::{Registries, reason_of};
pub use statuses::{Statuses, patch_status};
pub use view::{Stores, View};
pub use watch_errors::WatchErrors;
pub use watched::watched;
