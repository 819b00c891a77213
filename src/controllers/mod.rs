//! One reconciler for each kind: observe, decide, act, report, publish.

mod context;
mod parsed_specs;
mod registry;
mod registry_permission_policy;
mod replication_configuration;
mod replication_status;

pub(crate) use context::{Context, Settings};
pub(crate) use parsed_specs::ParsedSpecs;
pub(crate) use registry::run as run_registries;
pub(crate) use registry_permission_policy::run as run_policies;
pub(crate) use replication_configuration::run as run_configurations;
pub(crate) use replication_status::{adopt as adopt_statuses, run as run_statuses};
