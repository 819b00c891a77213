//! The egress guard: the addresses that registry traffic may reach, checked after DNS, on each connection.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::locked::Locked;

/// The addresses that the administrator allows registry traffic to reach.
///
/// Whatever is set here, unspecified, link-local, metadata, multicast and reserved addresses are refused.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Refuse private ranges unless listed.
    pub strict: bool,
    /// Hosts and ports that are allowed to be on this machine (loopback) or, where `strict`, in a private range.
    pub allow: BTreeSet<HostPort>,
    /// Addresses that are never allowed, whatever is listed.
    pub refused: RefusedAddresses,
}

impl EgressPolicy {
    /// Returns true if the administrator lists the host and port of `url`.
    pub(super) fn lists(&self, url: &Url) -> bool {
        HostPort::of(url).is_some_and(|target| self.allow.contains(&target))
    }

    /// Judges one address by how much its host is trusted. `is_cluster_port` is true for a port of an API server.
    ///
    /// # Errors
    /// The class of the address, in words that fit behind "which is".
    pub(super) fn judge(&self, address: IpAddr, reach: Reach, is_cluster_port: bool) -> Result<(), &'static str> {
        if self.refused.contains(address, is_cluster_port) {
            return Err("an address of the cluster that registry traffic may never reach");
        }
        match (class(address), reach) {
            (AddressClass::Never(what), _) => Err(what),
            (AddressClass::Public, _) | (_, Reach::Listed) => Ok(()),
            (AddressClass::Loopback, _) => Err("a loopback address"),
            (AddressClass::Private, Reach::Public) => {
                Err("a private address of a host that is not this registry's, and that no administrator lists")
            }
            (AddressClass::Private, Reach::Guarded) if self.strict => Err("a private address"),
            (AddressClass::Private, Reach::Guarded) => Ok(()),
        }
    }
}

/// The addresses that a request may reach, by the host that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A host that a response named, or that only the owner of the registry trusts: public addresses only.
    Public,
    /// The registry's own host: private ranges too, unless the policy is strict.
    Guarded,
    /// The registry's own or a trusted host that the administrator lists as well: also loopback, and private ranges in
    /// any case.
    Listed,
}

/// The addresses of the cluster that registry traffic may never reach. All clones share one set, which is replaced as
/// the cluster changes.
#[derive(Clone, Debug, Default)]
pub struct RefusedAddresses(Arc<Locked<RefusedSet>>);

/// One state of [`RefusedAddresses`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RefusedSet {
    /// Refused at every port: the API server's Service, the operator's Services and pods.
    pub hosts: BTreeSet<IpAddr>,
    /// Refused at the ports of API servers: their endpoints, which may be nodes that run registries too.
    pub endpoints: BTreeSet<SocketAddr>,
}

impl RefusedAddresses {
    /// Replaces the set; returns true if it was another one. Loopback addresses are left out: they are refused unless
    /// the administrator lists them.
    pub fn replace(&self, mut set: RefusedSet) -> bool {
        set.hosts.retain(|address| !embedded(*address).is_loopback());
        set.endpoints.retain(|endpoint| !embedded(endpoint.ip()).is_loopback());
        let mut present = self.0.lock();
        let is_new = *present != set;
        *present = set;
        is_new
    }

    /// Returns the present set.
    pub fn set(&self) -> RefusedSet {
        self.0.lock().clone()
    }

    /// Returns true if an API server listens at `port`.
    pub(super) fn is_cluster_port(&self, port: Option<u16>) -> bool {
        self.0.lock().endpoints.iter().any(|endpoint| Some(endpoint.port()) == port)
    }

    fn contains(&self, address: IpAddr, is_cluster_port: bool) -> bool {
        let set = self.0.lock();
        let is_same = |refused: IpAddr| embedded(refused) == embedded(address);
        set.hosts.iter().any(|host| is_same(*host))
            || (is_cluster_port && set.endpoints.iter().any(|endpoint| is_same(endpoint.ip())))
    }
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Lower case, without brackets or a trailing dot.
    pub host: String,
    /// The TCP port; never 0 in a parsed text.
    pub port: u16,
}

