//! HTTP on a port that strangers reach, within bounds: of connections, of time, and of bytes in flight.
//!
//! A connection is a stranger until a handler has accepted its credentials. Strangers cannot keep others out: where
//! there are too many, the address with the most of them loses its oldest one; of known connections, the sender with
//! the most. Nothing is read of a body before its sender is known, and no sender takes all the room for bodies.

mod bodies;
mod caller;
mod pass_on;
mod places;
mod room;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::bodies::{Bodies, discard_stranger};
pub(crate) use self::caller::Caller;
use self::caller::Connections;
pub(crate) use self::pass_on::pass_on;

/// The TLS configuration of a port; a new one applies to the connections that come after it.
pub(crate) type TlsConfig = watch::Receiver<Arc<rustls::ServerConfig>>;

/// Serves `routes`, over TLS if there is a configuration, until `shutdown`; requests that run then are answered.
///
/// Handlers find the [`Caller`] of a request among its extensions.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsConfig>, routes: Router, shutdown: CancellationToken) {
    let (connections, tasks) = (Arc::new(Connections::default()), TaskTracker::new());
    while let Some((stream, from, caller)) = accept(&listener, &connections, &shutdown).await {
        let acceptor = tls.as_ref().map(|config| TlsAcceptor::from(config.borrow().clone()));
        tasks.spawn(serve_connection(stream, from, acceptor, routes.clone(), caller, shutdown.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

/// Returns the next connection, within the bounds of the port; `None` after `shutdown`.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Connections>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, Caller)> {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => return Some((stream, from, connections.admit(from.ip()))),
            Err(error) => {
                tracing::warn!(%error, "the port cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    routes: Router,
    caller: Caller,
    shutdown: CancellationToken,
) {
    let protocols = protocols(acceptor.is_some());
    let speak = async {
        let Some(acceptor) = acceptor else { return speak(stream, &protocols, routes, &caller, &shutdown).await };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, &protocols, routes, &caller, &shutdown).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
        }
    };
    let cut = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = speak => {}
        () = cut => tracing::debug!(%from, "a connection was cut at the end"),
        () = caller.replaced() => tracing::debug!(%from, "a connection made room for another"),
    }
}

/// Returns the protocols of a connection: HTTP/2 only with TLS, for the calls of workers.
fn protocols(has_tls: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(MAX_BUFFER);
    if !has_tls {
        return builder.http1_only();
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADERS_TIMEOUT)
        .keep_alive_timeout(HANDSHAKE_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    builder
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocols: &Builder<TokioExecutor>,
    routes: Router,
    caller: &Caller,
    shutdown: &CancellationToken,
) {
    let service = TowerToHyperService::new(routes.layer(Extension(caller.clone())));
    let mut connection = pin!(protocols.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // An error is the end of one connection, and no more.
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = caller.expires() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The time that a connection has to end in good order.
const GRACE: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for the headers of a request, and between two requests of a connection of HTTP/1.1.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// The buffer of a connection of HTTP/1.1, headers included, in bytes.
const MAX_BUFFER: usize = 32 * 1024;
/// The headers of a request of HTTP/2, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
const MAX_STREAMS: u32 = 16;
/// The bytes of bodies that a connection of HTTP/2 may send before they are read, all its streams together.
const WINDOW: u32 = 64 * 1024;
