//! Deletions at one registry, and advice on repositories that are not there.

use super::Client;
use crate::image::{Digest, RepositoryName, Tag};
use crate::registry::content::manifests::{DeletionAnswer, Reference};
use crate::registry::error::RegistryError;
use crate::registry::http::hosts::official_image_advice;

impl Client {
    /// Deletes a tag alone, which is said to point at `digest`: by the distribution API, or by an API of the registry
    /// where that does not do it.
    ///
    /// # Errors
    /// `Denied` and `Unauthorized` if the credentials do not permit it.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<DeletionAnswer, RegistryError> {
        match self.delete_manifest(repository, Reference::Tag(tag)).await? {
            DeletionAnswer::Unsupported(refused) => {
                let deleted = self.0.vendors.delete_tag(repository, tag, digest).await?;
                Ok(deleted.unwrap_or(DeletionAnswer::Unsupported(refused)))
            }
            answer => Ok(answer),
        }
    }

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
