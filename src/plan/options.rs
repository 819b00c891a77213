//! How the images of a rule are copied, beyond where from and where to.

use serde::{Deserialize, Serialize};

use crate::api::{PlatformIndex, Referrers};
use crate::image::{Digest, Platform};

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

impl CopyOptions {
    /// Whether the digest at the destination may be another one than at the source.
    pub fn may_rewrite(&self) -> bool {
        !self.platforms.is_empty() && self.platform_index == PlatformIndex::Rewrite
    }

    /// A short hash of what they choose of an image's content; `None` where that is everything. What was verified under another
    /// one says nothing about what is wanted now.
    pub fn fingerprint(&self) -> Option<String> {
        if self.platforms.is_empty() {
            return None;
        }
        let mut platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
        platforms.sort();
        platforms.dedup();
        let text = format!("{} {:?}", platforms.join(","), self.platform_index);
        Some(Digest::sha256(text.as_bytes()).encoded()[..16].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_choice_has_the_same_fingerprint_and_everything_has_none() {
        let of = |platforms: &[&str], platform_index| {
            let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            CopyOptions { platforms, platform_index, ..CopyOptions::default() }.fingerprint()
        };
        use PlatformIndex::{Keep, Rewrite};
        assert_eq!((of(&[], Keep), of(&[], Rewrite)), (None, None));
        assert_eq!(of(&["linux/arm64", "linux/amd64"], Keep), of(&["linux/amd64", "linux/arm64", "linux/amd64"], Keep));
        assert_ne!(of(&["linux/amd64"], Keep), of(&["linux/amd64"], Rewrite));
        assert_ne!(of(&["linux/amd64"], Keep), of(&["linux/arm64"], Keep));
    }
}
