//! Reads the public keys of signatures from the Secrets that a configuration names.

use kube::Client;

use super::credentials::read_secret;
use crate::plan::SpecError;
use crate::terms::{CosignKey, ReplicationConfigurationSpec, reason};

/// Returns `spec` with each public key that it names in a Secret of `namespace` in place of the reference.
///
/// # Errors
/// [`SpecError`] if a Secret is absent or lacks the key.
pub(crate) async fn with_public_keys(
    client: &Client,
    namespace: &str,
    spec: &ReplicationConfigurationSpec,
) -> Result<ReplicationConfigurationSpec, SpecError> {
    let mut spec = spec.clone();
    for rule in &mut spec.rules {
        let cosign = rule.verification.as_mut().map(|verification| &mut verification.cosign);
        let Some(cosign) = cosign.filter(|cosign| cosign.public_key.is_none()) else { continue };
        let Some(reference) = &cosign.public_key_secret_ref else { continue };
        let field = format!("spec.rules[{}].verification.cosign.publicKeySecretRef", rule.name);
        let secret = read_secret(client, namespace, &reference.name)
            .await
            .map_err(|error| SpecError { reason: error.reason, message: format!("{field}: {}", error.message) })?;
        let value = secret.data.as_ref().and_then(|data| data.get(&reference.key));
        let key = value.and_then(|value| String::from_utf8(value.0.clone()).ok()).ok_or_else(|| SpecError {
            reason: reason::SECRET_INVALID,
            message: format!("{field}: Secret {} lacks the key {} with a public key", reference.name, reference.key),
        })?;
        *cosign = CosignKey { public_key: Some(key), public_key_secret_ref: None };
    }
    Ok(spec)
}

/// Returns true if `spec` names a Secret with a public key.
pub(crate) fn names_public_keys(spec: &ReplicationConfigurationSpec) -> bool {
    let mut keys = spec.rules.iter().filter_map(|rule| Some(&rule.verification.as_ref()?.cosign));
    keys.any(|cosign| cosign.public_key_secret_ref.is_some())
}
