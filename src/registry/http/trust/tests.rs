//! Certificates as people make them, and servers that show them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Parameters as `openssl req -x509 -addext subjectAltName=…` makes them: an authority with names of a server.
fn openssl_req(names: &[&str]) -> CertificateParams {
    let mut parameters = authority("a server");
    parameters.subject_alt_names =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap()
            .subject_alt_names;
    parameters
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

/// A certificate with its key.
struct Made {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

fn self_signed(parameters: &CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    Made { pem: certificate.pem(), der: certificate.der().clone(), key }
}

fn signed(names: &[&str], by: &CertificateParams, key: &KeyPair) -> Made {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let own = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&own, &Issuer::from_params(by, key)).unwrap();
    Made { pem: certificate.pem(), der: certificate.der().clone(), key: own }
}

/// Connects to a server that shows `shown`, by this name.
async fn connect(
    bundle: &CaBundle,
    system: Vec<CertificateDer<'static>>,
    shown: &Made,
    name: &str,
) -> Result<(), String> {
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![shown.der.clone()], key).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let _ = stream.write_all(b"!").await;
            let _ = stream.shutdown().await;
        }
    });
    let connector = TlsConnector::from(Arc::new(bundle.config_with(system).map_err(|error| error.detail)?));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    stream.read_u8().await.map(|_| ()).map_err(|error| error.to_string())
}

fn bundle(pem: &[&str]) -> CaBundle {
    CaBundle::parse(pem.concat().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_server_whose_own_certificate_is_configured_is_taken_by_its_names() {
    let server = self_signed(&openssl_req(&["registry.example", "127.0.0.1"]));
    let own = bundle(&[&server.pem]);
    for name in ["registry.example", "127.0.0.1"] {
        connect(&own, Vec::new(), &server, name).await.unwrap();
    }
    let other = connect(&own, Vec::new(), &server, "other.example").await.unwrap_err();
    assert!(other.contains("not valid for"), "{other}");
}

#[tokio::test]
async fn an_authority_that_is_not_configured_is_no_server() {
    let (server, other) = (openssl_req(&["registry.example"]), openssl_req(&["registry.example"]));
    let (server, other) = (self_signed(&server), self_signed(&other));
    let refused = connect(&bundle(&[&other.pem]), Vec::new(), &server, "registry.example").await.unwrap_err();
    assert!(refused.contains("CaUsedAsEndEntity"), "{refused}");
    // An authority of the system is no server either: its owner did not name it for this registry.
    let system = vec![server.der.clone()];
    assert!(connect(&bundle(&[&other.pem]), system, &server, "registry.example").await.is_err());
}

#[test]
fn a_configured_certificate_is_refused_outside_of_its_dates() {
    let server = self_signed(&openssl_req(&["registry.example"]));
    let roots = || {
        let mut roots = RootCertStore::empty();
        roots.add(server.der.clone()).unwrap();
        roots
    };
    let chains = chain_verifier(roots()).unwrap();
    let verifier = RegistryVerifier { chains, added: vec![server.der.clone()] };
    let name = ServerName::try_from("registry.example").unwrap();
    let at = |year: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs((year - 1970) as u64 * 31_557_600));
    for (year, is_valid) in [(1971, false), (2026, true), (5000, false)] {
        let verified = verifier.verify_server_cert(&server.der, &[], &name, &[], at(year));
        assert_eq!(verified.is_ok(), is_valid, "{year}: {verified:?}");
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_besides_those_of_the_system() {
    let (private, public) = (authority("private"), authority("public"));
    let (private_made, public_made) = (self_signed(&private), self_signed(&public));
    let registry = signed(&["registry.example"], &private, &private_made.key);
    let store = signed(&["store.example"], &public, &public_made.key);
    let added = bundle(&[&private_made.pem]);
    let system = || vec![public_made.der.clone()];
    connect(&added, system(), &registry, "registry.example").await.unwrap();
    connect(&added, system(), &store, "store.example").await.unwrap();
    assert!(connect(&CaBundle::default(), system(), &registry, "registry.example").await.is_err());
    let none = connect(&CaBundle::default(), Vec::new(), &store, "store.example").await.unwrap_err();
    assert!(none.contains("the system has none"), "{none}");
}

#[test]
fn what_cannot_be_used_of_a_bundle_is_skipped_and_named() {
    let mut expired = authority("old");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_before = rcgen::date_time_ymd(2010, 1, 1);
    let (expired, good) = (self_signed(&expired).pem, self_signed(&authority("good")).pem);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_base64 = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    let text = "# a comment\nsubject=CN = good\n";

    let some = bundle(&[&expired, garbage, text, &good, no_base64]);
    assert_eq!(some.certificates.len(), 1);
    let skipped = some.skipped().unwrap();
    assert!(skipped.contains("certificate 1 has expired (2020-01-01T00:00:00Z)"), "{skipped}");
    assert!(skipped.contains("certificate 2 cannot be parsed"), "{skipped}");
    assert!(skipped.contains("certificate 4 is not valid PEM"), "{skipped}");
    assert_eq!(bundle(&[&good]).skipped(), None);

    let refused = |pem: &str| CaBundle::parse(pem.as_bytes()).unwrap_err().detail;
    assert!(refused(&expired).contains("no certificate that can be used: certificate 1 has expired"));
    assert!(refused(text).contains("holds no certificate in PEM"));
    assert!(refused("").contains("holds no certificate in PEM"));
}

#[test]
fn a_bundle_of_a_system_and_more_fits_and_is_bounded() {
    let good = self_signed(&authority("good")).pem;
    assert_eq!(CaBundle::parse(good.repeat(2_000).as_bytes()).unwrap().certificates.len(), 2_000);
    let many = CaBundle::parse(good.repeat(2_001).as_bytes()).unwrap_err();
    assert!(many.detail.contains("over 2000 certificates"), "{}", many.detail);
    let large = CaBundle::parse(&vec![b' '; 4 * 1024 * 1024 + 1]).unwrap_err();
    assert!(large.detail.contains("over 4 MiB"), "{}", large.detail);
}

#[test]
fn clients_share_a_configuration_if_they_trust_the_very_same() {
    let [one, other] = ["one", "other"].map(|name| self_signed(&authority(name)));
    let system = || vec![other.der.clone()];
    let (plain, added) = (CaBundle::default(), CaBundle::parse(one.pem.as_bytes()).unwrap());
    let shared = plain.shared_config(system()).unwrap();
    assert!(Arc::ptr_eq(&shared, &plain.shared_config(system()).unwrap()));
    let own = added.shared_config(system()).unwrap();
    assert!(!Arc::ptr_eq(&shared, &own), "a session of one must not be resumed by the other");
    assert!(Arc::ptr_eq(&own, &added.shared_config(system()).unwrap()));
    let as_system = plain.shared_config(vec![one.der.clone(), other.der.clone()]).unwrap();
    assert!(!Arc::ptr_eq(&own, &as_system), "a server may show a certificate that its owner added as its own");
    drop((shared, own));
    let kept = |bundle: &CaBundle| SHARED.lock().get(&bundle.fingerprint(&system())).map_or(0, Weak::strong_count);
    assert_eq!((kept(&plain), kept(&added)), (0, 0), "what no client uses is not kept");
}
