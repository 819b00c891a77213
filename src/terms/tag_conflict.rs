//! The treatment of a tag that the destination has with other content.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The treatment of a tag that the destination has with other content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TagConflict {
    /// Points the tag at the image of the source.
    #[default]
    Overwrite,
    /// Leaves the tag as it is, unless the configuration itself wrote what it points at.
    Keep,
}

impl TagConflict {
    /// Returns true for the default, which a spec leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
