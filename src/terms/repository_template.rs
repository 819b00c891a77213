//! The settings of repositories that are created at a registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// The settings of the repositories below a prefix, applied when they are created and never after that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&REPOSITORY_TEMPLATE_RULES))]
pub struct RepositoryTemplate {
    /// The repositories that the template is for: that of this name and all below it, by whole segments (`prod` takes
    /// `prod` and `prod/api`, not `prod-api`), as in ECR. Empty: every repository. Of several templates that of the
    /// longest prefix applies alone.
    #[schemars(length(max = 255), regex(pattern = REPOSITORY_OR_NONE))]
    pub prefix: String,
    /// Amazon ECR: `IMMUTABLE` lets no tag be moved. Absent: as the registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,
    /// Amazon ECR: scans each image for vulnerabilities when it is pushed. Absent: as the registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,
    /// Amazon ECR: the encryption of the content. Absent: as the registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<RepositoryEncryption>,
    /// Amazon ECR: the text of the lifecycle policy, a JSON document of at most 30720 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = MAX_LIFECYCLE_POLICY), transform = checked_by(&DOCUMENT_RULES))]
    pub lifecycle_policy: Option<String>,
    /// Amazon ECR: the text of the repository policy, a JSON document of at most 10240 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = MAX_REPOSITORY_POLICY), transform = checked_by(&DOCUMENT_RULES))]
    pub repository_policy: Option<String>,
    /// Harbor: the visibility of the project, the first segment of a repository's name, where it is created. Absent: as
    /// Harbor has it, and projects have to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_visibility: Option<ProjectVisibility>,
}

/// The mutability of tags, as Amazon ECR spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ImageTagMutability {
    /// A tag may be pointed at another image.
    Mutable,
    /// A tag never moves.
    Immutable,
}

/// The encryption of the content of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&ENCRYPTION_RULES))]
pub struct RepositoryEncryption {
    /// The type of encryption.
    pub encryption_type: EncryptionType,
    /// The key of AWS KMS: its id, alias or ARN. Absent: the key of AWS for ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key: Option<String>,
}

/// The type of encryption, as Amazon ECR spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EncryptionType {
    /// Keys of the storage.
    #[serde(rename = "AES256")]
    Aes256,
    /// A key of AWS KMS.
    #[serde(rename = "KMS")]
    Kms,
    /// A key of AWS KMS, in two layers.
    #[serde(rename = "KMS_DSSE")]
    KmsDsse,
}

/// The visibility of a project of Harbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProjectVisibility {
    /// Anyone may pull.
    Public,
    /// Its members may pull.
    Private,
}

impl RepositoryTemplate {
    /// Returns true if the template is for the repository `name`.
    pub fn covers(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.prefix.as_str());
        self.prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns the fields that are set and that only Amazon ECR has.
    pub fn fields_of_ecr(&self) -> Vec<&'static str> {
        let set = [
            ("imageTagMutability", self.image_tag_mutability.is_some()),
            ("scanOnPush", self.scan_on_push.is_some()),
            ("encryptionConfiguration", self.encryption_configuration.is_some()),
            ("lifecyclePolicy", self.lifecycle_policy.is_some()),
            ("repositoryPolicy", self.repository_policy.is_some()),
        ];
        set.into_iter().filter(|(_, is_set)| *is_set).map(|(field, _)| field).collect()
    }
}

/// Returns the template that applies to the repository `name`: that of the longest prefix.
pub fn template_for<'a>(templates: &'a [RepositoryTemplate], name: &str) -> Option<&'a RepositoryTemplate> {
    templates.iter().filter(|template| template.covers(name)).max_by_key(|template| template.prefix.len())
}

/// The rules for a template as a whole.
pub static REPOSITORY_TEMPLATE_RULES: ValidationRules<RepositoryTemplate> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "!has(self.projectVisibility) || !(has(self.imageTagMutability) || has(self.scanOnPush) || has(self.encryptionConfiguration) || has(self.lifecyclePolicy) || has(self.repositoryPolicy))",
        "projectVisibility is of Harbor and the other settings are of Amazon ECR: no registry has both, remove one",
        |template| template.project_visibility.is_none() || template.fields_of_ecr().is_empty(),
    )]
});

/// The rules for `encryptionConfiguration`.
pub static ENCRYPTION_RULES: ValidationRules<RepositoryEncryption> = ValidationRules::new(|| {
    vec![ValidationRule::at(
        ".kmsKey",
        "!has(self.kmsKey) || self.encryptionType != 'AES256'",
        "kmsKey has no effect with encryptionType: AES256: use KMS, or remove it",
        |encryption| encryption.kms_key.is_none() || encryption.encryption_type != EncryptionType::Aes256,
    )]
});

/// The rules for the text of a policy.
pub static DOCUMENT_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "self.startsWith('{')",
        "must be the text of a JSON document, which begins with {",
        |text| text.starts_with('{'),
    )]
});

/// The prefixes of templates.
pub static TEMPLATE_PREFIX: Pattern = Pattern::new(REPOSITORY_OR_NONE);
const REPOSITORY_OR_NONE: &str = "^([a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*)?$";
/// The largest number of templates of a Registry.
pub const MAX_REPOSITORY_TEMPLATES: usize = 20;
/// The largest length of a lifecycle policy, in characters.
pub const MAX_LIFECYCLE_POLICY: usize = 30_720;
/// The largest length of a repository policy, in characters.
pub const MAX_REPOSITORY_POLICY: usize = 10_240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_applies() {
        let templates: Vec<RepositoryTemplate> =
            serde_json::from_str(r#"[{"prefix":"prod"},{"prefix":""},{"prefix":"prod/api"}]"#).unwrap();
        let of = |name: &str| template_for(&templates, name).map(|template| template.prefix.as_str());
        assert_eq!(of("prod"), Some("prod"));
        assert_eq!(of("prod/web"), Some("prod"));
        assert_eq!(of("prod/api/v2"), Some("prod/api"));
        assert_eq!(of("prod/apis"), Some("prod"));
        assert_eq!(of("production/x"), Some(""));
        assert_eq!(template_for(&templates[..1], "dev"), None);
    }
}
