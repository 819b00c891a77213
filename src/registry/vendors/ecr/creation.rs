//! Creates repositories at Amazon ECR, with the settings of a template.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Ecr;
use crate::image::RepositoryName;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::limiter::Load;
use crate::registry::http::retry::Retries;
use crate::terms::RepositoryTemplate;

impl Ecr {
    /// Creates `repository` as `template` says. One that exists stays as it is. Where a policy is refused the new
    /// repository is deleted again, as long as it is empty: none is left without its settings.
    ///
    /// # Errors
    /// `Denied` if the access key does not permit it; `Rejected` for a setting that ECR does not take.
    pub(in crate::registry::vendors) async fn create_repository(
        &self,
        repository: &RepositoryName,
        template: &RepositoryTemplate,
        operation: &Operation,
    ) -> Result<(), RegistryError> {
        if !self.is_created(&self.creation(repository, template), operation).await? {
            return Ok(());
        }
        for (action, query) in self.policies(repository, template) {
            if let Err(error) = self.write(action, &query, operation).await {
                return Err(self.take_back(repository, error, operation).await);
            }
        }
        Ok(())
    }

    /// Creates a repository; returns false if it was there before. One that a repetition finds was created by the attempt
    /// whose answer was lost.
    async fn is_created(&self, query: &Value, operation: &Operation) -> Result<bool, RegistryError> {
        let _permit = self.http.write_permit(Load::Small).await;
        let query = Bytes::from(query.to_string());
        let mut retries = Retries::new(&self.pause, self.http.deadlines());
        let mut is_unanswered = false;
        loop {
            match self.try_call("CreateRepository", &query, operation).await {
                Ok(_) => return Ok(true),
                Err(failed) if failed.error.kind == ErrorKind::AlreadyExists => return Ok(is_unanswered),
                Err(failed) => {
                    is_unanswered |= failed.error.kind == ErrorKind::Unavailable;
                    retries.again(failed).await?;
                }
            }
        }
    }

    fn creation(&self, repository: &RepositoryName, template: &RepositoryTemplate) -> Value {
        let mut query = self.query(repository);
        if let Some(mutability) = template.image_tag_mutability {
            query["imageTagMutability"] = json!(mutability);
        }
        if let Some(scan_on_push) = template.scan_on_push {
            query["imageScanningConfiguration"] = json!({ "scanOnPush": scan_on_push });
        }
        if let Some(encryption) = &template.encryption_configuration {
            query["encryptionConfiguration"] = json!(encryption);
        }
        query
    }

    /// Returns the calls that set policies.
    fn policies(&self, repository: &RepositoryName, template: &RepositoryTemplate) -> Vec<(&'static str, Value)> {
        let mut calls = Vec::new();
        if let Some(text) = &template.repository_policy {
            let mut query = self.query(repository);
            query["policyText"] = json!(text);
            calls.push(("SetRepositoryPolicy", query));
        }
        if let Some(text) = &template.lifecycle_policy {
            let mut query = self.query(repository);
            query["lifecyclePolicyText"] = json!(text);
            calls.push(("PutLifecyclePolicy", query));
        }
        calls
    }

    /// Deletes a repository that was just created; returns the error with what became of it.
    async fn take_back(
        &self,
        repository: &RepositoryName,
        failed: RegistryError,
        operation: &Operation,
    ) -> RegistryError {
        let end = match self.write("DeleteRepository", &self.query(repository), operation).await {
            Ok(_) => "the repository was created, and deleted again".to_owned(),
            Err(error) => {
                format!("the repository is there without it: set it there, or delete the repository ({error})")
            }
        };
        RegistryError { message: format!("{failed}; {end}"), ..failed }
    }

    fn query(&self, repository: &RepositoryName) -> Value {
        json!({ "registryId": self.api.account, "repositoryName": repository.as_str() })
    }

    async fn write(&self, action: &str, query: &Value, operation: &Operation) -> Result<Value, RegistryError> {
        let _permit = self.http.write_permit(Load::Small).await;
        self.call(action, query, operation).await
    }
}
