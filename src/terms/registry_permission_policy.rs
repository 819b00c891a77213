//! The spec and status of the kind `RegistryPermissionPolicy`: the permission of a destination's owner.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::Action;
use super::condition::Condition;
use super::lists::{atomic, keyed_by, set};
use super::name::OBJECT_NAME_TEXT;
use super::references::LocalRegistryReference;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// The permissions to replicate into a Registry, as Amazon ECR's registry permissions policy. The statements of all
/// policies of one Registry count together, in no order. Another namespace may do what a statement allows and no
/// statement denies. The namespace of the Registry may do everything that no statement denies, but for `DeleteImage`,
/// which a statement has to allow there, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPermissionPolicySpec {
    /// The Registry of the same namespace that this policy applies to.
    pub registry_ref: LocalRegistryReference,
    /// The permissions, at most 50 statements.
    #[schemars(length(min = 1, max = 50))]
    #[schemars(transform = keyed_by("sid"))]
    pub statements: Vec<Statement>,
}

/// One statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = checked_by(&STATEMENT_RULES))]
pub struct Statement {
    /// The name of the statement, unique in the policy. The status of each replication that it decides shows it.
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub sid: String,
    /// The effect: `Allow` or `Deny`. A Deny always wins.
    pub effect: StatementEffect,
    /// The configurations that the statement applies to, 1 to 50.
    #[schemars(length(min = 1, max = 50), transform = atomic)]
    pub principals: Vec<Principal>,
    /// The actions that the statement applies to, each once.
    #[schemars(length(min = 1, max = 4), transform = set)]
    pub actions: Vec<Action>,
    /// The destination repositories that the statement applies to, 1 to 50 patterns. `*` stands for any characters, `/`
    /// included, `?` for one, as in ECR.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 256), regex(pattern = "^[a-z0-9._/*?-]+$")), transform = atomic)]
    pub resources: Vec<String>,
}

/// The effect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatementEffect {
    /// Allows, unless another statement denies.
    Allow,
    /// Denies, even if other statements allow.
    Deny,
}

/// A set of configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The namespace of the ReplicationConfiguration, or `*` for every namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))]
    pub namespace: String,
    /// The name of the ReplicationConfiguration. Absent: every one of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = OBJECT_NAME_TEXT))]
    pub configuration: Option<String>,
}

/// The state of a policy as the operator observed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPermissionPolicyStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the policy is in force. `Stalled`: its Registry does not exist.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[schemars(transform = keyed_by("type"))]
    pub conditions: Vec<Condition>,
}

/// The rules for a statement.
pub static STATEMENT_RULES: ValidationRules<Statement> = ValidationRules::new(|| {
    vec![ValidationRule::at(
        ".actions",
        "self.effect == 'Deny' || !('OverwriteTag' in self.actions)",
        "OverwriteTag is part of ReplicateImage and can only be denied: use effect: Deny, or remove it from actions",
        |statement| statement.effect == StatementEffect::Deny || !statement.actions.contains(&Action::OverwriteTag),
    )]
});
