//! The connections of a port: strangers, and those whose sender is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::strangers::Strangers;
use crate::locked::Locked;

/// The connections of a port.
#[derive(Default)]
pub(super) struct Connections(Locked<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    strangers: Strangers,
    ends: HashMap<u64, CancellationToken>,
}

/// The connection that a request came by.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Connection>);

struct Connection {
    id: u64,
    since: Instant,
    replaced: CancellationToken,
    known: CancellationToken,
    connections: Arc<Connections>,
}

impl Connections {
    /// Takes a connection in; `None` if there are [`MAX_CONNECTIONS`].
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Caller> {
        let replaced = CancellationToken::new();
        let id = {
            let mut open = self.0.lock();
            if open.ends.len() >= MAX_CONNECTIONS {
                return None;
            }
            open.last += 1;
            let id = open.last;
            if let Some(oldest) = open.strangers.add(id, from)
                && let Some(end) = open.ends.remove(&oldest)
            {
                end.cancel();
            }
            open.ends.insert(id, replaced.clone());
            id
        };
        let (known, connections) = (CancellationToken::new(), self.clone());
        Some(Caller(Arc::new(Connection { id, since: Instant::now(), replaced, known, connections })))
    }
}

impl Caller {
    /// Records that the sender's credentials were accepted: the connection makes room for no other, and may stay.
    pub(crate) fn accept(&self) {
        if !self.0.known.is_cancelled() {
            self.0.known.cancel();
            self.0.connections.0.lock().strangers.remove(self.0.id);
        }
    }

    /// Waits until the connection has to make room for another.
    pub(super) async fn replaced(&self) {
        self.0.replaced.cancelled().await;
    }

    /// Waits until a stranger has been connected for [`MAX_STAY`]; forever once it is known.
    pub(super) async fn expires(&self) {
        tokio::select! {
            () = tokio::time::sleep_until(self.0.since + MAX_STAY) => {}
            () = self.0.known.cancelled() => std::future::pending().await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock();
        open.strangers.remove(self.id);
        open.ends.remove(&self.id);
    }
}

/// The largest number of connections of a port.
const MAX_CONNECTIONS: usize = 2_048;
/// The time that a stranger may stay connected.
const MAX_STAY: Duration = Duration::from_secs(60);
