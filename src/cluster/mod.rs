//! Adapters to the Kubernetes API: credentials, policies, status objects and events. Every call has a deadline.

mod call;
mod channel_authorities;
mod cluster_addresses;
mod credentials;
mod decodable;
mod dependents;
mod events;
mod execution_class;
mod jobs;
mod leadership;
mod log_limit;
mod object_backoff;
mod pages;
mod pair_events;
mod policies;
mod policy_index;
mod public_keys;
mod records;
mod registries;
mod registry_index;
mod registry_use;
mod statuses;
mod undecodable;
mod view;
mod watch_beats;
mod watch_errors;
mod watched;

pub(crate) use call::CallError;
pub(crate) use channel_authorities::channel_authorities;
pub(crate) use cluster_addresses::ClusterAddresses;
pub(crate) use dependents::Dependents;
pub(crate) use events::Events;
pub(crate) use execution_class::{ExecutionClass, ExecutionClasses};
pub(crate) use jobs::{
    CopyJobs, JobSettings, WORKERS, WorkerToken, has_ended, life_left, pod_has_ended, pod_trouble, served_by,
};
pub(crate) use leadership::{Election, LeaseLost, ReplicaAddresses, Role};
pub(crate) use policy_index::PolicyIndex;
pub(crate) use public_keys::{names_public_keys, with_public_keys};
pub(crate) use registries::reason_of;
pub(crate) use statuses::{Statuses, patch_status};
pub(crate) use undecodable::Undecodable;
pub(crate) use view::{Stores, View};
pub(crate) use watch_beats::{beating_client, watch_config};
pub(crate) use watch_errors::WatchErrors;
pub(crate) use watched::watched;
