//! Probes and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::heartbeats::Heartbeats;
use crate::locked::Locked;
use crate::metrics::{self, Metrics};

/// The steps of the start that are not done yet; the operator is ready when none is left.
#[derive(Clone, Default)]
pub(crate) struct Readiness(Arc<Locked<Vec<&'static str>>>);

impl Readiness {
    /// Returns a readiness that waits for all of `steps`.
    pub(crate) fn waiting_for(steps: &[&'static str]) -> Self {
        Self(Arc::new(Locked::new(steps.to_vec())))
    }

    /// Records that `step` is done.
    pub(crate) fn reached(&self, step: &str) {
        self.0.lock().retain(|other| *other != step);
    }

    fn missing(&self) -> String {
        self.0.lock().join(", ")
    }
}

/// Returns the routes of the admin port.
pub(crate) fn routes(metrics: Arc<Metrics>, readiness: Readiness, heartbeats: Heartbeats) -> Router {
    Router::new()
        .route("/healthz", get(move || async move { healthz(&heartbeats) }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()) }))
        .with_state(readiness)
}

fn healthz(heartbeats: &Heartbeats) -> (StatusCode, String) {
    let standing = heartbeats.standing();
    if standing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let parts: Vec<String> = standing.iter().map(|(part, seconds)| format!("{part} for {seconds} s")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("standing still: {}\n", parts.join(", ")))
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.missing() {
        missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {missing}\n")),
    }
}
