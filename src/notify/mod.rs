//! Takes the push notifications of registries and makes hints of them.
//!
//! `POST /v1/notify/{namespace}/{registry}`: the sender proves itself with the token of the Registry's `notifications.auth`. An
//! unknown Registry and a wrong token answer the same 401. Everything that is authenticated answers 202, since a sender that
//! gets anything else keeps its queue blocked. What a notification says is a hint: URLs in it are
//! ignored, and a digest only tells how long to go on looking, never what to copy.

mod distribution;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use kube::ResourceExt;
use subtle::ConstantTimeEq;

use crate::cluster::notification_token;
use crate::controllers::Context;

/// The routes of the receiver.
pub fn routes(context: Arc<Context>) -> Router {
    let receiver = Arc::new(Receiver { context, tokens: Mutex::default() });
    Router::new()
        .route("/v1/notify/{namespace}/{registry}", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(receiver)
}

struct Receiver {
    context: Arc<Context>,
    tokens: Mutex<HashMap<String, Known>>,
}

/// The token of a Registry as it was last read; kept so that notifications cause no calls to the API server.
#[derive(Clone)]
struct Known {
    generation: Option<i64>,
    token: Option<Vec<u8>>,
    read_at: Instant,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    Path((namespace, registry)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let expected = receiver.token(&namespace, &registry).await.unwrap_or_default();
    let matches = bool::from(shown.unwrap_or_default().ct_eq(&expected));
    if expected.is_empty() || !matches {
        return StatusCode::UNAUTHORIZED;
    }
    for (repository, tag, digest) in distribution::pushed_tags(&body) {
        receiver.context.metrics.hints.inc();
        tracing::debug!(registry, namespace, %repository, %tag, "notified");
        receiver.context.replicators.hint(&namespace, &registry, &repository, &tag, digest);
    }
    StatusCode::ACCEPTED
}

impl Receiver {
    async fn token(&self, namespace: &str, name: &str) -> Option<Vec<u8>> {
        let registry = self.context.registry(namespace, name)?;
        let (uid, generation) = (registry.uid()?, registry.metadata.generation);
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        if let Some(known) = known.filter(|known| known.generation == generation && known.is_fresh()) {
            return known.token;
        }
        let token = notification_token(&self.context.client, &registry).await.unwrap_or_else(|error| {
            tracing::warn!(registry = name, namespace, %error, "notifications cannot be authenticated");
            None
        });
        let known = Known { generation, token: token.clone(), read_at: Instant::now() };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, known| known.is_fresh());
        tokens.insert(uid, known);
        token
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        // What is absent is looked for again soon, but a flood of notifications still causes few reads.
        self.read_at.elapsed() < if self.token.is_some() { TOKEN_AGE } else { ABSENCE_AGE }
    }
}

const MAX_BODY_BYTES: usize = 1024 * 1024;
const TOKEN_AGE: Duration = Duration::from_secs(60);
const ABSENCE_AGE: Duration = Duration::from_secs(5);
