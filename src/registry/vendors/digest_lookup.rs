//! Collects the digests of given tags from the pages of an API.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{Digest, Tag, is_referrer_tag};

/// The tags whose digests are looked up, with the digests found so far.
pub(super) struct DigestLookup<'a>(BTreeMap<&'a Tag, FoundDigest>);

enum FoundDigest {
    None,
    One(Digest),
    /// Several digests: the tag moved meanwhile, or the API is wrong.
    Contradiction,
}

impl<'a> DigestLookup<'a> {
    /// Starts a lookup of `tags`, without those that stand for referrers: their digests are never used.
    pub(super) fn of(tags: &'a BTreeSet<Tag>) -> Self {
        Self(tags.iter().filter(|tag| !is_referrer_tag(tag)).map(|tag| (tag, FoundDigest::None)).collect())
    }

    /// Adds a digest of `tag`; a tag that is not looked up is ignored.
    pub(super) fn add(&mut self, tag: &str, digest: &Digest) {
        let Ok(tag) = tag.parse::<Tag>() else { return };
        let Some(found) = self.0.get_mut(&tag) else { return };
        match found {
            FoundDigest::None => *found = FoundDigest::One(digest.clone()),
            FoundDigest::One(known) if known != digest => *found = FoundDigest::Contradiction,
            FoundDigest::One(_) | FoundDigest::Contradiction => {}
        }
    }

    /// Returns the number of tags without a digest: the HEADs that are needed without another page.
    pub(super) fn missing(&self) -> usize {
        self.0.values().filter(|found| matches!(found, FoundDigest::None)).count()
    }

    pub(super) fn into_digests(self) -> BTreeMap<Tag, Digest> {
        let found = self.0.into_iter().filter_map(|(tag, found)| match found {
            FoundDigest::One(digest) => Some((tag.clone(), digest)),
            FoundDigest::None | FoundDigest::Contradiction => None,
        });
        found.collect()
    }
}
