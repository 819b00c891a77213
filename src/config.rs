//! The operator's flags, read once and checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use url::Url;

use crate::cluster::JobSettings;
use crate::registry::{EgressPolicy, HostPort};
use crate::terms::ExecutionMode;

/// Flags of `transship operator`. Each can also be given as an environment variable.
#[derive(Args, Clone, Debug)]
pub struct OperatorFlags {
    /// The address that serves /healthz, /readyz and /metrics.
    #[arg(long, env = "TRANSSHIP_ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,
    /// The address that takes notifications of registries: POST /v1/notify/{namespace}/{registry}.
    #[arg(long, env = "TRANSSHIP_NOTIFY_ADDRESS", default_value = "0.0.0.0:8081")]
    pub notify_address: SocketAddr,
    /// Acts only on objects of this namespace (repeatable). Absent: of every namespace.
    #[arg(long, env = "TRANSSHIP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// The most images that are copied at once.
    #[arg(long, env = "TRANSSHIP_COPIES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub copies: u16,
    /// The way in which images are copied where a configuration names none: Job or InProcess.
    #[arg(long, env = "TRANSSHIP_DEFAULT_EXECUTION", default_value = "Job", value_parser = parse_mode)]
    pub default_execution: ExecutionMode,
    /// The copy Jobs.
    #[command(flatten)]
    pub jobs: JobFlags,
    /// The addresses that registry traffic may reach.
    #[command(flatten)]
    pub egress: EgressFlags,
}

impl OperatorFlags {
    /// Returns the settings that all copy Jobs share; `None` where none can be started.
    pub fn job_settings(&self) -> Option<JobSettings> {
        let allow: Vec<String> = self.egress.egress_allow.iter().map(ToString::to_string).collect();
        let egress = match self.egress.egress {
            Egress::Private => "private",
            Egress::Strict => "strict",
        };
        let mut environment = vec![
            ("TRANSSHIP_EGRESS".to_owned(), egress.to_owned()),
            ("TRANSSHIP_NAMESPACE".to_owned(), self.jobs.namespace.clone()),
        ];
        if !allow.is_empty() {
            environment.push(("TRANSSHIP_EGRESS_ALLOW".to_owned(), allow.join(",")));
        }
        environment.extend(std::env::var("RUST_LOG").ok().map(|level| ("RUST_LOG".to_owned(), level)));
        Some(JobSettings {
            namespace: self.jobs.namespace.clone(),
            image: self.jobs.worker_image.clone()?,
            service_account: self.jobs.worker_service_account.clone(),
            channel_url: self.jobs.channel_url.as_ref()?.to_string(),
            environment,
        })
    }
}

/// Flags about copy Jobs, and their way to the operator.
#[derive(Args, Clone, Debug)]
pub struct JobFlags {
    /// The image of the workers: this program. Absent: no Jobs can be started.
    #[arg(long, env = "TRANSSHIP_WORKER_IMAGE", requires = "channel_url")]
    pub worker_image: Option<String>,
    /// The ServiceAccount of the workers' pods; it needs no permission, and none of its tokens is mounted.
    #[arg(long, env = "TRANSSHIP_WORKER_SERVICE_ACCOUNT", default_value = "default")]
    pub worker_service_account: String,
    /// The operator's own namespace, where Jobs run.
    #[arg(long, env = "TRANSSHIP_NAMESPACE", default_value = "transship")]
    pub namespace: String,
    /// The address that answers workers, over TLS.
    #[arg(long, env = "TRANSSHIP_CHANNEL_ADDRESS", default_value = "0.0.0.0:8443")]
    pub channel_address: SocketAddr,
    /// The URL by which workers reach that address: https://host:port.
    #[arg(long, env = "TRANSSHIP_CHANNEL_URL")]
    pub channel_url: Option<Url>,
    /// A YAML file of execution classes: name → copies, deadlineSeconds, namespaces, resources, nodeSelector,
    /// tolerations, labels, annotations, priorityClassName.
    #[arg(long, env = "TRANSSHIP_EXECUTION_CLASSES")]
    pub execution_classes: Option<PathBuf>,
}

/// Flags of `transship worker`.
#[derive(Args, Clone, Debug)]
pub struct WorkerFlags {
    /// The folder with url, token and ca.crt of the channel.
    #[arg(long, env = "TRANSSHIP_CHANNEL")]
    pub channel: PathBuf,
    /// The most images that are copied at once.
    #[arg(long, env = "TRANSSHIP_SLOTS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub slots: u16,
    /// The addresses that registry traffic may reach.
    #[command(flatten)]
    pub egress: EgressFlags,
}

fn parse_mode(text: &str) -> Result<ExecutionMode, String> {
    match text {
        "Job" => Ok(ExecutionMode::Job),
        "InProcess" => Ok(ExecutionMode::InProcess),
        _ => Err("it must be Job or InProcess".to_owned()),
    }
}

/// Which addresses registry traffic may reach.
#[derive(Args, Clone, Debug)]
pub struct EgressFlags {
    /// `private`: public and private addresses. `strict`: public ones only. Loopback, link-local and metadata addresses
    /// are refused either way.
    #[arg(long, env = "TRANSSHIP_EGRESS", value_enum, default_value_t = Egress::Private)]
    pub egress: Egress,
    /// Allows host:port whatever its address is (repeatable).
    #[arg(long, env = "TRANSSHIP_EGRESS_ALLOW", value_delimiter = ',')]
    pub egress_allow: Vec<HostPort>,
}

/// Which addresses are allowed without being listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Egress {
    /// Public and private ones.
    Private,
    /// Public ones only.
    Strict,
}

impl EgressFlags {
    /// Returns the policy that the flags describe.
    pub fn policy(&self) -> EgressPolicy {
        EgressPolicy {
            strict: self.egress == Egress::Strict,
            allow: self.egress_allow.iter().cloned().collect(),
            refused: Vec::new(),
        }
    }
}