impl HostPort {
    /// Returns the host and port of `url`, with the default port of its scheme.
    pub fn of(url: &Url) -> Option<Self> {
        Some(Self { host: bare(&url.host()?.to_string()), port: url.port_or_known_default()? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    /// Parses `host:port`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || HostPortError(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let host = bare(&Host::parse(host).map_err(|_| invalid())?.to_string());
        if host.is_empty() || host.ends_with('.') { Err(invalid()) } else { Ok(Self { host, port }) }
    }
}

/// A text that is no host and port; holds its first 80 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form host:port")]
pub struct HostPortError(String);

/// Returns `host` without brackets and trailing dot, in lower case.
pub(super) fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

enum AddressClass {
    Public,
    Private,
    Loopback,
    Never(&'static str),
}

fn class(address: IpAddr) -> AddressClass {
    match embedded(address) {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

/// Returns the IPv4 address that an IPv6 form of it leads to: mapped, compatible, 6to4 (RFC 3056) or NAT64 (RFC 6052).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let s = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)).into();
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => join(high, low),
        [0x2002, high, low, ..] => join(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        _ => address,
    }
}

fn class_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [0, ..] => AddressClass::Never("an unspecified address"),
        [169, 254, ..] => AddressClass::Never("a link-local address"),
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, _] => AddressClass::Never("a metadata address"),
        [224..=239, ..] => AddressClass::Never("a multicast address"),
        [240..=255, ..] => AddressClass::Never("a broadcast or reserved address"),
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            AddressClass::Private
        }
        _ => AddressClass::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Never("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        [0xfe80..=0xfebf, ..] => AddressClass::Never("a link-local address"),
        // Amazon's instance metadata and pod identity (fd00:ec2::254, ::23), Google's, Oracle's and Scaleway's.
        [0xfd00, 0xec2, ..]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => AddressClass::Never("a metadata address"),
        [0xff00..=0xffff, ..] => AddressClass::Never("a multicast address"),
        // Teredo, and NAT64 prefixes of local use: they hide an IPv4 address where it cannot be judged.
        [0x2001, 0, ..] | [0x64, 0xff9b, ..] => AddressClass::Never("a tunnel address"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(policy: &EgressPolicy, address: &str, reach: Reach) -> bool {
        policy.judge(address.parse().unwrap(), reach, false).is_ok()
    }

    #[test]
    fn addresses_are_judged_by_their_class_and_the_trust_in_their_host() {
        let open = EgressPolicy::default();
        open.refused.replace(RefusedSet { hosts: ["10.96.0.1".parse().unwrap()].into(), ..RefusedSet::default() });
        let strict = EgressPolicy { strict: true, ..open.clone() };
        // address; allowed for: public, guarded, guarded when strict, listed
        let table = [
            ("8.8.8.8", [true, true, true, true]),
            ("2606:4700::1111", [true, true, true, true]),
            ("10.0.0.1", [false, true, false, true]),
            ("172.16.0.1", [false, true, false, true]),
            ("172.32.0.1", [true, true, true, true]),
            ("192.168.1.1", [false, true, false, true]),
            ("100.64.0.1", [false, true, false, true]),
            ("fc00::1", [false, true, false, true]),
            ("::ffff:10.0.0.1", [false, true, false, true]),
            ("127.0.0.1", [false, false, false, true]),
            ("127.255.0.9", [false, false, false, true]),
            ("::1", [false, false, false, true]),
            ("::ffff:127.0.0.1", [false, false, false, true]),
            ("::127.0.0.1", [false, false, false, true]),
            ("2002:7f00:1::", [false, false, false, true]),
            ("64:ff9b::7f00:1", [false, false, false, true]),
            ("64:ff9b::808:808", [true, true, true, true]),
            ("0.0.0.0", [false; 4]),
            ("0.1.2.3", [false; 4]),
            ("::", [false; 4]),
            ("169.254.169.254", [false; 4]),
            ("169.254.0.1", [false; 4]),
            ("::ffff:169.254.169.254", [false; 4]),
            ("64:ff9b::a9fe:a9fe", [false; 4]),
            ("2002:a9fe:a9fe::1", [false; 4]),
            ("64:ff9b:1::a9fe:a9fe", [false; 4]),
            ("2001:0:1::1", [false; 4]),
            ("fe80::1", [false; 4]),
            ("febf::1", [false; 4]),
            ("fd00:ec2::254", [false; 4]),
            ("fd00:ec2::23", [false; 4]),
            ("fd20:ce::254", [false; 4]),
            ("fd00:c1::a9fe:a9fe", [false; 4]),
            ("fd00:42::42", [false; 4]),
            ("::ffff:0:169.254.169.254", [false; 4]),
            ("::169.254.169.254", [false; 4]),
            ("fec0::1", [false, true, false, true]),
            ("100.100.100.200", [false; 4]),
            ("168.63.129.16", [false; 4]),
            ("224.0.0.1", [false; 4]),
            ("ff02::1", [false; 4]),
            ("255.255.255.255", [false; 4]),
            ("240.0.0.1", [false; 4]),
            ("10.96.0.1", [false; 4]),
            ("::ffff:10.96.0.1", [false; 4]),
        ];
        for (address, expected) in table {
            let found = [
                verdict(&open, address, Reach::Public),
                verdict(&open, address, Reach::Guarded),
                verdict(&strict, address, Reach::Guarded),
                verdict(&strict, address, Reach::Listed),
            ];
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_the_cluster_are_refused_in_every_mode_as_they_change() {
        let policy = EgressPolicy::default();
        let judge = |address: &str, port| {
            let is_cluster_port = policy.refused.is_cluster_port(Some(port));
            [Reach::Public, Reach::Guarded, Reach::Listed]
                .map(|reach| policy.judge(address.parse().unwrap(), reach, is_cluster_port).is_ok())
        };
        assert_eq!(judge("10.244.0.7", 8081), [false, true, true]);
        let set = RefusedSet {
            hosts: ["10.244.0.7", "10.96.0.1", "127.0.0.1"].map(|address| address.parse().unwrap()).into(),
            endpoints: ["192.168.1.5:6443", "[fd00::5]:6443", "127.0.0.1:6443"].map(|e| e.parse().unwrap()).into(),
        };
        assert!(policy.refused.replace(set.clone()) && !policy.refused.replace(set));
        // address, port; allowed for: public, guarded, listed
        let table = [
            ("10.244.0.7", 8081, [false; 3]),
            ("::ffff:10.244.0.7", 443, [false; 3]),
            ("10.96.0.1", 443, [false; 3]),
            ("192.168.1.5", 6443, [false; 3]),
            ("::ffff:192.168.1.5", 6443, [false; 3]),
            ("fd00::5", 6443, [false; 3]),
            // A registry on the same node.
            ("192.168.1.5", 5000, [false, true, true]),
            // Loopback is the administrator's decision.
            ("127.0.0.1", 6443, [false, false, true]),
        ];
        for (address, port, expected) in table {
            assert_eq!(judge(address, port), expected, "{address} {port}");
        }
        policy.refused.replace(RefusedSet::default());
        assert_eq!(judge("10.244.0.7", 8081), [false, true, true]);
    }

    #[test]
    fn listed_hosts_are_found_in_every_spelling() {
        let allow = ["127.0.0.1:5000", "Registry.Example.:443", "[::1]:80"].map(|text| text.parse().unwrap());
        let policy = EgressPolicy { allow: BTreeSet::from(allow), ..EgressPolicy::default() };
        let listed = [
            "http://127.0.0.1:5000/",
            "http://2130706433:5000/",
            "http://0x7f.1:5000/",
            "http://0177.0.0.1.:5000/",
            "https://REGISTRY.example./x",
            "http://[0:0::1]/",
        ];
        for url in listed {
            assert!(policy.lists(&url.parse().unwrap()), "{url}");
        }
        for url in ["http://127.0.0.1:5001/", "http://registry.example/", "https://127.0.0.1/"] {
            assert!(!policy.lists(&url.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn malformed_hosts_and_ports_are_refused() {
        for text in ["", "host", "host:", "host:0", "host:65536", ":80", "::1:80x", "a b:80", "http://host:80"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
