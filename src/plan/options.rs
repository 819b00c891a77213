//! How the images of a rule are copied, beyond where from and where to.

use serde::{Deserialize, Serialize};

use crate::api::{PlatformIndex, Referrers};
use crate::image::Platform;

/// What of an image is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyOptions {
    /// Only these platforms of a multi-platform image; empty takes all.
    pub platforms: Vec<Platform>,
    /// What becomes of an index of which only some platforms are taken.
    pub platform_index: PlatformIndex,
    /// Whether what refers to the image goes with it.
    pub referrers: Referrers,
}
