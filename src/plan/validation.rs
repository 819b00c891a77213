//! What the API server would refuse by its rules, said of a spec that did not pass one.

use super::Invalid;
use crate::terms::{Action, Effect, RegistryPermissionPolicySpec, RegistrySpec, reason};

/// Checks the spec of a Registry as the rules of its CustomResourceDefinition do.
///
/// # Errors
/// [`Invalid`] names the field and the remedy.
pub fn check_registry(spec: &RegistrySpec) -> Result<(), Invalid> {
    let is_plain = spec.url.starts_with("http://");
    if !is_plain && !spec.url.starts_with("https://") {
        return invalid("spec.url must be https://host[:port] without user, path, query or fragment".to_owned());
    }
    if is_plain && !spec.allow_http {
        return invalid(
            "spec.url is plain http: use https, or set spec.allowHttp: true to send images and credentials unencrypted"
                .to_owned(),
        );
    }
    if is_plain && spec.tls.is_some() {
        return invalid("spec.tls has no effect on a plain http spec.url: use https or remove spec.tls".to_owned());
    }
    if spec.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some() == tls.ca_config_map_ref.is_some()) {
        return invalid("spec.tls needs exactly one of caSecretRef and caConfigMapRef".to_owned());
    }
    Ok(())
}

/// Checks the spec of a RegistryPermissionPolicy as the rules of its CustomResourceDefinition do.
///
/// # Errors
/// [`Invalid`] names the field and the remedy.
pub fn check_policy(spec: &RegistryPermissionPolicySpec) -> Result<(), Invalid> {
    for (index, statement) in spec.statements.iter().enumerate() {
        let field = format!("spec.statements[{}]", statement.sid);
        if spec.statements[..index].iter().any(|earlier| earlier.sid == statement.sid) {
            return invalid(format!("{field} is there twice: give each statement a sid of its own"));
        }
        if statement.effect == Effect::Allow && statement.actions.contains(&Action::OverwriteTag) {
            return invalid(format!(
                "{field}.actions: OverwriteTag is part of ReplicateImage and can only be denied: use effect: Deny, or remove it"
            ));
        }
        if statement.principals.is_empty() || statement.actions.is_empty() || statement.resources.is_empty() {
            return invalid(format!("{field} needs at least one of principals, actions and resources each"));
        }
    }
    Ok(())
}

fn invalid(message: String) -> Result<(), Invalid> {
    Err(Invalid { reason: reason::INVALID_SPEC, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_has_to_be_asked_for() {
        let check = |yaml: &str| check_registry(&serde_saphyr::from_str(yaml).unwrap());
        assert!(check("{url: 'http://r.example.com'}").unwrap_err().message.contains("allowHttp"));
        assert!(check("{url: 'http://r.example.com', allowHttp: true}").is_ok());
        assert!(check("{url: 'https://r.example.com', tls: {}}").unwrap_err().message.contains("exactly one"));
        assert!(check("{url: 'ftp://r.example.com'}").unwrap_err().message.contains("https://"));
    }

    #[test]
    fn overwriting_can_only_be_denied() {
        let check = |effect: &str| {
            let yaml = format!(
                "{{registryRef: {{name: r}}, statements: [{{sid: s, effect: {effect}, principals: [{{namespace: a}}], \
                 actions: [OverwriteTag], resources: ['*']}}]}}"
            );
            check_policy(&serde_saphyr::from_str(&yaml).unwrap())
        };
        assert!(check("Allow").unwrap_err().message.contains("only be denied"));
        assert!(check("Deny").is_ok());
    }
}
