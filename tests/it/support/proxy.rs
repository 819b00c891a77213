//! A TCP proxy on loopback that breaks connections on command; what they carry is none of its business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::background::BackgroundServer;
use super::link::Link;

/// The treatment of connections, the open ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// Forwards everything.
    None,
    /// Keeps connections open and forwards nothing, until another mode is set.
    Hold,
    /// Resets every connection.
    Refuse,
    /// Resets a connection once it has brought the client this many bytes from upstream.
    CutAfter(u64),
    /// Waits before it forwards a piece of data, in each direction.
    Delay { to_upstream: Duration, to_client: Duration },
    /// Is as far away as the other end of a long line; for connections that are opened from now on.
    Far(Link),
}

/// Counts of the traffic since the start.
#[derive(Default)]
struct ProxyCounts {
    connections: AtomicU64,
    to_upstream: AtomicU64,
    to_client: AtomicU64,
}

/// A running proxy in front of one address.
pub struct FaultProxy {
    server: BackgroundServer,
    fault: watch::Sender<LineFault>,
    counts: Arc<ProxyCounts>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToUpstream,
    ToClient,
}

impl FaultProxy {
    /// Listens on a free port and forwards to `upstream`, for now without a fault.
    pub fn start(upstream: SocketAddr) -> Self {
        let (fault, current) = watch::channel(LineFault::None);
        let counts = Arc::new(ProxyCounts::default());
        let shared = Arc::clone(&counts);
        let server =
            BackgroundServer::start("fault-proxy", move |listener| accept(listener, upstream, current, shared));
        Self { server, fault, counts }
    }

    /// Changes what happens to connections.
    pub fn set(&self, fault: LineFault) {
        self.fault.send_replace(fault);
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns its host and port, as image names begin with.
    pub fn host(&self) -> String {
        self.address().to_string()
    }

    /// Counts the connections that clients have opened.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Counts the bytes that it has forwarded to upstream.
    pub fn bytes_to_upstream(&self) -> u64 {
        self.counts.to_upstream.load(Ordering::Relaxed)
    }

    /// Counts the bytes that it has forwarded to clients.
    pub fn bytes_to_client(&self) -> u64 {
        self.counts.to_client.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    fault: watch::Receiver<LineFault>,
    counts: Arc<ProxyCounts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(forward(client, upstream, fault.clone(), Arc::clone(&counts)));
    }
}

async fn forward(
    mut client: TcpStream,
    upstream: SocketAddr,
    fault: watch::Receiver<LineFault>,
    counts: Arc<ProxyCounts>,
) {
    if carry(&mut client, upstream, fault, &counts).await.is_err() {
        // Closing is then a reset: a client must not take a cut for a proper end.
        let _ = client.set_zero_linger();
    }
}

/// Forwards both directions until both have ended, or one has broken.
async fn carry(
    client: &mut TcpStream,
    upstream: SocketAddr,
    fault: watch::Receiver<LineFault>,
    counts: &ProxyCounts,
) -> Result<(), ()> {
    let mut refusal = fault.clone();
    let at_first = *refusal.borrow();
    match at_first {
        LineFault::Refuse => return Err(()),
        // The kernel has accepted the connection at once; over a line it would not be open yet.
        LineFault::Far(link) => tokio::time::sleep(link.round_trip).await,
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await.map_err(drop)?;
    server.set_nodelay(true).and_then(|()| client.set_nodelay(true)).map_err(drop)?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    if let LineFault::Far(link) = at_first {
        let up = link.forward(client_read, server_write, &counts.to_upstream);
        let down = link.forward(server_read, client_write, &counts.to_client);
        return tokio::try_join!(up, down).map(drop);
    }
    let up = pump(client_read, server_write, Direction::ToUpstream, fault.clone(), counts);
    let down = pump(server_read, client_write, Direction::ToClient, fault, counts);
    tokio::select! {
        both = async { tokio::try_join!(up, down) } => both.map(drop),
        _ = refusal.wait_for(|fault| *fault == LineFault::Refuse) => Err(()),
    }
}

/// Forwards one direction; an error ends the connection as a whole, the end of the data only this direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut fault: watch::Receiver<LineFault>,
    counts: &ProxyCounts,
) -> Result<(), ()> {
    let counter = if direction == Direction::ToUpstream { &counts.to_upstream } else { &counts.to_client };
    let mut buffer = vec![0; 64 * 1024];
    let mut carried = 0;
    loop {
        let mut length = from.read(&mut buffer).await.map_err(drop)?;
        if length == 0 {
            return to.shutdown().await.map_err(drop);
        }
        let current = *fault.wait_for(|fault| *fault != LineFault::Hold).await.map_err(drop)?;
        let mut cut = false;
        match current {
            LineFault::None | LineFault::Hold | LineFault::Far(_) => {}
            LineFault::Refuse => return Err(()),
            LineFault::Delay { to_upstream, .. } if direction == Direction::ToUpstream => {
                tokio::time::sleep(to_upstream).await
            }
            LineFault::Delay { to_client, .. } => tokio::time::sleep(to_client).await,
            LineFault::CutAfter(limit) if direction == Direction::ToClient => {
                let left = limit.saturating_sub(carried);
                cut = left <= length as u64;
                length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            LineFault::CutAfter(_) => {}
        }
        to.write_all(&buffer[..length]).await.map_err(drop)?;
        carried += length as u64;
        counter.fetch_add(length as u64, Ordering::Relaxed);
        if cut {
            return Err(());
        }
    }
}
