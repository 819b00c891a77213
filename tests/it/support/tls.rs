//! The certificate authority of the test run, and the certificates it signs.

use std::path::PathBuf;
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::run_folder::run_folder;
use super::stage;

/// A certificate authority with a name of its own.
pub struct TestAuthority {
    pem: String,
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate signed by an authority, and its key, both in PEM and in DER.
pub struct Certificate {
    pub pem: String,
    pub der: Vec<u8>,
    pub key_pem: String,
    pub key_der: Vec<u8>,
}

/// Makes aws-lc-rs the process's provider of cryptography for TLS, as `main` does for the program.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The beginning of every client of our own: it trusts the shared authority alone. Reading the machine's certificates
/// takes longer than most requests do.
pub fn client_builder() -> reqwest::ClientBuilder {
    install_crypto_provider();
    let root = reqwest::Certificate::from_pem(TestAuthority::shared().pem().as_bytes()).expect("the certificate");
    reqwest::Client::builder().tls_certs_only([root]).no_proxy()
}

impl TestAuthority {
    /// Returns the authority that signs every server of this run.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestAuthority> = OnceLock::new();
        SHARED.get_or_init(|| Self::new("Transship test authority"))
    }

    /// Returns another authority, for servers that are not to be trusted.
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).expect("no names, none of them wrong");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("a self-signed certificate").pem();
        let file = run_folder().join(format!("{}.pem", name.to_lowercase().replace(' ', "-")));
        std::fs::write(&file, &pem).expect("the authority's file");
        Self { pem, file, issuer: Issuer::new(parameters, key) }
    }

    /// Returns its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns a file with its certificate in PEM.
    pub fn file(&self) -> &PathBuf {
        &self.file
    }

    /// Signs a certificate for servers reached by these names and addresses.
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let first = names.first().cloned().unwrap_or_default();
        let mut parameters = CertificateParams::new(names).expect("names and addresses");
        parameters.distinguished_name.push(DnType::CommonName, first);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a signed certificate");
        Certificate {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }

    /// Signs a certificate for servers on loopback.
    pub fn loopback_certificate(&self) -> Certificate {
        self.certificate(&["localhost", "127.0.0.1", &stage::address().to_string()])
    }
}
