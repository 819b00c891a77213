//! The choice whether referrers go with an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether what refers to an image goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReferrersMode {
    /// It goes with it.
    #[default]
    Replicate,
    /// It stays.
    Ignore,
}

impl ReferrersMode {
    /// Returns true for the default, which a spec leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
