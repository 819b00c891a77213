//! Verifies signatures with a public key in PEM, by the algorithms that cosign uses.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::terms::PEM_HEADER;

/// The public key of a rule, once for each algorithm by which it may have signed: cosign took SHA-256 for every curve, and
/// takes the hash of the curve's own size now.
pub(super) struct PublicKey(Vec<ParsedPublicKey>);

/// A public key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the public key of verification.cosign is no PEM of an ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) or Ed25519 key"
)]
pub(super) struct PublicKeyError;

impl PublicKey {
    /// Parses `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub(super) fn parse(pem: &str) -> Result<Self, PublicKeyError> {
        let (_, rest) = pem.split_once(PEM_HEADER).ok_or(PublicKeyError)?;
        let (body, _) = rest.split_once("-----END PUBLIC KEY-----").ok_or(PublicKeyError)?;
        let body: String = body.split_whitespace().collect();
        let der = BASE64_STANDARD.decode(body).map_err(|_| PublicKeyError)?;
        let algorithms: [&'static dyn VerificationAlgorithm; 7] = [
            &ECDSA_P256_SHA256_ASN1,
            &ECDSA_P384_SHA256_ASN1,
            &ECDSA_P384_SHA384_ASN1,
            &ECDSA_P521_SHA256_ASN1,
            &ECDSA_P521_SHA512_ASN1,
            &ED25519,
            &RSA_PKCS1_2048_8192_SHA256,
        ];
        // The document names the kind of the key: the other algorithms refuse to parse it.
        let parsed = algorithms.into_iter().filter_map(|algorithm| ParsedPublicKey::new(algorithm, &der).ok());
        let parsed: Vec<ParsedPublicKey> = parsed.collect();
        if parsed.is_empty() { Err(PublicKeyError) } else { Ok(Self(parsed)) }
    }

    /// Returns true if `signature` is that of `message` by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| key.verify_sig(message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RsaKeyPair,
    };

    use super::*;

    fn pem(der: &[u8]) -> String {
        format!("{PEM_HEADER}\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der))
    }

    #[test]
    fn signatures_of_each_kind_of_key_are_verified() {
        let (random, message) = (SystemRandom::new(), b"payload");
        let mut table = Vec::new();
        for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
            table.push((pem(der.as_ref()), pair.sign(&random, message).unwrap().as_ref().to_vec()));
        }
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        table.push((pem(der.as_ref()), pair.sign(message).as_ref().to_vec()));
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
        table.push((pem(der.as_ref()), signature));
        for (index, (key, signature)) in table.iter().enumerate() {
            let parsed = PublicKey::parse(key).unwrap();
            assert!(parsed.verifies(message, signature), "key {index}");
            assert!(!parsed.verifies(b"other", signature), "key {index}");
            let (_, of_other) = &table[(index + 1) % table.len()];
            assert!(!parsed.verifies(message, of_other), "key {index}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for text in ["", "key", PEM_HEADER, &pem(b""), &pem(b"not a key"), &pem(&[0x30; 100_000])] {
            assert!(PublicKey::parse(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
