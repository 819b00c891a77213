//! The flags of `transship serve`, `sync` and `plan`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::error::UsageError;
use crate::config::EgressFlags;

/// Flags of `transship sync`.
#[derive(Args, Clone, Debug)]
pub struct SyncFlags {
    #[command(flatten)]
    pub(super) files: FileFlags,
    /// A folder that remembers what was verified: the next sync asks the destination only about what has changed. It is
    /// made where it is absent. Without it every image is looked at.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// The most images that are copied at once, each to all of its destinations.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) copies: u16,
    /// The format of the result.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
}

/// Flags of `transship plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanFlags {
    #[command(flatten)]
    pub(super) files: FileFlags,
    /// The folder that `transship sync --state` uses; it is only read.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// The format of the result.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
}

/// Flags of `transship serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeFlags {
    #[command(flatten)]
    pub(super) files: FileFlags,
    /// The folder with the state of every replica; it is made where it is absent. One process uses it at a time.
    #[arg(long, value_name = "DIR")]
    pub(super) state: PathBuf,
    /// Serves notifications of registries, /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub(super) listen: SocketAddr,
    /// The most images that are copied at once, each to all of its destinations.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) copies: u16,
}

/// Flags about files and registries.
#[derive(Args, Clone, Debug)]
pub(super) struct FileFlags {
    /// Files of Registries, ReplicationConfigurations and RegistryPermissionPolicies in YAML, several documents a file;
    /// `-` is standard input.
    #[arg(short = 'f', long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The docker configuration with the logins, a file or the folder of a config.json. Default: $DOCKER_CONFIG, else
    /// ~/.docker. Credential helpers are not run.
    #[arg(long, env = "DOCKER_CONFIG", value_name = "PATH", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(super) docker_config: Option<PathBuf>,
    /// Trusts the PEM certificates of a file for one registry, besides the system's: `host[:port]=FILE`
    /// (repeatable).
    #[arg(long, value_name = "HOST=FILE", value_parser = parse_ca)]
    pub(super) ca: Vec<(String, PathBuf)>,
    /// The addresses that may be reached; `sync` and `serve` allow the registries that their files name.
    #[command(flatten)]
    pub(super) egress: EgressFlags,
}

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

fn parse_ca(text: &str) -> Result<(String, PathBuf), UsageError> {
    let (host, file) = text.split_once('=').ok_or_else(|| UsageError::CaFlag(text.to_owned()))?;
    Ok((host.to_owned(), file.into()))
}
