//! The connections of a port: strangers, and those whose sender is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::places::PlacesByOwner;
use crate::locked::Locked;

/// The connections of a port.
#[derive(Default)]
pub(super) struct Connections(Locked<Open>);

struct Open {
    last: u64,
    /// By address, in the order of their beginning.
    strangers: PlacesByOwner<IpAddr>,
    /// By the sender that was accepted last, in the order of that.
    known: PlacesByOwner<Arc<str>>,
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
    /// Takes a connection in. Another one may have to make room for it.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Caller {
        let replaced = CancellationToken::new();
        let id = {
            let mut open = self.0.lock();
            open.last += 1;
            let id = open.last;
            let oldest = open.strangers.add(id, from);
            open.end(oldest);
            open.ends.insert(id, replaced.clone());
            id
        };
        let (known, connections) = (CancellationToken::new(), self.clone());
        Caller(Arc::new(Connection { id, since: Instant::now(), replaced, known, connections }))
    }
}

impl Default for Open {
    fn default() -> Self {
        let (strangers, known) = (PlacesByOwner::new(MAX_STRANGERS), PlacesByOwner::new(MAX_KNOWN));
        Self { last: 0, strangers, known, ends: HashMap::new() }
    }
}

impl Open {
    fn end(&mut self, connection: Option<u64>) {
        if let Some(end) = connection.and_then(|id| self.ends.remove(&id)) {
            end.cancel();
        }
    }
}

impl Caller {
    /// Records that the credentials of `sender` were accepted: the connection makes room for no stranger, and may stay.
    /// It makes room for another known one if its sender has the most of them and it was not used for the longest time.
    pub(crate) fn accept(&self, sender: &str) {
        self.0.known.cancel();
        let mut open = self.0.connections.0.lock();
        let is_stranger = open.strangers.remove(self.0.id);
        if is_stranger || open.known.remove(self.0.id) {
            let oldest = open.known.add(self.0.id, sender.into());
            open.end(oldest);
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
        open.known.remove(self.id);
        open.ends.remove(&self.id);
    }
}

/// The largest number of connections of strangers: with their buffers they take 8 MiB.
pub(super) const MAX_STRANGERS: usize = 256;
/// The largest number of other connections.
const MAX_KNOWN: usize = 2_048 - MAX_STRANGERS;
/// The time that a stranger may stay connected.
const MAX_STAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn is_replaced(caller: &Caller) -> bool {
        caller.replaced().now_or_never().is_some()
    }

    #[test]
    fn a_sender_with_too_many_connections_loses_its_oldest_and_no_other() {
        let connections = Arc::new(Connections::default());
        let connect = |sender: &str| {
            let caller = connections.admit(IpAddr::from([10, 0, 0, 1]));
            caller.accept(sender);
            caller
        };
        let quiet = connect("quiet");
        let many: Vec<Caller> = (1..MAX_KNOWN).map(|_| connect("many")).collect();
        many[0].accept("many");
        let more = [connect("many"), connect("other")];
        let replaced: Vec<usize> = (0..many.len()).filter(|at| is_replaced(&many[*at])).collect();
        assert_eq!(replaced, [1, 2], "the first was used again");
        assert!(!is_replaced(&quiet) && !more.iter().any(is_replaced));
        many[1].accept("many");
        assert_eq!(connections.0.lock().ends.len(), MAX_KNOWN, "one that has to end takes no place again");
        drop((quiet, many, more));
        let open = connections.0.lock();
        assert!(open.ends.is_empty(), "each gives its place back");
    }

    #[test]
    fn known_connections_never_keep_a_stranger_out() {
        let connections = Arc::new(Connections::default());
        let admit = || connections.admit(IpAddr::from([10, 0, 0, 1]));
        let known: Vec<Caller> = (0..MAX_KNOWN + 500).map(|_| admit()).inspect(|caller| caller.accept("a")).collect();
        let strangers: Vec<Caller> = (0..MAX_STRANGERS).map(|_| admit()).collect();
        assert!(!strangers.iter().any(is_replaced));
        assert_eq!(known.iter().filter(|caller| is_replaced(caller)).count(), 500);
    }
}
