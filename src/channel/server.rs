//! The operator's side of the channel: HTTPS with a certificate that can change, for callers with a worker's token.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::messages::{GrantAnswer, GrantRequest, Report, ReportAnswer};

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
    Router::new()
        .route("/v1/report", post(report))
        .route("/v1/grant", post(grant))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api)
}

/// Serves `routes` over TLS until `shutdown`. A new configuration applies to the connections that come after it.
///
/// # Errors
/// When the port cannot be opened.
pub(super) async fn serve(
    address: SocketAddr,
    config: watch::Receiver<Arc<rustls::ServerConfig>>,
    routes: Router,
    shutdown: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    let (ready, connections) = mpsc::channel(16);
    Ok(async move {
        let serving = axum::serve(Connections { connections, local }, routes)
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        tokio::select! {
            () = accept(listener, config, ready) => {}
            _ = serving => {}
        }
    })
}

async fn report(State(api): State<Arc<dyn WorkerApi>>, headers: HeaderMap, Json(report): Json<Report>) -> Response {
    match caller(api.as_ref(), &headers) {
        Some(job) => answered(api.report(job, report).await),
        None => answered::<ReportAnswer>(Err(unknown(api.as_ref()))),
    }
}

async fn grant(State(api): State<Arc<dyn WorkerApi>>, headers: HeaderMap, Json(ask): Json<GrantRequest>) -> Response {
    match caller(api.as_ref(), &headers) {
        Some(job) => answered(api.grant(job, ask).await),
        None => answered::<GrantAnswer>(Err(unknown(api.as_ref()))),
    }
}

fn unknown(api: &dyn WorkerApi) -> WorkerApiError {
    if api.is_open() { WorkerApiError::Unknown } else { WorkerApiError::Unavailable }
}

fn caller(api: &dyn WorkerApi, headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    api.job_of(value.strip_prefix("Bearer ")?)
}

fn answered<T: serde::Serialize>(answer: Result<T, WorkerApiError>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(WorkerApiError::Unknown) => StatusCode::UNAUTHORIZED.into_response(),
        Err(WorkerApiError::Late) => StatusCode::CONFLICT.into_response(),
        Err(WorkerApiError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Accepts connections and does at most [`MAX_HANDSHAKES`] TLS handshakes at a time, so that a silent caller does not
/// delay the others.
async fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<rustls::ServerConfig>>,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the channel cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(config.borrow().clone());
        let ready = ready.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                // A closed channel means that the server ends.
                Ok(Ok(stream)) => drop(ready.send((stream, from)).await),
                Ok(Err(error)) => tracing::debug!(%from, %error, "a worker's connection failed"),
                Err(_) => tracing::debug!(%from, "a worker's connection took too long"),
            }
        });
    }
}

struct Connections {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl axum::serve::Listener for Connections {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

const MAX_BODY_BYTES: usize = 256 * 1024;
const MAX_HANDSHAKES: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
