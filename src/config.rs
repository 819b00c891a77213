//! The operator's flags, read once and checked.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use crate::registry::{EgressPolicy, HostPort};

/// Flags of `transship operator`. Each can also be given as an environment variable.
#[derive(Args, Clone, Debug)]
pub struct OperatorFlags {
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "TRANSSHIP_ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,
    /// Where registries send their notifications: POST /v1/notify/{namespace}/{registry}.
    #[arg(long, env = "TRANSSHIP_NOTIFY_ADDRESS", default_value = "0.0.0.0:8081")]
    pub notify_address: SocketAddr,
    /// Acts only on objects of this namespace (repeatable). Absent: of every namespace.
    #[arg(long, env = "TRANSSHIP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// The most images that are copied at once.
    #[arg(long, env = "TRANSSHIP_COPIES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub copies: u16,
    /// Which addresses registry traffic may reach.
    #[command(flatten)]
    pub egress: EgressFlags,
}

/// Which addresses registry traffic may reach.
#[derive(Args, Clone, Debug)]
pub struct EgressFlags {
    /// `private`: public and private addresses. `strict`: public ones only. Loopback, link-local and metadata addresses are
    /// refused either way.
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
    /// The policy that the flags describe.
    pub fn policy(&self) -> EgressPolicy {
        EgressPolicy {
            strict: self.egress == Egress::Strict,
            allow: self.egress_allow.iter().cloned().collect(),
            refused: Vec::new(),
        }
    }
}
