//! The choice for an index whose image is copied in part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of an index of which only some platforms are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PlatformIndex {
    /// Its bytes stay.
    #[default]
    Keep,
    /// A new index is written.
    Rewrite,
}

impl PlatformIndex {
    /// Returns true for the default, which a spec leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
