//! The treatment of artifacts that refer to an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The treatment of signatures, SBOMs and attestations that refer to an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReferrersMode {
    /// Copies them with the image.
    #[default]
    Replicate,
    /// Leaves them at the source.
    Ignore,
}

impl ReferrersMode {
    /// Returns true for the default, which a spec leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
