//! Creation of repositories at one registry, with the settings that its owner wants.

use super::Client;
use crate::image::RepositoryName;
use crate::registry::error::RegistryError;

impl Client {
    /// Returns true if [`Client::create_repository`] sends requests for `repository`.
    pub fn has_template(&self, repository: &RepositoryName) -> bool {
        self.0.vendors.has_template(repository)
    }

    /// Creates `repository` with the settings of its template; one that exists stays as it is. Without a template
    /// nothing is sent.
    ///
    /// # Errors
    /// `Unsupported` for a setting that the registry does not have; `Denied` if the credentials do not permit it.
    pub async fn create_repository(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.0.vendors.create(repository).await
    }

    /// Returns a sentence about the template for `repository` if the registry cannot carry that out; to be asked after
    /// [`Client::ping`].
    pub fn unsupported_template_of(&self, repository: &RepositoryName) -> Option<String> {
        self.0.vendors.unsupported_template_of(repository)
    }

    /// Returns a sentence about the first template that the registry cannot carry out; to be asked after
    /// [`Client::ping`].
    pub fn unsupported_template(&self) -> Option<String> {
        self.0.vendors.unsupported_template()
    }
}
