//! The deletion of images that their source has deleted, with its brakes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The deletion of images that their source has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteReplication {
    /// Deletes at the destinations what the source has deleted, while true.
    pub enabled: bool,
    /// The share of the images of a source repository at a destination that may be deleted within 24 hours, in percent.
    /// 0 to 100. Default: 10.
    #[serde(default = "default_max_percent")]
    #[schemars(range(min = 0, max = MAX_PERCENT))]
    pub max_percent: u32,
    /// The number of these images that may be deleted within 24 hours in any case, 0 to 100,000. If more would be, all
    /// deletions wait, and the condition `DeletionsHeld` says how to approve them. Default: 5.
    #[serde(default = "default_min_allowed")]
    #[schemars(range(min = 0, max = MAX_MIN_ALLOWED))]
    pub min_allowed: u32,
}

fn default_max_percent() -> u32 {
    10
}

fn default_min_allowed() -> u32 {
    5
}

/// The largest share, in percent.
pub const MAX_PERCENT: u32 = 100;
/// The largest number that may be deleted in any case: a repository has no more tags.
pub const MAX_MIN_ALLOWED: u32 = 100_000;
