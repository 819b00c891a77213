//! One reconciler a kind, each: observe, decide, act, report, publish.

mod by_job;
mod comparison;
mod consent;
mod context;
mod copies;
mod copying;
mod findings;
mod office;
mod pair;
mod publishing;
mod referring;
mod registry;
mod registry_permission_policy;
mod replication_configuration;
mod replication_status;
mod replicator;
mod replicators;
mod workers;

pub use context::{Context, Settings, Stores};
pub use registry::run as run_registries;
pub use registry_permission_policy::run as run_policies;
pub use replication_configuration::run as run_configurations;
pub use replication_status::{adopt as adopt_statuses, run as run_statuses};
pub use workers::{adopt as adopt_workers, run as run_workers};
