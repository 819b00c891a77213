//! Takes the push notifications of registries and makes hints of them.
//!
//! `POST /v1/notify/{namespace}/{registry}`: the sender proves itself with the token of the Registry's
//! `notifications.auth`. An unknown Registry and a wrong token answer the same 401. Everything that is authenticated
//! answers 202, since a sender that gets anything else keeps its queue blocked. What a notification says is a hint:
//! URLs in it are ignored, and a digest only bounds the time of looking for it; it is never copied unseen.

mod distribution;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use subtle::ConstantTimeEq;

use crate::metrics::Metrics;
use crate::plan::NamespacedName;
use crate::replication::{Access, Configurations};

/// Takes notifications.
pub struct Receiver {
    /// Has the tokens.
    pub access: Arc<dyn Access>,
    /// Takes the hints.
    pub configurations: Arc<Configurations>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Returns the routes of the receiver.
pub fn routes(receiver: Receiver) -> Router {
    Router::new()
        .route("/v1/notify/{namespace}/{registry}", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(receiver))
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let registry = NamespacedName { namespace, name };
    let expected = receiver.access.notification_token(&registry).await.unwrap_or_default();
    let matches = bool::from(shown.unwrap_or_default().ct_eq(&expected));
    if expected.is_empty() || !matches {
        return StatusCode::UNAUTHORIZED;
    }
    for (repository, tag, digest) in distribution::pushed_tags(&body) {
        receiver.metrics.hints.inc();
        tracing::debug!(registry = registry.name, namespace = registry.namespace, %repository, %tag, "notified");
        receiver.configurations.hint((&registry.namespace, &registry.name), &repository, &tag, digest.as_ref());
    }
    StatusCode::ACCEPTED
}

const MAX_BODY_BYTES: usize = 1024 * 1024;
