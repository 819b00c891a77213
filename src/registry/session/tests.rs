//! Retries, redirects, and the egress guard on live connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::registry::testing::{Reply, Server, options, password};
use crate::registry::{Client, Credentials, EgressPolicy, ErrorKind, RegistryError};

async fn ping(url: &str, policy: EgressPolicy) -> RegistryError {
    let client = Client::new(options(url, Credentials::Anonymous, &[]), Arc::new(policy)).unwrap();
    client.ping().await.unwrap_err()
}

/// Returns a registry that sends the tags to wherever `location` says, after it has seen a password.
async fn redirecting(location: String) -> Server {
    Server::start(move |seen, _| match seen.header("authorization") {
        None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(307, "").header("Location", &location),
    })
    .await
}

#[tokio::test]
async fn what_passes_is_tried_again_and_retry_after_is_kept() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(503, ""),
        1 => Reply::new(429, "slow down").header("Retry-After", "0.1"),
        _ => Reply::new(200, "{}"),
    })
    .await;
    let client = server.client();
    let started = Instant::now();
    client.ping().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn what_does_not_pass_is_tried_four_times_or_once() {
    for (status, kind, tries) in [
        (500, ErrorKind::Unavailable, 4),
        (520, ErrorKind::Unavailable, 1),
        (403, ErrorKind::Denied, 1),
        (404, ErrorKind::NotFound, 1),
        (418, ErrorKind::Rejected, 1),
    ] {
        let server =
            Server::start(move |_, _| Reply::new(status, r#"{"errors":[{"code":"X","message":"why"}]}"#)).await;
        let error = server.client().ping().await.unwrap_err();
        assert_eq!((error.kind, server.seen().len()), (kind, tries), "{status}");
        assert!(error.message.contains(&status.to_string()) && error.message.contains("X: why"), "{error}");
    }
}

#[tokio::test]
async fn a_long_wait_is_left_to_the_caller_and_holds_back_all_requests() {
    let server = Server::start(|_, _| Reply::new(429, "").header("Retry-After", "7200")).await;
    let client = server.client();
    for _ in 0..2 {
        let error = client.ping().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited);
        assert!(error.retry_after.unwrap() > Duration::from_secs(3500), "{:?}", error.retry_after);
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_authorization() {
    let storage = Server::start(|_, _| Reply::new(200, r#"{"tags":["v1"]}"#)).await;
    let place = format!("localhost:{}", storage.port);
    let server = redirecting(format!("http://{place}/x?signature=abc")).await;
    let repository = "a".parse().unwrap();

    let client = server.client_trusting(password(), &[place], &[&server, &storage]);
    assert_eq!(client.tags(&repository).await.unwrap().unwrap().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);

    let client = server.client_trusting(password(), &[], &[&server, &storage]);
    let error = client.tags(&repository).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.contains("trustedHosts") && !error.message.contains("abc"), "{error}");
    assert_eq!(storage.seen().len(), 1);
}

#[tokio::test]
async fn redirects_reach_no_address_that_the_guard_refuses() {
    for location in [
        "https://169.254.169.254/latest",
        "https://[::ffff:a9fe:a9fe]/",
        "https://2852039166/",
        "https://10.1.2.3/x",
        "https://localhost/x",
        "https://127.0.0.1:1/x",
    ] {
        let server = redirecting(location.to_owned()).await;
        let error = server.client_as(password()).tags(&"a".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::EgressRefused, "{location}: {error}");
    }
}

#[tokio::test]
async fn a_private_host_that_only_the_owner_trusts_is_not_reached() {
    let repository = "a".parse().unwrap();
    for (location, trusted) in
        [("http://10.1.2.3:8500/v1/kv/x", "10.1.2.3:8500"), ("https://192.168.7.7/x", "192.168.7.7")]
    {
        let server = redirecting(location.to_owned()).await;
        let client = server.client_trusting(password(), &[trusted.to_owned()], &[&server]);
        let error = client.tags(&repository).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::EgressRefused, "{location}: {error}");
        assert!(error.message.contains("--egress-allow"), "{error}");
    }
}

#[tokio::test]
async fn words_of_a_host_that_is_not_the_registrys_are_not_repeated() {
    let service = Server::start(|_, _| Reply::new(500, "internal: secret detail of the service, 42")).await;
    let place = format!("localhost:{}", service.port);
    let server = redirecting(format!("http://{place}/v1/kv/config")).await;
    let client = server.client_trusting(password(), std::slice::from_ref(&place), &[&server, &service]);
    let error = client.tags(&"a".parse().unwrap()).await.unwrap_err();
    assert!(error.message.contains("answered 500") && !error.message.contains("secret"), "{error}");

    let realm = format!("http://{place}/token");
    let server = Server::start(move |_, _| {
        Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"s\""))
    })
    .await;
    let client = server.client_trusting(password(), std::slice::from_ref(&place), &[&server, &service]);
    let error = client.ping().await.unwrap_err();
    assert!(error.message.contains("token service") && !error.message.contains("secret"), "{error}");
}

#[tokio::test]
async fn redirects_end() {
    let server = redirecting("/again".to_owned()).await;
    let error = server.client_as(password()).tags(&"a".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    assert_eq!(server.count("GET /again"), 5);
}

#[tokio::test]
async fn this_machine_is_refused_unless_it_is_listed() {
    let server = Server::start(|_, _| Reply::new(200, "{}")).await;
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let error = ping(&format!("http://{host}:{}", server.port), EgressPolicy::default()).await;
        assert_eq!(error.kind, ErrorKind::EgressRefused, "{error}");
        assert!(error.message.contains("--egress-allow"), "{error}");
    }
    assert!(server.seen().is_empty());
    server.client().ping().await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_or_without_a_listener_is_recognised() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let allow =
        |port| EgressPolicy { allow: [format!("127.0.0.1:{port}").parse().unwrap()].into(), ..EgressPolicy::default() };
    let error = ping(&format!("https://127.0.0.1:{port}"), allow(port)).await;
    assert_eq!(error.kind, ErrorKind::TlsRefused, "{error}");
    let error = ping("http://127.0.0.1:1", allow(1)).await;
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_registry_whose_own_certificate_is_the_ca_bundle_answers_over_tls() {
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            let _ = stream.shutdown().await;
        }
    });
    let client = |ca_bundle: Option<String>| {
        let mut options = options(&format!("https://127.0.0.1:{port}"), Credentials::Anonymous, &[]);
        options.ca_bundle = ca_bundle.map(String::into_bytes);
        let allow = [format!("127.0.0.1:{port}").parse().unwrap()].into();
        Client::new(options, Arc::new(EgressPolicy { allow, ..EgressPolicy::default() })).unwrap()
    };
    client(Some(certificate.pem())).ping().await.unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = client(Some(format!("{garbage}{other}"))).ping().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TlsRefused);
    assert!(error.message.contains("add that very certificate to the CA bundle"), "{error}");
    assert!(error.message.contains("of the CA bundle certificate 1 cannot be parsed"), "{error}");
}

#[tokio::test]
async fn options_that_cannot_be_used_are_refused_at_once() {
    let new = |ca_bundle: Option<Vec<u8>>, trusted: &str, url: &str| {
        let mut options = options(url, Credentials::Anonymous, &[trusted.to_owned()]);
        options.ca_bundle = ca_bundle;
        Client::new(options, Arc::default()).map_err(|error| error.kind)
    };
    let url = "https://r.example";
    assert!(new(None, "auth.example", url).is_ok());
    for result in [
        new(Some(Vec::new()), "auth.example", url),
        new(Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()), "auth.example", url),
        new(Some(vec![b'a'; 300 * 1024]), "auth.example", url),
        new(None, "https://auth.example", url),
        new(None, "auth.example", "https://user:secret@r.example"),
        new(None, "auth.example", "ftp://r.example"),
    ] {
        assert!(matches!(result, Err(ErrorKind::Configuration)), "{result:?}");
    }
}
