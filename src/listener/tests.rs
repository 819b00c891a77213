//! Ports with more strangers than they have places for.

use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bodies::BodyError;
use super::caller::MAX_STRANGERS;
use super::*;

/// A port on loopback that knows callers with the header `known`.
struct TestPort {
    address: SocketAddr,
    certificate: Vec<u8>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl TestPort {
    async fn start() -> Self {
        Self::with_tls(true).await
    }

    async fn with_tls(has_tls: bool) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], signing_key.serialize_der().try_into().unwrap())
            .unwrap();
        let (_, config) = watch::channel(Arc::new(config));
        let routes = Router::new().route(
            "/",
            get(async |Extension(caller): Extension<Caller>, headers: HeaderMap| {
                if headers.contains_key("known") {
                    caller.accept("known");
                }
                StatusCode::OK
            }),
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, has_tls.then_some(config), routes, shutdown.clone()));
        Self { address, certificate: cert.pem().into_bytes(), shutdown, serving }
    }

    fn client(&self) -> reqwest::Client {
        self.client_of(reqwest::Client::builder())
    }

    fn client_of(&self, builder: reqwest::ClientBuilder) -> reqwest::Client {
        let certificate = reqwest::Certificate::from_pem(&self.certificate).unwrap();
        builder
            .tls_certs_only([certificate])
            .resolve("localhost", self.address)
            .pool_max_idle_per_host(1)
            .build()
            .unwrap()
    }

    fn url(&self, has_tls: bool) -> String {
        format!("{}://localhost:{}/", if has_tls { "https" } else { "http" }, self.address.port())
    }

    async fn silent(&self) -> Vec<TcpStream> {
        let mut silent = Vec::new();
        for _ in 0..4 * MAX_STRANGERS {
            silent.push(TcpStream::connect(self.address).await.unwrap());
        }
        silent
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_connections_keep_no_caller_out() {
    let port = TestPort::start().await;
    let known = port.client();
    known.get(port.url(true)).header("known", "yes").send().await.unwrap();
    let silent = port.silent().await;
    assert_eq!(silent.len(), 1024);
    let began = std::time::Instant::now();
    assert_eq!(port.client().get(port.url(true)).send().await.unwrap().status(), 200);
    let took = began.elapsed();
    println!("a handshake and an answer beside {} silent connections: {took:?}", silent.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The connection that was known before is still the same one, and the silent ones made room.
    assert_eq!(known.get(port.url(true)).send().await.unwrap().status(), 200);
    let mut cut = 0;
    for mut stream in silent {
        let ended = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
        cut += usize::from(ended.is_ok());
    }
    assert!(cut >= 1024 - MAX_STRANGERS, "{cut}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_ends_although_connections_say_nothing() {
    let port = TestPort::start().await;
    let mut half = TcpStream::connect(port.address).await.unwrap();
    half.write_all(&[0x16, 0x03]).await.unwrap();
    let client = port.client();
    client.get(port.url(true)).header("known", "yes").send().await.unwrap();
    port.shutdown.cancel();
    let began = std::time::Instant::now();
    port.serving.await.unwrap();
    assert!(began.elapsed() < GRACE + Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_is_read_within_its_bounds() {
    let bodies = Bodies::new(1024);
    let read = async |bytes: usize| bodies.read("a", axum::body::Body::from(vec![b'a'; bytes])).await;
    assert_eq!(read(1024).await.map(|body| body.len()), Ok(1024));
    assert_eq!(read(1025).await.map(|body| body.len()), Err(BodyError::TooLarge));
    let parts = (0..3).map(|_| Ok::<_, std::io::Error>(vec![b'a'; 400]));
    let unsized_body = axum::body::Body::from_stream(futures::stream::iter(parts));
    assert_eq!(bodies.read("a", unsized_body).await.map(|body| body.len()), Err(BodyError::TooLarge));
}

#[tokio::test]
async fn bodies_wait_for_room_and_slow_ones_are_given_up() {
    let bodies = Bodies::within(Duration::from_millis(100), 4 * 1024 * 1024);
    let whole = || axum::body::Body::from(vec![b'a'; 4 * 1024 * 1024]);
    let held = bodies.read("a", whole()).await.ok().unwrap();
    assert_eq!(bodies.read("a", whole()).await.map(|body| body.len()), Err(BodyError::Full));
    drop(held);
    assert_eq!(bodies.read("a", dripping()).await.map(|body| body.len()), Err(BodyError::Late));
    assert!(bodies.read("a", whole()).await.is_ok());
}

#[tokio::test]
async fn a_sender_whose_bodies_never_end_keeps_no_other_out() {
    let bodies = Bodies::within(Duration::from_secs(60), 1024 * 1024);
    let greedy = || {
        let bodies = bodies.clone();
        tokio::spawn(async move { bodies.read("greedy", dripping()).await.map(|body| body.len()) })
    };
    let greedy: Vec<_> = (0..20).map(|_| greedy()).collect();
    tokio::task::yield_now().await;
    let read = bodies.read("other", axum::body::Body::from(vec![b'a'; 1024 * 1024]));
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert_eq!(read.expect("it does not wait").map(|body| body.len()), Ok(1024 * 1024));
    greedy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_speaks_no_http_2() {
    for (has_tls, expected) in [(false, false), (true, true)] {
        let port = TestPort::with_tls(has_tls).await;
        let client = port.client_of(reqwest::Client::builder().http2_prior_knowledge());
        let answer = client.get(port.url(has_tls)).header("known", "yes").send().await;
        assert_eq!(answer.is_ok_and(|answer| answer.version() == reqwest::Version::HTTP_2), expected, "{has_tls}");
    }
    let port = TestPort::with_tls(false).await;
    assert_eq!(port.client().get(port.url(false)).send().await.unwrap().status(), 200);
}

/// Returns a body that never ends.
fn dripping() -> axum::body::Body {
    axum::body::Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>())
}
