//! One direction of a long line: what is sent arrives later, and only so many bytes a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The delay and the bandwidth of a line; every connection has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The time there and back. To open a connection takes it once.
    pub round_trip: Duration,
    /// Bytes a second in each direction.
    pub bandwidth: u64,
}

impl Link {
    /// Forwards until the end of the data and counts what has arrived. Any amount may be on its way: the delay alone
    /// does not limit what goes through.
    pub async fn forward(self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, arrived: &AtomicU64) -> Result<(), ()> {
        let (sender, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let send = async move {
            let mut buffer = vec![0; PIECE];
            let mut free = Instant::now();
            loop {
                let length = from.read(&mut buffer).await.map_err(drop)?;
                if length == 0 {
                    return Ok(());
                }
                let takes = Duration::from_secs_f64(length as f64 / self.bandwidth as f64);
                free = free.max(Instant::now()) + takes;
                sender.send((free + self.round_trip / 2, buffer[..length].to_vec())).map_err(drop)?;
                // A sender is never further ahead of the line than what its sockets take.
                tokio::time::sleep_until(free).await;
            }
        };
        let receive = async move {
            while let Some((at, piece)) = arriving.recv().await {
                tokio::time::sleep_until(at).await;
                to.write_all(&piece).await.map_err(drop)?;
                arrived.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            to.shutdown().await.map_err(drop)
        };
        tokio::try_join!(send, receive).map(drop)
    }
}

const PIECE: usize = 64 * 1024;
