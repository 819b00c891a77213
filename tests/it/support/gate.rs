//! An HTTP proxy on loopback that counts requests, and lets nothing through from a chosen one on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use reqwest::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::sync::watch;

use super::background::BackgroundServer;
use super::tls::client_builder;

/// The request at which a gate closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// None.
    Never,
    /// Before the request with this number, from 1, reaches the registry.
    Before(usize),
    /// Before the request with this number among those that write has its effect.
    BeforeWrite(usize),
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

    /// Counts the requests that write, so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
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
    upstream: Upstream,
    gate: Arc<Mutex<Arc<Gate>>>,
}

/// The server behind a proxy.
#[derive(Clone)]
pub(super) struct Upstream {
    url: String,
    client: reqwest::Client,
}

impl Upstream {
    /// Returns the server at `url`, which has no path.
    pub(super) fn new(url: &str) -> Self {
        let redirects = reqwest::redirect::Policy::none();
        let client = client_builder().http1_only().redirect(redirects).build().expect("a client");
        Self { url: url.to_owned(), client }
    }

    /// Sends a request on. The answer is whole, but that of a GET, which may be a watch.
    pub(super) async fn send(&self, head: Parts, body: Bytes) -> Response {
        let (is_read, is_head) = (head.method == "GET", head.method == "HEAD");
        let url = format!("{}{}", self.url, head.uri);
        // The host stays the proxy's, so that the locations that the registry names lead here.
        let sent = self.client.request(head.method, url).headers(head.headers).body(body).send().await;
        let Ok(answer) = sent else { return status(502) };
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = match is_read {
            true => Body::from_stream(answer.bytes_stream()),
            false => Body::from(answer.bytes().await.unwrap_or_default()),
        };
        headers.remove(CONNECTION);
        headers.remove(TRANSFER_ENCODING);
        if !is_head && !is_read {
            headers.remove(CONTENT_LENGTH);
        }
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        response
    }
}

/// Returns an answer without a body.
pub(super) fn status(code: u16) -> Response {
    Response::builder().status(code).body(Body::empty()).expect("an answer")
}

impl GateProxy {
    pub fn start(upstream: SocketAddr) -> Self {
        Self::in_front_of(&format!("http://{upstream}"))
    }

    /// Starts a proxy without TLS in front of any server.
    pub fn in_front_of(url: &str) -> Self {
        let gate = Arc::new(Mutex::new(Gate::new(Closing::Never)));
        let (shared, url) = (Arc::clone(&gate), url.to_owned());
        let server = BackgroundServer::start("gate-proxy", move |listener| async move {
            let route = GatedRoute { upstream: Upstream::new(&url), gate: shared };
            let _ = axum::serve(listener, axum::Router::new().fallback(forward).with_state(route)).await;
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
    let number = if is_write { gate.writes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
    gate.pass(is_write && gate.closing == Closing::BeforeWrite(number)).await;
    let answer = way.upstream.send(head, body).await;
    gate.pass(is_write && gate.closing == Closing::AfterWrite(number)).await;
    answer
}
