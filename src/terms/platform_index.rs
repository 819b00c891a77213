//! The treatment of an image index when only some of its platforms are copied.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The treatment of an image index when only some of its platforms are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PlatformIndex {
    /// Copies the index unchanged, with its digest.
    #[default]
    Keep,
    /// Writes a new index of the chosen platforms.
    Rewrite,
}

impl PlatformIndex {
    /// Returns true for the default, which a spec leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
