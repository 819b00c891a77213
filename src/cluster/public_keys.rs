//! Reads the public keys of signatures from the Secrets that a configuration names.

use kube::Client;

use super::credentials::{CredentialsError, read_secret};
use crate::plan::SpecError;
use crate::terms::{CosignKey, PublicKeyReference, ReplicationConfigurationSpec, reason};

/// Returns `spec` with each public key that it names in a Secret of `namespace` in place of the reference, or the
/// [`SpecError`] of a Secret that is absent or lacks the key.
///
/// # Errors
/// [`CredentialsError::Unanswered`]: nothing is known about the spec then.
pub(crate) async fn with_public_keys(
    client: &Client,
    namespace: &str,
    spec: &ReplicationConfigurationSpec,
) -> Result<Result<ReplicationConfigurationSpec, SpecError>, CredentialsError> {
    let mut spec = spec.clone();
    for rule in &mut spec.rules {
        let cosign = rule.verification.as_mut().map(|verification| &mut verification.cosign);
        let Some(cosign) = cosign.filter(|cosign| cosign.public_key.is_none()) else { continue };
        let Some(reference) = &cosign.public_key_secret_ref else { continue };
        let field = format!("spec.rules[{}].verification.cosign.publicKeySecretRef", rule.name);
        let read = public_key(client, namespace, reference).await;
        match read {
            Ok(key) => *cosign = CosignKey { public_key: Some(key), public_key_secret_ref: None },
            Err(CredentialsError::Invalid { reason, message }) => {
                return Ok(Err(SpecError { reason, message: format!("{field}: {message}") }));
            }
            Err(unanswered) => return Err(unanswered),
        }
    }
    Ok(Ok(spec))
}

async fn public_key(
    client: &Client,
    namespace: &str,
    reference: &PublicKeyReference,
) -> Result<String, CredentialsError> {
    let PublicKeyReference { name, key } = reference;
    let secret = read_secret(client, namespace, name).await?;
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value.and_then(|value| String::from_utf8(value.0.clone()).ok()).ok_or_else(|| CredentialsError::Invalid {
        reason: reason::SECRET_INVALID,
        message: format!("Secret {name} lacks the key {key} with a public key"),
    })
}

/// Returns true if `spec` names a Secret with a public key.
pub(crate) fn names_public_keys(spec: &ReplicationConfigurationSpec) -> bool {
    let mut keys = spec.rules.iter().filter_map(|rule| Some(&rule.verification.as_ref()?.cosign));
    keys.any(|cosign| cosign.public_key_secret_ref.is_some())
}
