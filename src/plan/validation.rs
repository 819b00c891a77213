//! Checks of specs that did not pass an API server: by the same rules as in the CustomResourceDefinitions.

use super::spec_error::{SpecError, check, check_field};
use crate::terms::{
    BANDWIDTH_RULES, DOCUMENT_RULES, ENCRYPTION_RULES, MAX_LIFECYCLE_POLICY, MAX_REPOSITORY_POLICY,
    MAX_REPOSITORY_TEMPLATES, REGISTRY_RULES, REPOSITORY_TEMPLATE_RULES, RegistryPermissionPolicySpec, RegistrySpec,
    RepositoryTemplate, STATEMENT_RULES, TEMPLATE_PREFIX, TLS_RULES, URL_RULES,
};

/// Checks the spec of a Registry.
///
/// # Errors
/// [`SpecError`] names the field and the remedy.
pub fn check_registry(spec: &RegistrySpec) -> Result<(), SpecError> {
    check(&URL_RULES, &spec.url)?;
    check(&REGISTRY_RULES, spec)?;
    check(&BANDWIDTH_RULES, &spec.limits.bandwidth)?;
    check_templates(&spec.repository_templates)?;
    spec.tls.as_ref().map_or(Ok(()), |tls| check(&TLS_RULES, tls))
}

/// Checks what an API server checks, and that policies are JSON documents, which it cannot.
fn check_templates(templates: &[RepositoryTemplate]) -> Result<(), SpecError> {
    let list = "spec.repositoryTemplates";
    if templates.len() > MAX_REPOSITORY_TEMPLATES {
        return Err(SpecError::invalid(format!("{list} has more than {MAX_REPOSITORY_TEMPLATES} entries")));
    }
    for (index, template) in templates.iter().enumerate() {
        let (prefix, field) = (&template.prefix, format!("{list}[{index}]"));
        if templates[..index].iter().any(|earlier| earlier.prefix == *prefix) {
            return Err(SpecError::invalid(format!("{field}.prefix: {prefix:?} appears twice: remove one")));
        }
        if prefix.len() > 255 || !TEMPLATE_PREFIX.matches(prefix) {
            return Err(SpecError::invalid(format!("{field}.prefix: {prefix:?} must be a repository name, or empty")));
        }
        check_field(&REPOSITORY_TEMPLATE_RULES, template, &field)?;
        if let Some(encryption) = &template.encryption_configuration {
            check_field(&ENCRYPTION_RULES, encryption, &format!("{field}.encryptionConfiguration"))?;
        }
        check_document(&template.lifecycle_policy, MAX_LIFECYCLE_POLICY, &format!("{field}.lifecyclePolicy"))?;
        check_document(&template.repository_policy, MAX_REPOSITORY_POLICY, &format!("{field}.repositoryPolicy"))?;
    }
    Ok(())
}

fn check_document(text: &Option<String>, most: usize, field: &str) -> Result<(), SpecError> {
    let Some(text) = text else { return Ok(()) };
    check_field(&DOCUMENT_RULES, text.as_str(), field)?;
    if text.chars().count() > most {
        return Err(SpecError::invalid(format!("{field} has more than {most} characters")));
    }
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    parsed.map(|_| ()).map_err(|error| SpecError::invalid(format!("{field} is no JSON document: {error}")))
}

/// Checks the spec of a RegistryPermissionPolicy.
///
/// # Errors
/// [`SpecError`] names the field and the remedy.
pub fn check_policy(spec: &RegistryPermissionPolicySpec) -> Result<(), SpecError> {
    for (index, statement) in spec.statements.iter().enumerate() {
        let field = format!("spec.statements[{}]", statement.sid);
        if spec.statements[..index].iter().any(|earlier| earlier.sid == statement.sid) {
            return Err(SpecError::invalid(format!("{field} appears twice: give each statement its own sid")));
        }
        check_field(&STATEMENT_RULES, statement, &field)?;
        if statement.principals.is_empty() || statement.actions.is_empty() || statement.resources.is_empty() {
            return Err(SpecError::invalid(format!(
                "{field} needs at least one of principals, actions and resources each"
            )));
        }
    }
    Ok(())
}

/// Returns a warning if the environment names a proxy, since none is used: `is_set` says of a variable if it has a value.
pub fn ignored_proxies(is_set: impl Fn(&str) -> bool) -> Option<String> {
    let set: Vec<&str> = PROXY_VARIABLES.into_iter().filter(|name| is_set(name)).collect();
    (!set.is_empty()).then(|| {
        format!(
            "{} has no effect: registries are reached directly, never through a proxy; permit that, or name a mirror \
             that is reachable in spec.url",
            set.join(", ")
        )
    })
}

/// The variables by which programs find a proxy; curl and Go read both spellings.
const PROXY_VARIABLES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_not_used_is_named_without_its_value() {
        assert_eq!(ignored_proxies(|_| false), None);
        let warning = ignored_proxies(|name| ["https_proxy", "HTTP_PROXY"].contains(&name)).unwrap();
        assert!(warning.starts_with("https_proxy, HTTP_PROXY has no effect: "), "{warning}");
    }

    #[test]
    fn plain_http_has_to_be_asked_for() {
        let check = |yaml: &str| check_registry(&serde_saphyr::from_str(yaml).unwrap());
        assert!(check("{url: 'http://r.example.com'}").unwrap_err().message.contains("allowHTTP"));
        assert!(check("{url: 'http://r.example.com', allowHTTP: true}").is_ok());
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
