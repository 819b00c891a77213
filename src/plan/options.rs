//! The parts of an image that a rule copies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Platform};
use crate::terms::{PlatformIndex, ReferrersMode, TagConflict};

/// The choice of the parts of an image that are copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyOptions {
    /// The platforms of a multi-platform image that are copied; empty takes all.
    pub platforms: Vec<Platform>,
    /// The treatment of the index when only some platforms are copied.
    pub platform_index: PlatformIndex,
    /// The treatment of artifacts that refer to the image.
    pub referrers: ReferrersMode,
    /// The types of the artifacts that are copied with the image; empty takes all.
    pub referrer_artifact_types: Vec<String>,
    /// The treatment of a tag that the destination has with other content.
    pub on_tag_conflict: TagConflict,
    /// The public key, in PEM, of the signature without which an image is not copied; `None` needs no signature.
    pub signed_by: Option<String>,
}

impl CopyOptions {
    /// Returns true if the digest at the destination may differ from that at the source.
    pub fn may_rewrite(&self) -> bool {
        !self.platforms.is_empty() && self.platform_index == PlatformIndex::Rewrite
    }

    /// Returns a short hash of the parts that are copied; `None` if everything is. A verification under another
    /// fingerprint does not count.
    pub fn fingerprint(&self) -> Option<String> {
        let types = match self.referrers {
            ReferrersMode::Replicate => self.referrer_artifact_types.as_slice(),
            ReferrersMode::Ignore => &[],
        };
        let mut text = String::new();
        if !self.platforms.is_empty() {
            text = format!("{} {:?}", sorted(&self.platforms), self.platform_index);
        }
        if !types.is_empty() {
            text = format!("{text} of {}", sorted(types));
        }
        if let Some(key) = &self.signed_by {
            text = format!("{text} signed by {key}");
        }
        (!text.is_empty()).then(|| Digest::sha256(text.as_bytes()).encoded()[..16].to_owned())
    }
}

fn sorted(choice: &[impl ToString]) -> String {
    let names: BTreeSet<String> = choice.iter().map(ToString::to_string).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
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

    #[test]
    fn another_key_makes_earlier_verifications_void() {
        let of = |key: Option<&str>| {
            CopyOptions { signed_by: key.map(str::to_owned), ..CopyOptions::default() }.fingerprint()
        };
        assert_eq!(of(None), None);
        assert!(of(Some("a")).is_some() && of(Some("a")) != of(Some("b")));
    }

    #[test]
    fn the_types_of_referrers_count_only_where_referrers_are_replicated() {
        let of = |platforms: &[&str], types: &[&str], referrers| {
            let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            let referrer_artifact_types = types.iter().map(ToString::to_string).collect();
            CopyOptions { platforms, referrers, referrer_artifact_types, ..CopyOptions::default() }.fingerprint()
        };
        use ReferrersMode::{Ignore, Replicate};
        assert_eq!(of(&[], &["a/b"], Ignore), None);
        assert_eq!(of(&[], &["a/b", "c/d"], Replicate), of(&[], &["c/d", "a/b", "a/b"], Replicate));
        let all = [(&[][..], &["a/b"][..]), (&[], &["c/d"]), (&["linux/amd64"], &["a/b"]), (&["linux/amd64"], &[])];
        let all = all.map(|(platforms, types)| of(platforms, types, Replicate).unwrap());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    }
}
