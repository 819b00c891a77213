//! Parses an image index that lists referrers.

use std::collections::HashSet;

use http::header::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::image::Digest;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::advice::unexpected;
use crate::registry::http::text::clean;

/// A manifest that names another one as its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The digest of the referrer, not of its subject.
    pub digest: Digest,
    /// The artifact type that the list states, if any.
    pub artifact_type: Option<String>,
}

/// One page of referrers.
#[derive(Deserialize)]
pub(super) struct ReferrerPage {
    /// Null is an empty list, which registries in Go make of one.
    #[serde(deserialize_with = "null_as_empty")]
    manifests: Vec<ReferrerEntry>,
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ReferrerEntry>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerEntry {
    #[serde(default)]
    digest: Value,
    artifact_type: Option<String>,
}

impl ReferrerEntry {
    fn digest(&self) -> Option<Digest> {
        self.digest.as_str()?.parse().ok()
    }
}

impl ReferrerPage {
    pub(super) fn parse(body: &[u8], operation: &Operation) -> Result<Self, RegistryError> {
        let page: Self = serde_json::from_slice(body).map_err(|_| {
            let detail = "is no image index with the field \"manifests\"";
            operation.error(ErrorKind::InvalidContent, unexpected(body, detail))
        })?;
        match page.manifests.iter().find(|entry| entry.digest().is_none()) {
            Some(wrong) => {
                let text = clean(&wrong.digest.to_string());
                let detail = format!("a referrer is listed with a digest that is not valid: {text}");
                Err(operation.error(ErrorKind::InvalidContent, detail))
            }
            None => Ok(page),
        }
    }

    /// Returns the referrers that may be of one of `types`; all of them if there are none. A registry that
    /// `is_filtered` is trusted where the list itself states no type.
    pub(super) fn wanted(self, types: &[String], is_filtered: bool) -> impl Iterator<Item = Referrer> {
        self.manifests.into_iter().filter_map(move |entry| {
            let (digest, artifact_type) = (entry.digest()?, entry.artifact_type);
            let artifact_type = artifact_type.filter(|text| !text.is_empty());
            let is_wanted = types.is_empty() || artifact_type.as_ref().is_none_or(|found| types.contains(found));
            let artifact_type = artifact_type.or_else(|| types.first().filter(|_| is_filtered).cloned());
            is_wanted.then_some(Referrer { digest, artifact_type })
        })
    }
}

/// Adds to `listed` the referrers of `more` that it lacks.
pub(super) fn unite(listed: &mut Vec<Referrer>, more: Vec<Referrer>) {
    let seen: HashSet<Digest> = listed.iter().map(|referrer| referrer.digest.clone()).collect();
    listed.extend(more.into_iter().filter(|referrer| !seen.contains(&referrer.digest)));
}

/// Returns true if the registry states that it has filtered by the requested artifact type.
pub(super) fn is_filtered(headers: &HeaderMap) -> bool {
    let applied = headers.get_all("oci-filters-applied").iter().filter_map(|value| value.to_str().ok());
    applied.flat_map(|value| value.split(',')).any(|filter| filter.trim() == "artifactType")
}
