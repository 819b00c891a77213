//! The command line: parses arguments and calls the subcommand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Replicates container images between OCI registries under Kubernetes control.
#[derive(Parser)]
#[command(name = "transship", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the CustomResourceDefinitions, one file a kind.
    Crds {
        /// The folder to write into.
        #[arg(long)]
        output: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Crds { output } => transship::api::write_custom_resource_definitions(&output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transship: {error}");
            ExitCode::from(2)
        }
    }
}
