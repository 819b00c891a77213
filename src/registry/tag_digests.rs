//! Reads the digests that some registries tell with a list of tags.
//!
//! Google's Artifact Registry and Container Registry answer `tags/list` with a field `manifest`: an object of digests, each with the
//! tags that point at it. It is of use only where it says one digest for every tag; else the tags are asked for one by one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::image::{Digest, Tag};

/// The tags of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every tag.
    pub tags: BTreeSet<Tag>,
    /// What they point at, by tag, as far as the registry tells it with a list.
    pub digests: BTreeMap<Tag, Digest>,
}

/// What the pages of a list said so far.
#[derive(Debug, Default)]
pub(super) struct TagDigests {
    found: BTreeMap<Tag, Digest>,
    is_doubtful: bool,
}

impl TagDigests {
    /// Takes what one page says.
    pub(super) fn take(&mut self, page: &Map<String, Value>) {
        let Some(manifests) = page.get("manifest") else { return };
        if self.is_doubtful || self.add(manifests).is_none() {
            (self.is_doubtful, self.found) = (true, BTreeMap::new());
        }
    }

    /// The digests of `tags`, if every one has exactly one.
    pub(super) fn of(mut self, tags: &BTreeSet<Tag>) -> BTreeMap<Tag, Digest> {
        self.found.retain(|tag, _| tags.contains(tag));
        if self.found.len() == tags.len() { self.found } else { BTreeMap::new() }
    }

    fn add(&mut self, manifests: &Value) -> Option<()> {
        for (digest, manifest) in manifests.as_object()? {
            let digest: Digest = digest.parse().ok()?;
            // Names that no tag can have are in no list either.
            let tags = manifest.get("tag")?.as_array()?.iter().filter_map(|tag| tag.as_str()?.parse::<Tag>().ok());
            for tag in tags {
                if self.found.insert(tag, digest.clone()).is_some_and(|earlier| earlier != digest) {
                    return None;
                }
            }
            if self.found.len() > MOST_TAGS {
                return None;
            }
        }
        Some(())
    }
}

/// More than a list may have.
const MOST_TAGS: usize = 100_000;
