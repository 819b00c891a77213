//! The command line: parses arguments and calls the subcommand.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transship::config::{OperatorFlags, WorkerFlags};
use transship::standalone::{self, PlanFlags, ServeFlags, StatusFlags, SyncFlags};
use transship::{api, operator, telemetry, worker};

/// Replicates container images between OCI registries: on Kubernetes or as one process.
#[derive(Parser)]
#[command(name = "transship", version)]
struct Arguments {
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
    Operator(OperatorFlags),
    /// Copies the images that the operator assigns; started by its Jobs.
    Worker(WorkerFlags),
    /// Writes the CustomResourceDefinitions with the description of every field, one file for each kind.
    Crds {
        /// The folder to write into.
        #[arg(long)]
        output: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // aws-lc-rs is the only provider; installing it here keeps a second one in the tree from panicking at the first
    // connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match Arguments::parse().command {
        Command::Crds { output } => {
            api::write_custom_resource_definitions(&output).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Operator(flags) => {
            telemetry::start();
            operator::run(flags).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Worker(flags) => {
            telemetry::start();
            worker::run(flags).await.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Sync(flags) => standalone::sync(flags).await.map_err(Into::into),
        Command::Serve(flags) => {
            telemetry::start();
            standalone::serve(flags).await.map_err(Into::into)
        }
        Command::Status(flags) => standalone::status(flags).await.map_err(Into::into),
        Command::Plan(flags) => standalone::plan(flags).await.map_err(Into::into),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("transship: {error}");
            ExitCode::from(2)
        }
    }
}
