//! The verification of signatures before images are copied.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::OBJECT_NAME_TEXT;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// The signatures that an image needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignatureVerification {
    /// A signature of cosign, made with a key: as a tag `sha256-….sig` (simple signing), or as a Sigstore bundle among the
    /// referrers. Keyless signatures are not verified yet.
    #[schemars(transform = checked_by(&COSIGN_KEY_RULES))]
    pub cosign: CosignKey,
}

/// The public key of cosign's signatures. Exactly one of the fields is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CosignKey {
    /// The key itself, as `cosign public-key` prints it: PEM, `BEGIN PUBLIC KEY`, of ECDSA (P-256, P-384, P-521), RSA or
    /// Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_PUBLIC_KEY))]
    pub public_key: Option<String>,
    /// A Secret of the same namespace that holds the key. `transship sync` and `serve` read no Secrets: they need
    /// `publicKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_secret_ref: Option<PublicKeyReference>,
}

/// A reference to a public key in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicKeyReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME_TEXT))]
    pub name: String,
    /// The key inside the Secret. Default: cosign.pub, as `cosign generate-key-pair k8s://…` writes it.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_key() -> String {
    "cosign.pub".to_owned()
}

/// The rules for the key of cosign's signatures.
pub static COSIGN_KEY_RULES: ValidationRules<CosignKey> = ValidationRules::new(|| {
    vec![
        ValidationRule::new(
            "has(self.publicKey) != has(self.publicKeySecretRef)",
            "verification.cosign needs exactly one of publicKey and publicKeySecretRef",
            |key| key.public_key.is_some() != key.public_key_secret_ref.is_some(),
        ),
        ValidationRule::new(
            "!has(self.publicKey) || self.publicKey.contains('-----BEGIN PUBLIC KEY-----')",
            "verification.cosign.publicKey must be PEM with BEGIN PUBLIC KEY, as cosign public-key prints it",
            |key| key.public_key.as_ref().is_none_or(|key| key.contains(PEM_HEADER)),
        ),
    ]
});

/// The first line of a public key in PEM.
pub const PEM_HEADER: &str = "-----BEGIN PUBLIC KEY-----";
/// The largest length of a public key in PEM, in characters.
pub const MAX_PUBLIC_KEY: usize = 8192;
