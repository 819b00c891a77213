//! References from one object to a Registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::{NAMESPACE_NAME_TEXT, OBJECT_NAME_TEXT};

/// A reference to a Registry of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRegistryReference {
    /// The name of a Registry in the namespace of this object.
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_TEXT))]
    pub name: String,
}

/// A reference to a Registry of any namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryReference {
    /// The namespace of the Registry. Default: the namespace of this object. Another namespace has another owner, whose
    /// RegistryPermissionPolicy must allow the replication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_NAME_TEXT))]
    pub namespace: Option<String>,
    /// The name of the Registry.
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_TEXT))]
    pub name: String,
}
