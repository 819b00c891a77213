//! The network of stories: loopback with an API server of their own, or a cluster with a real node.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Returns the folder of the cluster that `tests/node/run.sh` has started around this test run; `None` on loopback.
pub fn node() -> Option<PathBuf> {
    std::env::var_os("TRANSSHIP_NODE").map(PathBuf::from)
}

/// Returns the address of our registries: one that pods reach too, where there are pods.
pub fn address() -> IpAddr {
    if node().is_some() { Ipv4Addr::new(10, 250, 0, 1).into() } else { Ipv4Addr::LOCALHOST.into() }
}
