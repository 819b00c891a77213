//! Creates repositories with the settings of their template, by the API of the registry.

use crate::image::RepositoryName;
use crate::registry::error::{ErrorKind, RegistryError};
use crate::registry::vendors::Vendors;
use crate::registry::vendors::ecr::EcrApi;
use crate::registry::vendors::harbor::{create_project, is_harbor};
use crate::terms::{RepositoryTemplate, template_for};

impl Vendors {
    /// Returns true if a template is for `repository`.
    pub(crate) fn has_template(&self, repository: &RepositoryName) -> bool {
        template_for(&self.templates, repository.as_str()).is_some()
    }

    /// Creates `repository` with the settings of its template. Without one nothing is sent: the first push creates it.
    ///
    /// # Errors
    /// `Unsupported` for a setting that the registry does not have; nothing is created then.
    pub(crate) async fn create(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        let Some(template) = template_for(&self.templates, repository.as_str()) else { return Ok(()) };
        let operation = self.session.http().operation("creating the repository", repository);
        if let Some(why) = self.unsupported(template) {
            return Err(operation.error(ErrorKind::Unsupported, why));
        }
        let created = async {
            match (&self.ecr, template.project_visibility) {
                (Some(ecr), _) => ecr.create_repository(repository, template, &operation).await,
                (None, Some(visibility)) => create_project(&self.session, repository, visibility, &operation).await,
                (None, None) => Ok(()),
            }
        };
        self.in_time(&operation, "the answers did not come", Box::pin(created)).await
    }

    /// Returns a sentence about the first template that the registry cannot carry out; to be asked once the registry has
    /// answered a request.
    pub(crate) fn unsupported_template(&self) -> Option<String> {
        self.templates.iter().find_map(|template| self.unsupported(template))
    }

    /// Returns a sentence about the template for `repository`, as [`Vendors::unsupported_template`].
    pub(crate) fn unsupported_template_of(&self, repository: &RepositoryName) -> Option<String> {
        self.unsupported(template_for(&self.templates, repository.as_str())?)
    }

    fn unsupported(&self, template: &RepositoryTemplate) -> Option<String> {
        let field = format!("spec.repositoryTemplates[{:?}]", template.prefix);
        if self.ecr.is_some() {
            let visibility = template.project_visibility?;
            return Some(format!(
                "{field}.projectVisibility: {visibility:?} is a setting of Harbor, and this is Amazon ECR: remove it"
            ));
        }
        let of_ecr = template.fields_of_ecr();
        let is_ecr = EcrApi::of_host(self.session.http().hosts().host()).is_some();
        if is_ecr {
            return Some(format!(
                "{field} needs an access key as credentials: the password of docker login cannot create"
            ));
        }
        if let Some(name) = of_ecr.first() {
            return Some(format!("{field}.{name} is a setting of Amazon ECR, and this registry is none: remove it"));
        }
        let is_supported = template.project_visibility.is_none() || is_harbor(&self.session);
        let message =
            || format!("{field}.projectVisibility is a setting of Harbor, and this registry is none: remove it");
        (!is_supported).then(message)
    }
}
