//! Passes the connections of a port on to another process, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::caller::Connections;

/// Passes connections on to the address that `target` finds in the present value of `values`, until `over`; those that
/// are passed on then go on. A connection waits up to [`TARGET_WITHIN`] for an address that can be reached, and is cut
/// when the address changes.
pub(crate) async fn pass_on<T: Send + Sync + 'static>(
    listener: &TcpListener,
    values: watch::Receiver<T>,
    target: impl Fn(&T) -> Option<SocketAddr> + Clone + Send + Sync + 'static,
    over: &CancellationToken,
) {
    let connections = Arc::new(Connections::default());
    while let Some((stream, from, caller)) = super::accept(listener, &connections, over).await {
        let passage = Passage { values: values.clone(), target: target.clone() };
        tokio::spawn(async move {
            tokio::select! {
                () = passage.pass(stream, from) => {}
                () = caller.replaced() => tracing::debug!(%from, "a connection made room for another"),
            }
        });
    }
}

/// The way of one connection.
struct Passage<T, F> {
    values: watch::Receiver<T>,
    target: F,
}

impl<T: Send + Sync + 'static, F: Fn(&T) -> Option<SocketAddr>> Passage<T, F> {
    async fn pass(mut self, mut stream: TcpStream, from: SocketAddr) {
        let Ok(Some((address, mut onward))) = tokio::time::timeout(TARGET_WITHIN, self.connect()).await else {
            return tracing::warn!(%from, "a connection is not passed on: no leader was reached in time");
        };
        let target = &self.target;
        tokio::select! {
            // An error is the end of one connection, and no more.
            _ = tokio::io::copy_bidirectional(&mut stream, &mut onward) => {}
            _ = self.values.wait_for(|value| target(value) != Some(address)) => {
                tracing::debug!(%from, %address, "a connection is cut: another replica leads");
            }
        }
    }

    /// Connects to the target, again until it can be reached; `None` if there will be none.
    async fn connect(&mut self) -> Option<(SocketAddr, TcpStream)> {
        loop {
            let target = &self.target;
            let found =
                self.values.wait_for(|value| target(value).is_some()).await.ok().and_then(|value| target(&value));
            let address = found?;
            match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
                Ok(Ok(onward)) => return Some((address, onward)),
                Ok(Err(_)) | Err(_) => tokio::time::sleep(CONNECT_AGAIN_AFTER).await,
            }
        }
    }
}

/// The time in which a connection reaches its target: longer than it takes until another replica leads.
const TARGET_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(250);
