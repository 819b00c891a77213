//! The log on standard error: one line for each event, as JSON unless standard error is a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` filters events; without it all events of level info and above are logged.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, in tests, keeps the first set-up.
    let _ = if std::io::stderr().is_terminal() { log.try_init() } else { log.json().try_init() };
}
