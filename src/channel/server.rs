//! The operator's side of the channel: HTTPS with a certificate that can change, for callers with a worker's token.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::messages::{GrantAnswer, GrantRequest, Report, ReportAnswer};
use crate::listener::{Bodies, Caller, discard_stranger};

/// Answers the calls of workers.
pub(crate) trait WorkerApi: Send + Sync + 'static {
    /// Returns true once all workers of the previous process have been adopted. Until then an unknown token is answered
    /// with 503 rather than 401.
    fn is_open(&self) -> bool;
    /// Returns the Job whose token this is; `None` if there is none.
    fn job_of(&self, token: &str) -> Option<String>;
    /// Takes a report of a Job's worker.
    fn report(&self, job: String, report: Report) -> BoxFuture<'_, Result<ReportAnswer, WorkerApiError>>;
    /// Decides about a grant.
    fn grant(&self, job: String, request: GrantRequest) -> BoxFuture<'_, Result<GrantAnswer, WorkerApiError>>;
}

/// A call that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WorkerApiError {
    /// The worker is not known, or not any more: it has to end.
    #[error("this worker is not known: it has to end")]
    Unknown,
    /// A newer call was there before.
    #[error("a newer call was there before")]
    Late,
    /// The operator cannot answer now.
    #[error("the operator cannot answer now")]
    Unavailable,
}

/// Returns the routes of the channel.
pub(crate) fn routes(api: Arc<dyn WorkerApi>) -> Router {
    let state = ChannelState { api, bodies: Bodies::new(MAX_BODY_BYTES) };
    Router::new().route("/v1/report", post(report)).route("/v1/grant", post(grant)).with_state(state)
}

/// The state of the handlers.
#[derive(Clone)]
struct ChannelState {
    api: Arc<dyn WorkerApi>,
    bodies: Bodies,
}

async fn report(State(state): State<ChannelState>, call: Call<Report>) -> Result<Json<ReportAnswer>, WorkerApiError> {
    state.api.report(call.job, call.message).await.map(Json)
}

async fn grant(
    State(state): State<ChannelState>,
    call: Call<GrantRequest>,
) -> Result<Json<GrantAnswer>, WorkerApiError> {
    state.api.grant(call.job, call.message).await.map(Json)
}

/// A call of a known worker; nothing is kept of another one's body.
struct Call<T> {
    /// The Job of the worker.
    job: String,
    message: T,
}

impl<T: DeserializeOwned> FromRequest<ChannelState> for Call<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &ChannelState) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let Some(job) = job_of(state.api.as_ref(), &parts.headers) else {
            discard_stranger(body).await;
            return Err(unknown(state.api.as_ref()).into_response());
        };
        if let Some(caller) = parts.extensions.get::<Caller>() {
            caller.accept(&job);
        }
        let body = state.bodies.read(&job, body).await;
        let body = body.map_err(|error| (error.status(), error.to_string()).into_response())?;
        let message = serde_json::from_slice(&body);
        let message = message.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response())?;
        Ok(Self { job, message })
    }
}

fn unknown(api: &dyn WorkerApi) -> WorkerApiError {
    if api.is_open() { WorkerApiError::Unknown } else { WorkerApiError::Unavailable }
}

fn job_of(api: &dyn WorkerApi, headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    api.job_of(value.strip_prefix("Bearer ")?)
}

impl IntoResponse for WorkerApiError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::Late => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        status.into_response()
    }
}

const MAX_BODY_BYTES: usize = 256 * 1024;
