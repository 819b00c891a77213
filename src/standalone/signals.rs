//! SIGINT and SIGTERM: the first lets a command end in order, the second ends it at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::UsageError;

/// The signals of a process, caught from the moment when this is made.
pub(super) struct StopSignals {
    stop: CancellationToken,
    /// The number of the first signal; 0 before.
    first: Arc<AtomicU8>,
}

impl StopSignals {
    /// Catches the signals. Until then they kill the process.
    ///
    /// # Errors
    /// [`UsageError::Signals`] if the kernel does not permit that.
    pub(super) fn catch() -> Result<Self, UsageError> {
        let caught = |kind| signal(kind).map_err(UsageError::Signals);
        let (interrupt, terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
        let signals = Self { stop: CancellationToken::new(), first: Arc::default() };
        tokio::spawn(obey(interrupt, terminate, signals.stop.clone(), signals.first.clone()));
        Ok(signals)
    }

    /// Returns the token that the first signal cancels.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns the exit code by which a shell knows the first signal; `None` before.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        Some(self.first.load(Ordering::SeqCst)).filter(|number| *number > 0).map(|number| ExitCode::from(number + 128))
    }
}

async fn obey(mut interrupt: Signal, mut terminate: Signal, stop: CancellationToken, first: Arc<AtomicU8>) {
    let (name, number) = next(&mut interrupt, &mut terminate).await;
    first.store(number, Ordering::SeqCst);
    tracing::warn!("{name}: nothing new is begun, and what runs is ended; another signal ends the process at once");
    stop.cancel();
    let (_, number) = next(&mut interrupt, &mut terminate).await;
    std::process::exit(128 + i32::from(number));
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> (&'static str, u8) {
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", 2),
        _ = terminate.recv() => ("SIGTERM", 15),
    }
}
