//! Deletions at one registry, and advice on repositories that are not there.

use super::Client;
use crate::image::RepositoryName;
use crate::registry::content::manifests::{DeletionAnswer, Reference};
use crate::registry::error::RegistryError;
use crate::registry::http::hosts::official_image_advice;

impl Client {
    /// Deletes a tag alone, or a manifest with every tag that points at it.
    ///
    /// # Errors
    /// `Denied` and `Unauthorized` if the credentials do not permit it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<DeletionAnswer, RegistryError> {
        self.0.manifests.delete(repository, reference).await
    }

    /// Returns the advice on a repository that does not exist at this registry, if there is any.
    pub fn advice_on_absent(&self, repository: &RepositoryName) -> Option<String> {
        official_image_advice(self.host(), repository.as_str())
    }
}
