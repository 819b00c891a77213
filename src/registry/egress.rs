//! The egress guard: which addresses registry traffic may reach, checked after DNS, on each connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// What the administrator allows registry traffic to reach.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Refuse private ranges unless listed.
    pub strict: bool,
    /// Hosts and ports that are allowed whatever their address is.
    pub allow: BTreeSet<HostPort>,
    /// Addresses that are never allowed: the API server's, the operator's own services.
    pub refused: Vec<IpAddr>,
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Lower case, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        todo!()
    }
}
