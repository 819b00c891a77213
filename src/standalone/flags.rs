//! The flags of `transship serve`, `sync` and `plan`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use url::Url;

use super::error::UsageError;
use crate::config::{EgressFlags, EnvelopeFlags};
use crate::registry::canonical_host;

/// Flags of `transship sync`.
#[derive(Args, Clone, Debug)]
pub struct SyncFlags {
    #[command(flatten)]
    pub(super) files: FileFlags,
    #[command(flatten)]
    pub(super) run: RunFlags,
    /// A folder that remembers what was verified: the next sync asks the destination only about what has changed. It is
    /// made where it is absent. Without it every image is looked at.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Deletes at the destinations what `--state` has recorded there and the source has deleted, where a rule has
    /// `deleteReplication` and a RegistryPermissionPolicy allows `DeleteImage`. Without it nothing is deleted.
    #[arg(long, requires = "state")]
    pub(super) delete: bool,
    /// Only shows what would be done, as `transship plan`.
    #[arg(long)]
    pub(super) dry_run: bool,
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
    #[command(flatten)]
    pub(super) run: RunFlags,
    /// The folder that `transship sync --state` uses; it is only read.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Plans a `transship sync --delete`: deletions are changes, and held ones end it with 4.
    #[arg(long, requires = "state")]
    pub(super) delete: bool,
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
    #[command(flatten)]
    pub(super) envelope: EnvelopeFlags,
}

/// Flags of a run that ends.
#[derive(Args, Clone, Debug)]
pub(super) struct RunFlags {
    /// Tries again for so long after the first failure of an image, or of the reading of a source, that may pass by
    /// itself: a registry that is away or overloaded. Other images do not wait for it. `0s` tries once; at most 24h.
    #[arg(
        long,
        env = "TRANSSHIP_RETRY_FOR",
        value_name = "DURATION",
        default_value = "2m",
        value_parser = parse_retry_for
    )]
    pub(super) retry_for: Duration,
    /// Ends with 3 instead of 0 if there are changes: images to copy or delete (`plan`), or that were copied or deleted
    /// (`sync`).
    #[arg(long)]
    pub(super) detailed_exit_code: bool,
}

/// Flags about files and registries.
#[derive(Args, Clone, Debug)]
pub(super) struct FileFlags {
    /// Files of Registries, ReplicationConfigurations and RegistryPermissionPolicies in YAML or JSON, several documents
    /// a file, also Lists as `kubectl get -o yaml` prints them; folders of *.yaml, *.yml and *.json; `-` is standard
    /// input (repeatable).
    #[arg(short = 'f', long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The docker configuration with the logins: a file, which has to exist, or a folder, which may lack a config.json.
    /// Default: $DOCKER_CONFIG, else ~/.docker, which may both be absent. Credential helpers are not run.
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

/// The exit code of `--detailed-exit-code` for changes. 2 is what wrong files and flags give, of clap as well.
pub(super) const HAS_CHANGES: u8 = 3;

/// The exit code for deletions that wait for a person, where everything else is done.
pub(super) const DELETIONS_WAIT: u8 = 4;

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

fn parse_retry_for(text: &str) -> Result<Duration, UsageError> {
    let refused = || UsageError::RetryForFlag(text.to_owned());
    let parsed = if text == "0" { Ok(SignedDuration::ZERO) } else { text.parse::<SignedDuration>() };
    let duration = parsed.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|duration| *duration <= MAX_RETRY_FOR).ok_or_else(refused)
}

/// The most of `--retry-for`.
const MAX_RETRY_FOR: Duration = Duration::from_secs(24 * 3600);

fn parse_ca(text: &str) -> Result<(String, PathBuf), UsageError> {
    let refused = || UsageError::CaFlag(text.to_owned());
    let (host, file) = text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or_else(refused)?;
    // As a URL, so that it is spelled as the hosts of Registries are.
    let url = format!("https://{host}").parse::<Url>().ok().filter(|url| {
        url.path() == "/"
            && url.username().is_empty()
            && !host.contains(['/', '@', '?', '#'])
            && url.host_str().is_some()
    });
    Ok((canonical_host(&url.ok_or_else(refused)?), file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_for_a_host_as_registries_have_it() {
        let host = |text: &str| parse_ca(text).map(|(host, _)| host).ok();
        for (text, expected) in [
            ("r.example.com=ca.pem", Some("r.example.com")),
            ("R.Example.Com:443=ca.pem", Some("r.example.com")),
            ("r.example.com:5000=a=b.pem", Some("r.example.com:5000")),
            ("[::1]:5000=ca.pem", Some("[::1]:5000")),
            ("https://r.example.com=ca.pem", None),
            ("r.example.com/team=ca.pem", None),
            ("user@r.example.com=ca.pem", None),
            ("r.example.com:99999=ca.pem", None),
            ("r.example.com=", None),
            ("ca.pem", None),
            ("=ca.pem", None),
        ] {
            assert_eq!(host(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn retries_last_as_long_as_people_write_it() {
        let seconds = |text: &str| parse_retry_for(text).ok().map(|duration| duration.as_secs());
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("1h30m", Some(5_400)),
            ("24h", Some(86_400)),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert!(["25h", "-1s", "2", "soon", ""].iter().all(|text| seconds(text).is_none()));
    }
}
