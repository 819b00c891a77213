//! One reconciler for each kind: observe, decide, act, report, publish.

mod context;
mod registry;
mod registry_permission_policy;
mod replication_configuration;
mod replication_status;

pub use context::{Context, Settings};
pub use registry::run as run_registries;
pub use registry_permission_policy::run as run_policies;
pub use replication_configuration::run as run_configurations;
pub use replication_status::{adopt as adopt_statuses, run as run_statuses};
