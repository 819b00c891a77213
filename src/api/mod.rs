//! The kinds of the API group `transship.dev`, as users see them: plain values, their bounds, rules and documentation.
//!
//! Doc comments of fields are user documentation: `kubectl explain` prints them.

mod conditions;
mod registry;
mod registry_permission_policy;
mod replication_configuration;
mod replication_status;

pub use conditions::{condition_type, ready_transition, reason, set_condition, shorten};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::KubeSchema;
pub use registry::{
    CaReference, CreateRepositories, CredentialsSource, KeyReference, Limits, NotificationAuth, NotificationAuthType,
    NotificationType, Notifications, Registry, RegistrySpec, RegistryStatus, SecretReference, Tls,
};
pub use registry_permission_policy::{
    Action, Effect, Principal, RegistryPermissionPolicy, RegistryPermissionPolicySpec, RegistryPermissionPolicyStatus,
    Statement,
};
pub use replication_configuration::{
    ConfigurationSummary, DEFAULT_EXECUTION_CLASS, Destination, DestinationSummary, Execution, ExecutionMode,
    FilterType, PlatformIndex, Referrers, ReplicationConfiguration, ReplicationConfigurationSpec,
    ReplicationConfigurationStatus, ReplicationRule, RepositoryFilter, Source, TagFilter, TagFilterType,
};
pub use replication_status::{
    ConfigurationReference, FailureCode, FailureGroup, ImageStatus, PairEnd, PairSummary,
    RegistryReference as ResolvedRegistryReference, ReplicationState, ReplicationStatus, ReplicationStatusSpec,
    ReplicationStatusStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API group of every kind.
pub const GROUP: &str = "transship.dev";

/// The label of a ReplicationStatus that names its configuration.
pub const CONFIGURATION_LABEL: &str = "transship.dev/configuration";

/// The annotation of a configuration that asks for a comparison now; any new value counts.
pub const REPLICATE_REQUESTED_AT: &str = "transship.dev/replicate-requested-at";

/// The annotation of a Secret that binds it to the host (`host[:port]`) of a Registry.
pub const REGISTRY_HOST: &str = "transship.dev/registry-host";

/// Every CustomResourceDefinition, in the order of their names.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let definitions =
        [Registry::crd(), RegistryPermissionPolicy::crd(), ReplicationConfiguration::crd(), ReplicationStatus::crd()];
    definitions.into_iter().map(with_known_formats).collect()
}

/// Kubernetes knows no format of unsigned integers and warns about each: `minimum: 0`, which stays, says the same.
fn with_known_formats(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn correct(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let known = match fields.get("format").and_then(Value::as_str) {
                    Some("uint8" | "uint16" | "uint32") => Some("int32"),
                    Some("uint" | "uint64") => Some("int64"),
                    _ => None,
                };
                if let Some(known) = known {
                    fields.insert("format".to_owned(), known.into());
                }
                fields.values_mut().for_each(correct);
            }
            Value::Array(items) => items.iter_mut().for_each(correct),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(definition).expect("a definition is JSON");
    correct(&mut value);
    serde_json::from_value(value).expect("formats are only words")
}

/// Names a Registry of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRegistryReference {
    /// The name of a Registry in the namespace of this object.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Names a Registry, possibly of another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryReference {
    /// The namespace of the Registry. Absent means the namespace of this object. Another namespace is another owner:
    /// its RegistryPermissionPolicy has to allow the replication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The name of the Registry.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// The file that a CustomResourceDefinition is kept in, and its YAML.
pub fn custom_resource_definition_files() -> Vec<(String, String)> {
    custom_resource_definitions()
        .into_iter()
        .map(|definition| {
            let yaml = serde_saphyr::to_string(&definition).expect("a definition holds nothing that YAML cannot say");
            let file = format!("{}.yaml", definition.spec.names.plural);
            (file, format!("# Generated by `make generate` from src/api; do not edit.\n{yaml}"))
        })
        .collect()
}

/// Writes every CustomResourceDefinition into `folder`, one file a kind.
///
/// # Errors
/// When a file cannot be written.
pub fn write_custom_resource_definitions(folder: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (file, yaml) in custom_resource_definition_files() {
        std::fs::write(folder.join(file), yaml)?;
    }
    Ok(())
}
