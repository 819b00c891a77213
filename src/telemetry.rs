//! The log on standard error: its flags, its levels and its form.

use std::io::IsTerminal;

use clap::{ArgAction, Args};
use tracing_subscriber::EnvFilter;

/// Flags of the log, of every command. They win over `RUST_LOG`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct LogFlags {
    /// Logs more: `-v` each step, `-vv` requests and decisions, `-vvv` everything.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Logs errors only; `sync` prints no line for an image that is complete.
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// The readers of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReader {
    /// A person at a command that ends: warnings, and the waits of which nothing else shows.
    Person,
    /// A collector of logs, for a process that runs on: steps too, as JSON unless standard error is a terminal.
    Collector,
}

impl LogFlags {
    /// Returns true if only errors are of interest.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Returns the filter of events; `from_environment` is the value of `RUST_LOG`.
    fn filter(self, reader: LogReader, from_environment: Option<String>) -> String {
        let default = match (reader, self.quiet, self.verbose) {
            (_, true, _) => "error",
            (LogReader::Person, _, 0) => PERSON,
            (LogReader::Collector, _, 0) | (LogReader::Person, _, 1) => "info",
            (LogReader::Collector, _, 1) | (LogReader::Person, _, 2) => "info,transship=debug",
            _ => "info,transship=trace",
        };
        let is_chosen = self.quiet || self.verbose > 0;
        from_environment.filter(|text| !text.is_empty() && !is_chosen).unwrap_or_else(|| default.to_owned())
    }
}

/// Starts logging for `reader`.
pub fn start(flags: LogFlags, reader: LogReader) {
    let chosen = flags.filter(reader, std::env::var("RUST_LOG").ok());
    let (filter, refused) = match EnvFilter::try_new(&chosen) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(LogFlags::default().filter(reader, None)), Some(error)),
    };
    // Internal errors, such as a closed pipe, would be printed by a macro that panics then.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, in tests, keeps the first set-up.
    let _ = match reader {
        LogReader::Person => log.without_time().with_target(false).try_init(),
        LogReader::Collector if std::io::stderr().is_terminal() => log.try_init(),
        LogReader::Collector => log.json().try_init(),
    };
    if let Some(error) = refused {
        tracing::warn!("RUST_LOG is not a filter of events, and is ignored: {error}");
    }
}

/// The levels for a person. What a command prints itself is not logged a second time.
const PERSON: &str = "warn,transship::waiting=info,transship::readiness=off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_environment() {
        let flags = |verbose, quiet| LogFlags { verbose, quiet };
        let debug = || Some("debug".to_owned());
        for (reader, default) in [(LogReader::Person, PERSON), (LogReader::Collector, "info")] {
            assert_eq!(flags(0, false).filter(reader, None), default);
            assert_eq!(flags(0, false).filter(reader, Some(String::new())), default);
            assert_eq!(flags(0, false).filter(reader, debug()), "debug");
            assert_eq!(flags(0, true).filter(reader, debug()), "error");
            assert_eq!(flags(9, false).filter(reader, debug()), "info,transship=trace");
        }
        assert_eq!(flags(1, false).filter(LogReader::Person, debug()), "info");
        assert_eq!(flags(1, false).filter(LogReader::Collector, None), "info,transship=debug");
    }
}
