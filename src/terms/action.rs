//! The actions that a RegistryPermissionPolicy allows or denies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An action on a destination that a statement allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Create a repository. Evaluated only if the repository does not exist at the destination.
    CreateRepository,
    /// Delete an image that the source has deleted. Allowed only by a statement that names it, inside one namespace, too.
    DeleteImage,
    /// Point an existing tag at another image. It is part of `ReplicateImage` and can only be denied.
    OverwriteTag,
    /// Push images and tags.
    ReplicateImage,
}
