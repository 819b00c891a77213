//! Permission evaluation: may a configuration act on a destination repository?
//!
//! The rules are those of Amazon ECR's registry permissions with namespaces in the place of accounts: inside one
//! namespace everything but `DeleteImage` is allowed that no statement denies; else nothing is allowed that no
//! statement allows, and a Deny always wins. The order of statements and their number never matter.

mod wildcard;

use crate::terms::{Action, Principal, RegistryPermissionPolicySpec, Statement, StatementEffect, reason};
pub(crate) use wildcard::wildcard_matches;

/// A question to the policies: may a configuration do this to a destination repository?
#[derive(Clone, Copy, Debug)]
pub(crate) struct PermissionRequest<'a> {
    /// The namespace of the configuration.
    pub namespace: &'a str,
    /// The name of the configuration.
    pub configuration: &'a str,
    /// The action.
    pub action: Action,
    /// The namespace of the destination Registry.
    pub registry_namespace: &'a str,
    /// The name of the destination Registry.
    pub registry: &'a str,
    /// The destination repository.
    pub repository: &'a str,
}

/// A policy of the destination's namespace, as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// The name of the RegistryPermissionPolicy.
    pub name: String,
    /// The spec; `None` if the object cannot be decoded, which denies everything in its namespace.
    pub spec: Option<RegistryPermissionPolicySpec>,
}

/// The answer of the policies, with the statement that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// True if the action is allowed.
    pub allowed: bool,
    /// The reason, one of [`crate::terms::reason`].
    pub reason: &'static str,
    /// A sentence that names the deciding statement.
    pub message: String,
}

/// Decides `request` by the `policies` of the destination's namespace.
///
/// An empty principal and a policy that cannot be decoded deny.
pub(crate) fn evaluate(request: &PermissionRequest<'_>, policies: &[Policy]) -> Decision {
    if let Some(policy) = policies.iter().filter(|p| p.spec.is_none()).min_by_key(|p| &p.name) {
        return unreadable(&format!("RegistryPermissionPolicy {} cannot be decoded", policy.name));
    }
    if request.namespace.is_empty() || request.configuration.is_empty() {
        return Decision::no(reason::NO_STATEMENT_ALLOWS, "the principal is empty".to_owned());
    }
    if let Some((policy, statement)) = deciding(request, policies, StatementEffect::Deny) {
        let message = format!(
            "{:?} is denied by statement {} of RegistryPermissionPolicy {policy}",
            request.action, statement.sid
        );
        return Decision::no(reason::STATEMENT_DENIES, message);
    }
    // A deletion needs a statement in any case.
    if request.namespace == request.registry_namespace && request.action != Action::DeleteImage {
        let message = "the destination belongs to the same namespace and no statement denies it";
        return Decision { allowed: true, reason: reason::SAME_NAMESPACE, message: message.to_owned() };
    }
    // To overwrite is part of replicating: the replication has been allowed before, and only a Deny takes it away.
    let action = match request.action {
        Action::OverwriteTag => Action::ReplicateImage,
        action => action,
    };
    match deciding(&PermissionRequest { action, ..*request }, policies, StatementEffect::Allow) {
        Some((policy, statement)) => Decision {
            allowed: true,
            reason: reason::STATEMENT_ALLOWS,
            message: format!("allowed by statement {} of RegistryPermissionPolicy {policy}", statement.sid),
        },
        None => Decision::no(
            reason::NO_STATEMENT_ALLOWS,
            format!(
                "no statement allows {action:?} into repository {} of Registry {}/{} for configuration {}/{}",
                request.repository,
                request.registry_namespace,
                request.registry,
                request.namespace,
                request.configuration
            ),
        ),
    }
}

/// Returns true if a statement allows the configuration of `request` anything at its Registry, or both have one owner: it
/// may know then that the Registry exists, and its host.
pub(crate) fn is_introduced(request: &PermissionRequest<'_>, policies: &[Policy]) -> bool {
    let specs = policies.iter().filter_map(|policy| policy.spec.as_ref());
    let statements = specs.filter(|spec| spec.registry_ref.name == request.registry).flat_map(|spec| &spec.statements);
    let mut allowing = statements.filter(|statement| statement.effect == StatementEffect::Allow);
    request.namespace == request.registry_namespace
        || allowing.any(|statement| statement.principals.iter().any(|principal| is_meant(principal, request)))
}

/// Denies because the policies could not be read: nothing is allowed.
pub(crate) fn unreadable(cause: &str) -> Decision {
    Decision::no(reason::POLICY_UNREADABLE, format!("nothing is allowed while the policies cannot be read: {cause}"))
}

impl Decision {
    fn no(reason: &'static str, message: String) -> Self {
        Self { allowed: false, reason, message }
    }
}

/// Returns the first matching statement in the order of policy name and sid, so that the answer does not depend on
/// their order.
fn deciding<'a>(
    request: &PermissionRequest<'_>,
    policies: &'a [Policy],
    effect: StatementEffect,
) -> Option<(&'a str, &'a Statement)> {
    policies
        .iter()
        .filter_map(|policy| policy.spec.as_ref().map(|spec| (policy.name.as_str(), spec)))
        .filter(|(_, spec)| spec.registry_ref.name == request.registry)
        .flat_map(|(name, spec)| spec.statements.iter().map(move |statement| (name, statement)))
        .filter(|(_, statement)| statement.effect == effect && speaks_of(statement, request))
        .min_by_key(|(name, statement)| (*name, statement.sid.as_str()))
}

fn speaks_of(statement: &Statement, request: &PermissionRequest<'_>) -> bool {
    statement.actions.contains(&request.action)
        && statement.principals.iter().any(|principal| is_meant(principal, request))
        && statement.resources.iter().any(|pattern| wildcard_matches(pattern, request.repository))
}

fn is_meant(principal: &Principal, request: &PermissionRequest<'_>) -> bool {
    let namespace = principal.namespace == "*" || principal.namespace == request.namespace;
    let configuration = principal.configuration.as_deref().is_none_or(|name| name == request.configuration);
    namespace && configuration
}

#[cfg(test)]
mod prove {
    mod tests;
}
#[cfg(test)]
mod tests;
