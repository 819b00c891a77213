//! Parses the digests that Google's registries add to a list of tags.
//!
//! Artifact Registry and Container Registry answer `tags/list` with a field `manifest`: an object of digests, each with
//! the tags that point at it. It is used only if it states one digest for every tag; else the tags are resolved one by
//! one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::image::{Digest, Tag};
use crate::registry::lists::page::{Keep, each_text};

/// The digests in the pages of a list so far.
#[derive(Debug, Default)]
pub(crate) struct PageDigests {
    found: BTreeMap<Tag, Digest>,
    is_doubtful: bool,
}

impl PageDigests {
    /// Adds the digests that one page states of the tags that are kept.
    pub(crate) fn add(&mut self, manifests: &RawValue, keep: Keep<'_, Tag>) {
        let mut json = serde_json::Deserializer::from_str(manifests.get());
        if self.is_doubtful || json.deserialize_map(ManifestVisitor(&mut self.found, keep)).is_err() {
            (self.is_doubtful, self.found) = (true, BTreeMap::new());
        }
    }

    /// Returns the digests of `tags`, if each has exactly one.
    pub(crate) fn of(mut self, tags: &BTreeSet<Tag>) -> BTreeMap<Tag, Digest> {
        self.found.retain(|tag, _| tags.contains(tag));
        if self.found.len() == tags.len() { self.found } else { BTreeMap::new() }
    }
}

struct ManifestVisitor<'a>(&'a mut BTreeMap<Tag, Digest>, Keep<'a, Tag>);

#[derive(Deserialize)]
struct ManifestEntry<'a> {
    #[serde(borrow)]
    tag: &'a RawValue,
}

impl<'de> Visitor<'de> for ManifestVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of digests")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(found, keep) = self;
        while let Some((digest, manifest)) = map.next_entry::<Cow<'_, str>, ManifestEntry<'_>>()? {
            let digest: Digest = digest.parse().map_err(A::Error::custom)?;
            let mut is_doubtful = false;
            // Names that no tag can have are in no list of tags either.
            let read = each_text(manifest.tag, &mut |tag| {
                if let Some(tag) = tag.and_then(|tag| tag.parse::<Tag>().ok()).filter(|tag| keep(tag)) {
                    is_doubtful |= found.insert(tag, digest.clone()).is_some_and(|earlier| earlier != digest);
                }
            });
            if read.is_none() || is_doubtful || found.len() > MAX_TAGS {
                return Err(A::Error::custom("of no use"));
            }
        }
        Ok(())
    }
}

/// The tags whose digests are kept; those of a longer list are resolved one by one.
const MAX_TAGS: usize = 250_000;

#[cfg(test)]
mod tests;
