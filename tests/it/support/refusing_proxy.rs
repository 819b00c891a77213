//! An HTTP proxy on loopback that answers chosen requests itself, with an error of the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;

use super::background::BackgroundServer;
use super::gate::{Upstream, status};

/// A proxy in front of one server.
pub struct RefusingProxy {
    server: BackgroundServer,
    refusals: Arc<Refusals>,
}

#[derive(Default)]
struct Refusals {
    /// A part of the paths that are refused.
    part: Mutex<Option<String>>,
    count: AtomicUsize,
}

#[derive(Clone)]
struct RefusedRoute {
    upstream: Upstream,
    refusals: Arc<Refusals>,
}

impl RefusingProxy {
    /// Starts a proxy without TLS in front of the server at `url`; it lets everything through.
    pub fn in_front_of(url: &str) -> Self {
        let (refusals, url) = (Arc::new(Refusals::default()), url.to_owned());
        let shared = refusals.clone();
        let server = BackgroundServer::start("refusing-proxy", move |listener| async move {
            let route = RefusedRoute { upstream: Upstream::new(&url), refusals: shared };
            let _ = axum::serve(listener, axum::Router::new().fallback(forward).with_state(route)).await;
        });
        Self { server, refusals }
    }

    /// Answers 500 to requests whose path has this part, from now on; to no others.
    pub fn refuse(&self, part: &str) {
        *self.refusals.part.lock().unwrap() = Some(part.to_owned());
    }

    /// Lets everything through again. Returns the number of requests that were refused so far.
    pub fn let_through(&self) -> usize {
        *self.refusals.part.lock().unwrap() = None;
        self.refusals.count.load(Ordering::Relaxed)
    }

    /// Returns its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

async fn forward(State(RefusedRoute { upstream, refusals }): State<RefusedRoute>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let is_refused = {
        let part = refusals.part.lock().unwrap();
        part.as_deref().is_some_and(|part| head.uri.path().contains(part))
    };
    if is_refused {
        refusals.count.fetch_add(1, Ordering::Relaxed);
        return status(500);
    }
    let body: Bytes = to_bytes(body, 64 << 20).await.unwrap_or_default();
    upstream.send(head, body).await
}
