//! Sets up the log: one line an event on standard error, as JSON where it is not a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` chooses what is logged; absent means everything of level info and above.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, in tests, keeps the first set-up.
    let _ = if std::io::stderr().is_terminal() { log.try_init() } else { log.json().try_init() };
}
