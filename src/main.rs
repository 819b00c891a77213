//! The command line: parses arguments and calls the subcommand.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transship::config::OperatorFlags;
use transship::{api, operator, telemetry};

/// Replicates container images between OCI registries under Kubernetes control.
#[derive(Parser)]
#[command(name = "transship", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator.
    Operator(OperatorFlags),
    /// Writes the CustomResourceDefinitions, one file a kind.
    Crds {
        /// The folder to write into.
        #[arg(long)]
        output: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // aws-lc-rs is the only provider; installing it here keeps a second one in the tree from panicking at the first connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match Arguments::parse().command {
        Command::Crds { output } => api::write_custom_resource_definitions(&output).map_err(Into::into),
        Command::Operator(flags) => {
            telemetry::start();
            operator::run(flags).await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transship: {error}");
            ExitCode::from(2)
        }
    }
}
