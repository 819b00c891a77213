//! Resolves host names for the transport, and drops addresses that the egress guard refuses.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::registry::http::egress::{EgressPolicy, Reach};

/// The system's resolver behind the egress guard.
///
/// A name that has allowed and refused addresses is reached at the allowed ones only. The returned addresses are the
/// ones connected to, so a DNS answer that changes meanwhile cannot bypass the check.
pub(super) struct GuardedResolver {
    pub(super) policy: Arc<EgressPolicy>,
    pub(super) reach: Reach,
    /// True for requests to a port of an API server.
    pub(super) is_cluster_port: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, reach, is_cluster_port) = (self.policy.clone(), self.reach, self.is_cluster_port);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => found.collect::<Vec<_>>(),
                Err(_) => Vec::new(),
            };
            let judge = |address| policy.judge(address, reach, is_cluster_port);
            allowed(&host, found, judge).map(|addresses| Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Returns the addresses in `found` that may be connected to.
///
/// # Errors
/// [`HostNotFoundError`] if `found` is empty, [`AddressRefusedError`] if no address is left.
fn allowed(
    host: &str,
    found: Vec<SocketAddr>,
    judge: impl Fn(IpAddr) -> Result<(), &'static str>,
) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in found {
        match judge(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(what) => {
                refused = Some(AddressRefusedError(format!("{host} resolves to {}, which is {what}", address.ip())))
            }
        }
    }
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refused) => Err(refused.into()),
        None => Err(HostNotFoundError(host.to_owned()).into()),
    }
}

/// The egress guard refuses every address of a host.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct AddressRefusedError(pub(super) String);

/// A name has no address.
#[derive(Debug, thiserror::Error)]
#[error("the host name {0} does not resolve")]
pub(super) struct HostNotFoundError(pub(super) String);

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(found: &[&str]) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
        let found = found.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
        allowed("host.example", found, |address| EgressPolicy::default().judge(address, Reach::Public, false))
    }

    #[test]
    fn a_name_with_good_and_bad_addresses_is_reached_at_the_good_ones_only() {
        let left = filter(&["127.0.0.1", "8.8.8.8", "169.254.169.254"]).unwrap();
        assert_eq!(left, [SocketAddr::new("8.8.8.8".parse().unwrap(), 0)]);
    }

    #[test]
    fn a_name_with_bad_addresses_only_is_refused_and_one_without_any_is_unknown() {
        assert!(filter(&["10.0.0.1"]).unwrap_err().is::<AddressRefusedError>());
        assert!(filter(&[]).unwrap_err().is::<HostNotFoundError>());
    }
}
