//! The certificates that a client trusts: those of the system, and those that the owner of a registry adds to them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::image::Digest;
use crate::locked::Locked;
use crate::registry::error::{ErrorKind, HttpError};

/// The usable certificates of a PEM bundle; empty where the owner of a registry adds none.
#[derive(Debug, Default)]
pub(crate) struct CaBundle {
    certificates: Vec<CertificateDer<'static>>,
    /// One clause for each certificate that cannot be used.
    skipped: Vec<String>,
}

impl CaBundle {
    /// Reads the certificates of `pem`. One that has expired or cannot be parsed is skipped.
    ///
    /// # Errors
    /// `Configuration` over [`MAX_BUNDLE_BYTES`] or [`MAX_BUNDLE_CERTIFICATES`], and if no certificate can be used.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, HttpError> {
        let unusable = |detail: String| HttpError::new(ErrorKind::Configuration, format!("the CA bundle {detail}"));
        if pem.len() > MAX_BUNDLE_BYTES {
            return Err(unusable("is over 4 MiB".to_owned()));
        }
        let (mut bundle, now) = (Self::default(), UnixTime::now());
        for (index, section) in CertificateDer::pem_slice_iter(pem).enumerate() {
            if index == MAX_BUNDLE_CERTIFICATES {
                return Err(unusable(format!("holds over {MAX_BUNDLE_CERTIFICATES} certificates")));
            }
            let usable = section.map_err(|_| "is not valid PEM".to_owned());
            match usable.and_then(|certificate| check(&certificate, now).map(|()| certificate)) {
                Ok(certificate) => bundle.certificates.push(certificate),
                Err(fault) => bundle.skipped.push(format!("certificate {} {fault}", index + 1)),
            }
        }
        match (bundle.certificates.is_empty(), bundle.skipped()) {
            (false, _) => Ok(bundle),
            (true, None) => Err(unusable("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned())),
            (true, Some(skipped)) => Err(unusable(format!("holds no certificate that can be used: {skipped}"))),
        }
    }

    /// Names the certificates that were skipped, with the causes.
    pub(crate) fn skipped(&self) -> Option<String> {
        let shown = self.skipped.iter().take(MAX_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = self.skipped.len().saturating_sub(MAX_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| shown + &more)
    }

    /// Returns the TLS configuration that trusts this bundle and the system's certificates, which are read from disk.
    /// Clients that trust the very same ones share it with its sessions, as long as one of them uses it.
    ///
    /// # Errors
    /// `Configuration` if there is no certificate at all.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "certificates of the system cannot be read");
        }
        self.shared_config(system.certs)
    }

    fn shared_config(&self, system: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, HttpError> {
        let trusted = self.fingerprint(&system);
        let mut shared = SHARED.lock();
        if let Some(config) = shared.get(&trusted).and_then(Weak::upgrade) {
            return Ok(config);
        }
        let config = Arc::new(self.config_with(system)?);
        shared.retain(|_, config| config.strong_count() > 0);
        shared.insert(trusted, Arc::downgrade(&config));
        Ok(config)
    }

    /// Returns a hash of the certificates of this bundle, and of those of the system.
    fn fingerprint(&self, system: &[CertificateDer<'static>]) -> Digest {
        let mut bytes = self.certificates.len().to_be_bytes().to_vec();
        for certificate in self.certificates.iter().chain(system) {
            bytes.extend(certificate.len().to_be_bytes());
            bytes.extend_from_slice(certificate);
        }
        Digest::sha256(&bytes)
    }

    fn config_with(&self, system: Vec<CertificateDer<'static>>) -> Result<ClientConfig, HttpError> {
        let unusable = |cause: &dyn std::fmt::Display| {
            let detail = format!("the certificates to trust cannot be used: {cause}");
            HttpError::new(ErrorKind::Configuration, detail)
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates.iter().cloned().chain(system));
        if roots.is_empty() {
            return Err(unusable(&"the system has none (package ca-certificates), and the Registry names none"));
        }
        let chains = chain_verifier(roots).map_err(|error| unusable(&error))?;
        let verifier = RegistryVerifier { chains, added: self.certificates.clone() };
        let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The TLS configurations in use, by what they trust: a system has more than a hundred certificates.
static SHARED: LazyLock<Locked<HashMap<Digest, Weak<ClientConfig>>>> = LazyLock::new(Locked::default);

/// Verifies servers as webpki does, and takes a server's own certificate where the owner of the registry adds that very
/// one: `openssl req -x509` makes certificates that are server and authority at once, which webpki refuses as a server.
#[derive(Debug)]
struct RegistryVerifier {
    chains: Arc<WebPkiServerVerifier>,
    added: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for RegistryVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The dates are the first property that is checked.
            Err(error) if expiry(&error).is_none() && self.added.iter().any(|added| added == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Checks that `certificate` can be a trust anchor at `now`.
///
/// # Errors
/// A clause that says why it cannot.
fn check(certificate: &CertificateDer<'static>, now: UnixTime) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let parsed = roots.add(certificate.clone()).map_err(|error| error.to_string());
    let verifier = parsed.and_then(|()| chain_verifier(roots).map_err(|error| error.to_string()));
    let verifier = verifier.map_err(|error| format!("cannot be parsed ({error})"))?;
    let name = ServerName::try_from("registry.invalid").expect("a host name");
    // Verified as a server it fails for other reasons, too; only its dates count.
    match verifier.verify_server_cert(certificate, &[], &name, &[], now) {
        Err(error) => expiry(&error).map_or(Ok(()), Err),
        Ok(_) => Ok(()),
    }
}

/// Returns a clause about the dates of a certificate, if `error` is about them.
fn expiry(error: &Error) -> Option<String> {
    let date = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map(|date| format!(" ({date})")).unwrap_or_default()
    };
    match error {
        Error::InvalidCertificate(CertificateError::Expired) => Some("has expired".to_owned()),
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Some(format!("has expired{}", date(not_after)))
        }
        Error::InvalidCertificate(CertificateError::NotValidYet) => Some("is not valid yet".to_owned()),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(format!("is not valid yet{}", date(not_before)))
        }
        _ => None,
    }
}

fn chain_verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder(Arc::new(roots)).build()
}

const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;
const MAX_BUNDLE_CERTIFICATES: usize = 2_000;
/// The skipped certificates that a message names at most.
const MAX_SHOWN: usize = 5;

#[cfg(test)]
mod tests;
