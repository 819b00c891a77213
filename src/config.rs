//! Flags of the operator and the worker, and of egress.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use url::Url;

use crate::cluster::JobSettings;
use crate::plan::{EnvelopeLimits, HostBinding};
use crate::registry::{EgressPolicy, HostPort, RefusedAddresses};
use crate::terms::ExecutionMode;

/// Flags of `transship operator`. Each can also be given as an environment variable.
#[derive(Args, Clone, Debug)]
pub struct OperatorFlags {
    /// The address of /healthz, /readyz and /metrics.
    #[arg(long, env = "TRANSSHIP_ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,
    /// The address for notifications of registries: POST /v1/notify/{namespace}/{registry}.
    #[arg(long, env = "TRANSSHIP_NOTIFY_ADDRESS", default_value = "0.0.0.0:8081")]
    pub notify_address: SocketAddr,
    /// Acts only on objects of this namespace (repeatable). Absent: on those of every namespace.
    #[arg(long, env = "TRANSSHIP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// The maximum number of images that the operator itself copies at once. Half as many more are copied for namespaces
    /// of which none is, and for notified pushes; images that move less than 64 KiB a second take no place from others.
    #[arg(long, env = "TRANSSHIP_COPIES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub copies: u16,
    /// Binds registry hosts to the namespaces whose Registries may name them, as source or destination:
    /// PATTERN=NAMESPACE,… (repeatable; in the environment variable with ; between them). In a pattern * stands for any
    /// characters. A host that no pattern matches is free to all.
    #[arg(long, env = "TRANSSHIP_BIND_HOSTS", value_delimiter = ';')]
    pub bind_host: Vec<HostBinding>,
    /// The execution mode of configurations that do not set spec.execution.mode.
    #[arg(long, env = "TRANSSHIP_DEFAULT_EXECUTION", default_value = "Job", value_parser = parse_mode)]
    pub default_execution: ExecutionMode,
    /// The addresses of the operator's own pod, which registry traffic never reaches (repeatable).
    #[arg(long, env = "TRANSSHIP_POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// The Lease in the operator's own namespace by which one of several replicas leads; the others pass calls on to it.
    /// Absent: this process leads.
    #[arg(long, env = "TRANSSHIP_LEASE", requires = "identity")]
    pub lease: Option<String>,
    /// The name of this replica in the Lease: no other one has it, and it stays when the container is started again.
    #[arg(long, env = "TRANSSHIP_IDENTITY")]
    pub identity: Option<String>,
    /// Bounds of statuses.
    #[command(flatten)]
    pub envelope: EnvelopeFlags,
    /// Flags of the copy Jobs.
    #[command(flatten)]
    pub jobs: JobFlags,
    /// Flags of egress.
    #[command(flatten)]
    pub egress: EgressFlags,
}

impl OperatorFlags {
    /// Returns the settings that all copy Jobs share; `None` if no Jobs can be started.
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

/// Flags that bound the statuses that a source makes a process write.
#[derive(Args, Clone, Debug)]
pub struct EnvelopeFlags {
    /// The ReplicationStatus objects of one configuration. Pairs beyond it are replicated without one, and the condition
    /// EnvelopeExceeded of the configuration says so.
    #[arg(long, env = "TRANSSHIP_MAX_STATUSES_PER_CONFIGURATION", default_value_t = EnvelopeLimits::default().per_configuration)]
    pub max_statuses_per_configuration: usize,
    /// The ReplicationStatus objects of one namespace.
    #[arg(long, env = "TRANSSHIP_MAX_STATUSES_PER_NAMESPACE", default_value_t = EnvelopeLimits::default().per_namespace)]
    pub max_statuses_per_namespace: usize,
    /// The size in MiB of all ReplicationStatus objects of one namespace, from which on they are written without lists
    /// of images.
    #[arg(long, env = "TRANSSHIP_MAX_STATUS_MEBIBYTES", default_value_t = EnvelopeLimits::default().bytes_per_namespace >> 20)]
    pub max_status_mebibytes: usize,
}

impl EnvelopeFlags {
    /// Returns the limits of these flags.
    pub fn limits(&self) -> EnvelopeLimits {
        EnvelopeLimits {
            per_configuration: self.max_statuses_per_configuration,
            per_namespace: self.max_statuses_per_namespace,
            bytes_per_namespace: self.max_status_mebibytes.saturating_mul(1 << 20),
        }
    }
}

/// Flags of the copy Jobs and of the channel by which they reach the operator.
#[derive(Args, Clone, Debug)]
pub struct JobFlags {
    /// The image of the workers, which contains this program. Absent: no Jobs can be started.
    #[arg(long, env = "TRANSSHIP_WORKER_IMAGE", requires = "channel_url")]
    pub worker_image: Option<String>,
    /// The ServiceAccount of the workers' pods. It needs no permission, and its token is not mounted.
    #[arg(long, env = "TRANSSHIP_WORKER_SERVICE_ACCOUNT", default_value = "default")]
    pub worker_service_account: String,
    /// The operator's own namespace, in which Jobs run.
    #[arg(long, env = "TRANSSHIP_NAMESPACE", default_value = "transship")]
    pub namespace: String,
    /// The address on which the operator serves workers, over TLS.
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
    /// The number of images that are copied at once.
    #[arg(long, env = "TRANSSHIP_SLOTS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub slots: u16,
    /// Flags of egress.
    #[command(flatten)]
    pub egress: EgressFlags,
}

/// An execution mode that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("it must be Job or InProcess")]
struct ExecutionModeError;

fn parse_mode(text: &str) -> Result<ExecutionMode, ExecutionModeError> {
    match text {
        "Job" => Ok(ExecutionMode::Job),
        "InProcess" => Ok(ExecutionMode::InProcess),
        _ => Err(ExecutionModeError),
    }
}

/// Flags that limit the addresses of registry traffic.
#[derive(Args, Clone, Debug)]
pub struct EgressFlags {
    /// The addresses that registry traffic may reach. `private`: public and private ones. `strict`: public ones only.
    /// Loopback, link-local and metadata addresses are refused either way.
    #[arg(long, env = "TRANSSHIP_EGRESS", value_enum, default_value_t = Egress::Private)]
    pub egress: Egress,
    /// Allows host:port at any address (repeatable).
    #[arg(long, env = "TRANSSHIP_EGRESS_ALLOW", value_delimiter = ',')]
    pub egress_allow: Vec<HostPort>,
}

/// The addresses that are allowed without `--egress-allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Egress {
    /// Public and private ones.
    Private,
    /// Public ones only.
    Strict,
}

impl EgressFlags {
    /// Returns the policy of these flags.
    pub fn policy(&self) -> EgressPolicy {
        EgressPolicy {
            strict: self.egress == Egress::Strict,
            allow: self.egress_allow.iter().cloned().collect(),
            refused: RefusedAddresses::default(),
        }
    }
}
