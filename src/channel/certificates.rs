//! The certificates of the channel: authorities that live in a Secret, and the leaf of one operator pod.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// The authorities that sign leaves of operator pods, oldest first: one, and for a while before it ends the next one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateAuthorities(Vec<CertificateAuthority>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CertificateAuthority {
    certificate: String,
    key: String,
    from: Timestamp,
    until: Timestamp,
}

/// Authorities that cannot be read or made.
#[derive(Debug, thiserror::Error)]
#[error("the authorities of the channel cannot be used: {0}")]
pub(crate) struct CertificateError(String);

impl std::fmt::Debug for CertificateAuthorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CertificateAuthorities").field(&self.0.len()).finish()
    }
}

impl CertificateAuthorities {
    /// Parses the form that [`CertificateAuthorities::stored`] returns.
    ///
    /// # Errors
    /// [`CertificateError`] if it is something else.
    pub(crate) fn read(stored: &[u8]) -> Result<Self, CertificateError> {
        serde_json::from_slice(stored).map_err(|error| CertificateError(error.to_string()))
    }

    /// Returns the form that a Secret keeps.
    pub(crate) fn stored(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and times")
    }

    /// Returns the authorities with a new one where none is left that lasts [`RENEWED_BEFORE`], and without those that
    /// have ended; `None` if nothing changes.
    ///
    /// # Errors
    /// [`CertificateError`] if no key can be made.
    pub(crate) fn renewed(&self, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        let mut kept: Vec<CertificateAuthority> =
            self.0.iter().filter(|authority| authority.until > now).cloned().collect();
        if !kept.iter().any(|authority| authority.until > now + RENEWED_BEFORE) {
            kept.push(new_authority(now).map_err(|error| CertificateError(error.to_string()))?);
        }
        let renewed = Self(kept);
        Ok((renewed != *self).then_some(renewed))
    }

    /// Returns the certificates of all authorities, which workers trust, in PEM.
    pub(crate) fn bundle(&self) -> String {
        self.0.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// Returns a server configuration with a new leaf for `host`, signed by the newest authority that every running
    /// worker knows.
    ///
    /// # Errors
    /// [`CertificateError`] if there is none.
    pub(crate) fn server_config(&self, host: &str, now: Timestamp) -> Result<rustls::ServerConfig, CertificateError> {
        let known = self.0.iter().rev().find(|authority| authority.from + KNOWN_AFTER <= now);
        let authority = known.or(self.0.first()).ok_or_else(|| CertificateError("there is none".to_owned()))?;
        let invalid = |error: &dyn std::fmt::Display| CertificateError(error.to_string());
        let signer = KeyPair::from_pem(&authority.key).map_err(|error| invalid(&error))?;
        let issuer = Issuer::new(authority_parameters(authority.from), signer);
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).map_err(|error| invalid(&error))?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (parameters.not_before, parameters.not_after) =
            (clock(now - DAY), clock(authority.until.min(now + LEAF_LASTS)));
        let key = KeyPair::generate().map_err(|error| invalid(&error))?;
        let leaf = parameters.signed_by(&key, &issuer).map_err(|error| invalid(&error))?;
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).map_err(|error| invalid(&error))?;
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| invalid(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn new_authority(now: Timestamp) -> Result<CertificateAuthority, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = authority_parameters(now).self_signed(&key)?.pem();
    Ok(CertificateAuthority { certificate, key: key.serialize_pem(), from: now, until: now + AUTHORITY_LIVES })
}

/// Returns the same parameters for the same time, so that they need not be parsed from the certificate again.
fn authority_parameters(from: Timestamp) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("Transship channel {}", from.as_second()));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (parameters.not_before, parameters.not_after) = (clock(from - DAY), clock(from + AUTHORITY_LIVES));
    parameters
}

fn clock(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIVES: Duration = Duration::from_secs(365 * 86_400);
/// Longer than any worker lives after [`KNOWN_AFTER`], and than an operator is away.
const RENEWED_BEFORE: Duration = Duration::from_secs(60 * 86_400);
/// A worker trusts the authorities that there were when its Job was made; none lives longer than a day.
const KNOWN_AFTER: Duration = Duration::from_secs(2 * 86_400);
const LEAF_LASTS: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_followed_by_the_next_before_it_ends_and_goes_when_it_has() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = CertificateAuthorities::default().renewed(start).unwrap().unwrap();
        assert_eq!(first.renewed(start + 100 * DAY).unwrap(), None);
        let both = first.renewed(start + 310 * DAY).unwrap().unwrap();
        assert!(both.bundle().starts_with(&first.bundle()) && both.bundle().matches("BEGIN").count() == 2);
        assert_eq!(CertificateAuthorities::read(&both.stored()).unwrap(), both);
        let second = both.renewed(start + 366 * DAY).unwrap().unwrap();
        assert_eq!(second.bundle().matches("BEGIN").count(), 1);
        for (authorities, at) in
            [(&first, start), (&both, start + 310 * DAY), (&both, start + 313 * DAY), (&second, start + 366 * DAY)]
        {
            authorities.server_config("transship-channel.transship.svc", at).unwrap();
        }
        assert!(format!("{both:?}").len() < 32, "keys are not shown");
    }
}
