//! Answers in a form that was not asked for, and the words about them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use transship::copy::CopyError;
use transship::registry::{
    Client, Credentials, EgressPolicy, ErrorKind, FallbackTag, Reference, RegistryError, RegistryOptions, RequestLimits,
};

use super::pair::{RegistryPair, client};
use crate::support::image::{Image, OCI_INDEX};
use crate::support::registry::TestRegistry;
use crate::support::scripted::{Personality, ScriptedFault, ScriptedRegistry, When, gzipped};
use crate::support::tls::{TestAuthority, install_crypto_provider};
use crate::tag_filters::{files, registry, sync};

fn answer(status: u16, headers: Vec<(&'static str, String)>, body: impl Into<bytes::Bytes>) -> ScriptedFault {
    ScriptedFault::Answer { status, headers, body: body.into() }
}

/// Returns the error of a read of `app:1` that is answered so.
async fn refusal(fault: ScriptedFault) -> RegistryError {
    let registry = ScriptedRegistry::start(Personality::plain());
    registry.fault(When::asked("GET", "/manifests/").always(), fault);
    let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
    client(&registry).manifest(&repository, Reference::Tag(&tag)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_null_are_empty() {
    let registry = ScriptedRegistry::start(Personality::plain());
    let client = client(&registry);
    let null = |name: &str| answer(200, Vec::new(), format!(r#"{{"schemaVersion":2,"{name}":null}}"#));
    registry.fault(When::asked("GET", "/referrers/"), null("manifests"));
    registry.fault(When::asked("GET", "/tags/list"), null("tags"));
    registry.fault(When::asked("GET", "/_catalog"), null("repositories"));
    let repository = "app".parse().unwrap();
    let digest = Image::single(1, 1, 100).digest().parse().unwrap();
    assert!(client.referrers(&repository, &digest, FallbackTag::Absent).await.unwrap().digests.is_empty());
    assert!(client.tags_and_digests(&repository, &|_| true).await.unwrap().unwrap().tags.is_empty());
    assert!(client.repositories().await.unwrap().names.is_empty());

    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":null}}"#).into_bytes();
    let digest = crate::support::image::sha256(&bytes);
    pair.source.put_manifest("app", &digest, OCI_INDEX, bytes);
    pair.source.tag("app", "1", &digest);
    pair.copy("1", &digest).await.unwrap();
    assert_eq!(pair.destination.tags("app")["1"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_of_a_store_of_files_are_no_obstacle() {
    for content_type in ["binary/octet-stream", "application/octet-stream", "text/plain", "text/html"] {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        let image = Image::multi_platform(1, 500);
        pair.source.push("app", "1", &image);
        let odd = ScriptedFault::Headers(vec![("content-type", content_type.to_owned())]);
        pair.source.fault(When::asked("GET", "").always(), odd);
        pair.copy("1", &image.digest()).await.unwrap();
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "{content_type}");
        assert_eq!(pair.destination.media_type("app", "1").as_deref(), Some(OCI_INDEX), "{content_type}");
    }
}

#[tokio::test]
async fn all_that_a_registry_says_is_shown_and_no_secret() {
    let errors = json!({"errors": [
        {"code": "MANIFEST_INVALID", "message": "manifest invalid", "detail": "invalid URL on layer"},
        {"code": "DENIED", "message": "see https://s3.example/x?sig=canary", "detail": {"token": "canary"}},
    ]});
    let error = refusal(answer(400, Vec::new(), errors.to_string())).await;
    for words in ["invalid URL on layer", "DENIED: see https://s3.example/x", "[redacted]"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert!(!error.message.contains("canary"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_whose_body_never_ends_keeps_its_meaning() {
    for (status, kind) in [(404, ErrorKind::NotFound), (403, ErrorKind::Denied), (400, ErrorKind::Rejected)] {
        let endless = ScriptedFault::Endless { status, headers: Vec::new(), first: "no such image", more: " " };
        let began = Instant::now();
        let error = refusal(endless).await;
        assert!(error.kind == kind && error.message.contains("no such image"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_web_page_is_named_with_the_host_and_the_remedy() {
    let page = "<!DOCTYPE html><html><head><title>Sign in to Example</title></head></html>";
    for status in [200, 403, 404] {
        let error = refusal(answer(status, vec![("content-type", "text/html".to_owned())], page)).await;
        assert!(error.message.starts_with("127.0.0.1:"), "{error}");
        for words in ["a web page \"Sign in to Example\"", "check spec.url"] {
            assert!(error.message.contains(words), "{status}: {error}");
        }
    }
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 1, 100);
    pair.source.push("app", "1", &image);
    pair.destination.fault(When::asked("", "").always(), answer(200, Vec::new(), page));
    let copied = pair.copy("1", &image.digest()).await;
    let said = matches!(&copied, Err(CopyError::Destination(error)) if error.message.contains("Sign in to Example"));
    assert!(said, "the side is known: {copied:?}");
}

#[tokio::test]
async fn a_wait_of_hours_is_no_silent_one_and_says_its_end() {
    let began = Instant::now();
    let error = refusal(ScriptedFault::too_many(Some("21600"))).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(3600))));
    let end = error.message.split("it asks to wait until ").nth(1).unwrap_or_else(|| panic!("{error}"));
    let end: jiff::civil::DateTime = end[.."2026-11-27 05:25".len()].parse().unwrap();
    let wait = end.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().duration_since(jiff::Timestamp::now());
    assert!((350..=361).contains(&wait.as_mins()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_does_not_wait_for_hours_and_says_until_when_it_would() {
    let (source, destination) = (registry(), registry());
    for (seed, tag) in [(1, "good"), (2, "limited")] {
        source.push("app", tag, &Image::single(seed, 1, 500));
    }
    let files = files("wait-of-hours", &source, &[&destination]);
    sync(&files, 0).await;
    source.push("app", "limited", &Image::single(3, 1, 500));
    source.fault(When::asked("", "/manifests/").always(), ScriptedFault::too_many(Some("21600")));
    let began = Instant::now();
    let synced = sync(&files, 1).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {synced}", began.elapsed());
    assert!(synced.contains("it asks to wait until 2"), "{synced}");
}

fn client_of(url: &str) -> Client {
    install_crypto_provider();
    let url: url::Url = url.parse().unwrap();
    let allow = [url.authority().parse().unwrap()].into();
    let options = RegistryOptions {
        url,
        logins: Credentials::Anonymous.into(),
        ca_bundle: Some(TestAuthority::shared().pem().into()),
        trusted_hosts: Vec::new(),
        limits: RequestLimits::of_concurrency(4),
        templates: Vec::new(),
    };
    Client::new(options, Arc::new(EgressPolicy { allow, ..EgressPolicy::default() })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheme_that_does_not_fit_its_port_is_named_with_the_remedy() {
    let encrypted = TestRegistry::distribution("scheme-https").tls().start().await;
    let plain = TestRegistry::distribution("scheme-http").start().await;
    let repository = "app".parse().unwrap();
    let refused = async |url: String| client_of(&url).first_tags(&repository).await.unwrap_err();
    let error = refused(format!("http://{}", encrypted.host())).await;
    assert!(error.message.contains("this port speaks https: write https:// in spec.url"), "{error}");
    let error = refused(format!("https://{}", plain.host())).await;
    assert!(error.kind == ErrorKind::TlsRefused && error.message.contains("write http:// in spec.url"), "{error}");
}

/// Serves TLS to clients with a certificate of the run's authority; returns the address.
async fn serve_with_client_certificates() -> std::net::SocketAddr {
    install_crypto_provider();
    let authority = TestAuthority::shared();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let own = authority.loopback_certificate();
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = config.with_single_cert(vec![own.der.into()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _refused = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_is_wanted_is_named() {
    let address = serve_with_client_certificates().await;
    let error = client_of(&format!("https://{address}")).ping().await.unwrap_err();
    assert!(error.message.contains("the server asks for a client certificate"), "{error:?}");
}

#[tokio::test]
async fn json_that_comes_compressed_although_unasked_is_read() {
    let registry = ScriptedRegistry::start(Personality::plain());
    let image = Image::single(1, 1, 500);
    registry.push("app", "1", &image);
    let gzip = |body: &[u8]| answer(200, vec![("content-encoding", "gzip".to_owned())], gzipped(body));
    registry.fault(When::asked("GET", "/manifests/"), gzip(&image.bytes));
    registry.fault(When::asked("GET", "/tags/list"), gzip(br#"{"tags":["1"]}"#));
    let client = client(&registry);
    let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
    let manifest = client.manifest(&repository, Reference::Tag(&tag)).await.unwrap();
    assert_eq!(manifest.digest.as_str(), image.digest());
    let listing = client.tags_and_digests(&repository, &|_| true).await.unwrap().unwrap();
    assert_eq!(listing.tags.len(), 1);
}
