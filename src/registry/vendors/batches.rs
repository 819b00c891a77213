//! Asks for many blobs by one call, where a registry has an API for that.

use std::collections::HashSet;

use serde_json::json;
use tokio::time::timeout;

use crate::image::{Descriptor, Digest, RepositoryName};
use crate::registry::client::Client;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::session::Inner;
use crate::registry::vendors::digest_apis::{TRANSIENT_VERDICT_TTL, VERDICT_TTL};
use crate::registry::vendors::ecr::{Ecr, odd};

impl Client {
    /// Those of `blobs` that the registry says to have, with the sizes that are stated, as far as few calls tell it. What is not among
    /// them is to be asked for with [`Client::has_blob`]: it may be absent, or nobody told. Nothing where the registry has
    /// no such call.
    ///
    /// Amazon ECR has one (`BatchCheckLayerAvailability`), which takes the access key of IAM and a right that everybody has who pushes.
    pub async fn blobs_at_once(&self, repository: &RepositoryName, blobs: &[&Descriptor]) -> HashSet<Digest> {
        let inner = &self.0;
        let mut found = HashSet::new();
        let Some(ecr) = inner.ecr.as_ref().filter(|_| blobs.len() >= MIN_LAYERS) else { return found };
        if inner.digest_apis.verdict(PLACE) == Some(false) {
            return found;
        }
        let task = inner.task("looking for the blobs of", repository);
        let limit = inner.deadlines.listing;
        let asked = timeout(limit, inner.check_layers(ecr, repository, blobs, &mut found, &task)).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(task.error(ErrorKind::Unavailable, format!("the answers did not come within {limit:?}")))
        });
        if let Err(error) = asked {
            tracing::debug!(error = %error.message, "blobs are asked for one by one");
            let lasts = if error.kind.is_transient() { TRANSIENT_VERDICT_TTL } else { VERDICT_TTL };
            inner.digest_apis.note(PLACE.to_owned(), false, lasts);
        }
        found
    }
}

impl Inner {
    /// Adds to `found` what is there.
    ///
    /// # Errors
    /// Whatever a call fails with; `found` keeps what the others said.
    async fn check_layers(
        &self,
        ecr: &Ecr,
        repository: &RepositoryName,
        blobs: &[&Descriptor],
        found: &mut HashSet<Digest>,
        task: &Operation,
    ) -> Result<(), RegistryError> {
        for blobs in blobs.chunks(MAX_LAYERS) {
            let digests: Vec<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
            let ask =
                json!({ "registryId": ecr.account(), "repositoryName": repository.as_str(), "layerDigests": digests });
            let answer = {
                let _permit = self.read_permit().await;
                self.ask_ecr(ecr, "BatchCheckLayerAvailability", &ask, task).await?
            };
            for layer in answer["layers"].as_array().ok_or_else(|| odd(task))? {
                let is_there = |blob: &&&Descriptor| {
                    layer["layerDigest"] == blob.digest.as_str()
                        && layer["layerAvailability"] == "AVAILABLE"
                        && layer["layerSize"] == blob.size
                };
                found.extend(blobs.iter().find(is_there).map(|blob| blob.digest.clone()));
            }
        }
        Ok(())
    }
}

/// For fewer blobs HEADs are no dearer.
const MIN_LAYERS: usize = 3;
/// The most that ECR takes.
const MAX_LAYERS: usize = 100;
/// Where it is kept that the call is of no use.
const PLACE: &str = "blobs";
