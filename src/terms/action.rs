//! The actions that a RegistryPermissionPolicy allows or denies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a statement speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// To create a repository that is absent. Asked only then.
    CreateRepository,
    /// To point an existing tag at another image. Part of ReplicateImage, can be denied.
    OverwriteTag,
    /// To push images and tags.
    ReplicateImage,
}
