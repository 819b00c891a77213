//! An HTTP proxy on loopback that counts requests, and lets nothing through from a chosen one on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::sync::watch;

use super::background::BackgroundServer;
use super::tls::install_crypto_provider;

/// The request at which a gate closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// None.
    Never,
    /// Before the request with this number, from 1, reaches the registry.
    Before(usize),
    /// After the request with this number among those that write had its effect, and before its answer is sent.
    AfterWrite(usize),
}

/// Shared by the proxies of one run. Once closed it stays so.
pub struct Gate {
    closing: Closing,
    requests: AtomicUsize,
    writes: AtomicUsize,
    closed: watch::Sender<bool>,
}

impl Gate {
    pub fn new(closing: Closing) -> Arc<Self> {
        let (requests, writes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { closing, requests, writes, closed: watch::Sender::new(false) })
    }

    /// Waits until it closes.
    pub async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Goes on if the gate is open, and never else.
    async fn pass(&self, closes: bool) {
        if closes {
            self.closed.send_replace(true);
        }
        if *self.closed.borrow() {
            std::future::pending::<()>().await;
        }
    }
}

/// A proxy in front of one registry, through the gate of the moment.
pub struct GateProxy {
    server: BackgroundServer,
    gate: Arc<Mutex<Arc<Gate>>>,
}

#[derive(Clone)]
struct GatedRoute {
    upstream: SocketAddr,
    client: reqwest::Client,
    gate: Arc<Mutex<Arc<Gate>>>,
}

impl GateProxy {
    pub fn start(upstream: SocketAddr) -> Self {
        install_crypto_provider();
        let gate = Arc::new(Mutex::new(Gate::new(Closing::Never)));
        let shared = Arc::clone(&gate);
        let server = BackgroundServer::start("gate-proxy", move |listener| async move {
            let redirects = reqwest::redirect::Policy::none();
            let client = reqwest::Client::builder().no_proxy().redirect(redirects).build().expect("a client");
            let router =
                axum::Router::new().fallback(forward).with_state(GatedRoute { upstream, client, gate: shared });
            let _ = axum::serve(listener, router).await;
        });
        Self { server, gate }
    }

    /// Leads requests that begin from now on through `gate`. Those of an earlier gate stay where they are.
    pub fn set(&self, gate: &Arc<Gate>) {
        *self.gate.lock().unwrap() = Arc::clone(gate);
    }

    pub fn host(&self) -> String {
        self.server.address().to_string()
    }
}

async fn forward(State(way): State<GatedRoute>, request: Request) -> Response {
    let gate = Arc::clone(&way.gate.lock().unwrap());
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 64 << 20).await.unwrap_or_default();
    let number = gate.requests.fetch_add(1, Ordering::SeqCst) + 1;
    gate.pass(gate.closing == Closing::Before(number)).await;
    let is_write = !["GET", "HEAD"].contains(&head.method.as_str());
    let url = format!("http://{}{}", way.upstream, head.uri);
    // The host stays the proxy's, so that the locations that the registry names lead here.
    let sent = way.client.request(head.method.clone(), url).headers(head.headers).body(body).send().await;
    let answer = sent.expect("the registry answers");
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.expect("the registry ends its answer");
    let closes = is_write && Closing::AfterWrite(gate.writes.fetch_add(1, Ordering::SeqCst) + 1) == gate.closing;
    gate.pass(closes).await;
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if head.method != "HEAD" {
        headers.remove(CONTENT_LENGTH);
    }
    let mut response = Response::new(Body::from(body));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}
