//! The two ends of a copy.

use serde::{Deserialize, Serialize};

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The registry that the image is read from.
    Source,
    /// The registry that the image is written to.
    Destination,
}
