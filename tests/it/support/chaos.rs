//! An HTTP proxy on loopback that spoils a share of the requests at random.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;

use super::background::BackgroundServer;
use super::gate::{Upstream, status};

/// A proxy in front of one registry. Each spoilt request is refused with 503 or 429, breaks before or after its effect,
/// is late, or its answer is cut in the middle.
pub struct ChaosProxy {
    server: BackgroundServer,
    chances: Arc<Chances>,
}

struct Chances {
    /// Of a thousand.
    share: AtomicU64,
    requests: AtomicU64,
    spoilt: AtomicU64,
    random: AtomicU64,
}

#[derive(Clone)]
struct SpoiltRoute {
    upstream: Upstream,
    chances: Arc<Chances>,
}

impl Chances {
    /// Returns a number below `limit`.
    fn draw(&self, limit: u64) -> u64 {
        let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

impl ChaosProxy {
    /// Listens on a free port and forwards to `upstream`; of a thousand requests `share` are spoilt.
    pub fn start(upstream: SocketAddr, share: u64) -> Self {
        Self::in_front_of(&format!("http://{upstream}"), share)
    }

    /// Starts a proxy without TLS in front of any server.
    pub fn in_front_of(url: &str, share: u64) -> Self {
        let chances = Arc::new(Chances {
            share: AtomicU64::new(share),
            requests: AtomicU64::new(0),
            spoilt: AtomicU64::new(0),
            random: AtomicU64::new(url.bytes().map(u64::from).sum()),
        });
        let (shared, url) = (chances.clone(), url.to_owned());
        let server = BackgroundServer::start("chaos-proxy", move |listener| async move {
            let route = SpoiltRoute { upstream: Upstream::new(&url), chances: shared };
            let _ = axum::serve(listener, axum::Router::new().fallback(forward).with_state(route)).await;
        });
        Self { server, chances }
    }

    /// Spoils so many of a thousand requests from now on.
    pub fn spoil(&self, share: u64) {
        self.chances.share.store(share, Ordering::Relaxed);
    }

    /// Returns its host and port.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Returns the numbers of requests, and of spoilt ones.
    pub fn counts(&self) -> (u64, u64) {
        (self.chances.requests.load(Ordering::Relaxed), self.chances.spoilt.load(Ordering::Relaxed))
    }
}

async fn forward(State(SpoiltRoute { upstream, chances }): State<SpoiltRoute>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 64 << 20).await.unwrap_or_default();
    chances.requests.fetch_add(1, Ordering::Relaxed);
    if chances.draw(1_000) >= chances.share.load(Ordering::Relaxed) {
        return upstream.send(head, body).await;
    }
    chances.spoilt.fetch_add(1, Ordering::Relaxed);
    match chances.draw(6) {
        0 => status(503),
        1 => {
            let mut answer = status(429);
            answer.headers_mut().insert("retry-after", 1.into());
            answer
        }
        2 => broken(),
        3 => {
            tokio::time::sleep(LATE).await;
            upstream.send(head, body).await
        }
        4 => {
            upstream.send(head, body).await;
            broken()
        }
        // A watch has no middle.
        _ if head.uri.query().is_some_and(|query| query.contains("watch=")) => broken(),
        _ => cut(upstream.send(head, body).await).await,
    }
}

/// Ends the connection without an answer.
fn broken() -> ! {
    std::panic::resume_unwind(Box::new("the proxy breaks a connection"))
}

/// Returns the first half of an answer, and an end that is none.
async fn cut(answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
    if body.is_empty() {
        broken();
    }
    head.headers.insert("content-length", body.len().into());
    let pieces = [Ok(body.slice(..body.len() / 2)), Err(std::io::Error::other("cut"))];
    Response::from_parts(head, Body::from_stream(futures::stream::iter(pieces)))
}

const LATE: Duration = Duration::from_secs(2);
