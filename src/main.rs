//! The command line: parses arguments and calls the subcommand.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transship::config::{OperatorFlags, WorkerFlags};
use transship::plan::ignored_proxies;
use transship::standalone::{self, PlanFlags, ServeFlags, StatusFlags, SyncFlags, UsageError};
use transship::telemetry::{LogFlags, LogReader};
use transship::{api, console, operator, telemetry, worker};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Replicates container images between OCI registries: on Kubernetes or as one process.
#[derive(Parser)]
#[command(name = "transship", version)]
struct Arguments {
    #[command(flatten)]
    log: LogFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replicates without a cluster, as YAML files of the kinds declare, until SIGTERM.
    Serve(ServeFlags),
    /// Replicates once without a cluster, as YAML files of the kinds declare.
    Sync(SyncFlags),
    /// Shows the copies that `sync` would make, and why each repository matches or not; writes nothing.
    Plan(PlanFlags),
    /// Prints the state of each replica from the state folder of `serve` or `sync`.
    Status(StatusFlags),
    /// Runs the operator.
    Operator(Box<OperatorFlags>),
    /// Copies the images that the operator assigns; started by its Jobs.
    Worker(WorkerFlags),
    /// Writes the CustomResourceDefinitions with the description of every field, one file for each kind.
    Crds {
        /// The folder to write into.
        #[arg(long)]
        output: PathBuf,
    },
}

impl Command {
    fn log_reader(&self) -> LogReader {
        match self {
            Self::Serve(_) | Self::Operator(_) | Self::Worker(_) => LogReader::Collector,
            Self::Sync(_) | Self::Plan(_) | Self::Status(_) | Self::Crds { .. } => LogReader::Person,
        }
    }

    fn speaks_to_registries(&self) -> bool {
        !matches!(self, Self::Status(_) | Self::Crds { .. })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // aws-lc-rs is the only provider; installing it here keeps a second one in the tree from panicking at the first
    // connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Arguments { log, command } = Arguments::parse();
    telemetry::start(log, command.log_reader());
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(warning) = ignored_proxies(is_set).filter(|_| command.speaks_to_registries()) {
        tracing::warn!("{warning}");
    }
    match run(command, log).await {
        Ok(code) => code,
        Err((code, error)) => {
            console::notify(&error.to_string());
            code
        }
    }
}

/// Runs a subcommand; an error comes with its exit code.
async fn run(command: Command, log: LogFlags) -> Result<ExitCode, (ExitCode, Box<dyn Error>)> {
    let failed = |error: UsageError| (ExitCode::from(error.exit_code()), error.into());
    let refused = |error: Box<dyn Error>| (ExitCode::from(2), error);
    let success = |()| ExitCode::SUCCESS;
    match command {
        Command::Sync(flags) => standalone::sync(flags, log.is_quiet()).await.map_err(failed),
        Command::Serve(flags) => standalone::serve(flags).await.map_err(failed),
        Command::Status(flags) => standalone::status(flags).await.map_err(failed),
        Command::Plan(flags) => standalone::plan(flags).await.map_err(failed),
        Command::Crds { output } => {
            api::write_custom_resource_definitions(&output).map(success).map_err(|error| refused(error.into()))
        }
        Command::Operator(flags) => operator::run(*flags).await.map(success).map_err(refused),
        Command::Worker(flags) => worker::run(flags).await.map(success).map_err(|error| refused(error.into())),
    }
}
