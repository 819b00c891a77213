//! The kinds of the API group `transship.dev` as Kubernetes objects: definitions, columns, labels and annotations.

mod definitions;
mod kinds;
mod schema;

pub use definitions::{
    custom_resource_definition_files, custom_resource_definitions, write_custom_resource_definitions,
};
pub use kinds::{
    Registry, RegistryObjectSpec, RegistryPermissionPolicy, RegistryPermissionPolicyObjectSpec,
    ReplicationConfiguration, ReplicationConfigurationObjectSpec, ReplicationRecord, ReplicationRecordObjectSpec,
    ReplicationStatus, ReplicationStatusObjectSpec,
};
pub use schema::schema_faults;

/// The label of a ReplicationStatus that names its configuration.
pub const CONFIGURATION_LABEL: &str = "transship.dev/configuration";

/// The annotation of a configuration that asks for a comparison now; any new value counts.
pub const REPLICATE_REQUESTED_AT: &str = "transship.dev/replicate-requested-at";

/// The annotation of a Secret that binds it to the host (`host[:port]`) of a Registry.
pub const REGISTRY_HOST: &str = "transship.dev/registry-host";
