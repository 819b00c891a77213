//! The part that this replica plays: it leads, or passes calls on to the one that does.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Election, LeaseLost, ReplicaAddresses, Role};
use crate::config::OperatorFlags;
use crate::listener;
use crate::plan::{AUTHORITY_TTL, GRANT_LASTS, LEADS_FOR};

/// The part that this replica plays.
#[derive(Clone)]
pub(super) struct Leading {
    roles: watch::Receiver<Role>,
    own: ReplicaAddresses,
    /// The start of a replica without a Lease.
    alone_since: Option<Instant>,
    /// Is cancelled once this replica leads.
    pub elected: CancellationToken,
}

/// The end of the leader before this one.
pub(super) struct FormerLeader {
    /// It sends nothing after this.
    pub acts_until: Instant,
    /// Its workers write nothing after this that was granted by it.
    pub grants_until: Instant,
}

/// One of the addresses of a replica.
pub(super) type Port = fn(&ReplicaAddresses) -> SocketAddr;

impl Leading {
    /// Returns the part of this replica and the election that decides about it; a replica without a Lease leads.
    ///
    /// # Errors
    /// A sentence, if the other replicas could not reach this one.
    pub(super) fn new(client: &Client, flags: &OperatorFlags) -> Result<(Self, Option<Election>), String> {
        let own = ReplicaAddresses {
            notify: reachable(flags.notify_address, &flags.pod_ips),
            channel: reachable(flags.jobs.channel_address, &flags.pod_ips),
        };
        let elected = CancellationToken::new();
        let (Some(lease), Some(identity)) = (&flags.lease, &flags.identity) else {
            elected.cancel();
            let now = Instant::now();
            return Ok((
                Self { roles: watch::channel(Role::Leads(now)).1, own, alone_since: Some(now), elected },
                None,
            ));
        };
        if own.notify.ip().is_unspecified() {
            return Err("--lease needs --pod-ips: the other replicas reach this one there".to_owned());
        }
        let (sender, roles) = watch::channel(Role::Unknown);
        let name = (flags.jobs.namespace.as_str(), lease.as_str());
        let election = Election::new(client.clone(), name, identity.clone(), own, sender, elected.clone());
        Ok((Self { roles, own, alone_since: None, elected }, Some(election)))
    }

    /// Waits until it is known which replica leads. Returns true if it is this one.
    pub(super) async fn is_decided(&self) -> bool {
        let mut roles = self.roles.clone();
        // Without its sender the operator ends.
        roles.wait_for(|role| *role != Role::Unknown).await.is_ok_and(|role| matches!(*role, Role::Leads(_)))
    }

    /// Returns the end of the leader before this one, which leads. Without a Lease it may be an earlier process that was
    /// not seen to end.
    pub(super) fn former(&self) -> FormerLeader {
        if let Some(since) = self.alone_since {
            return FormerLeader { acts_until: since + AUTHORITY_TTL, grants_until: since + AUTHORITY_TTL };
        }
        let acts_until = match *self.roles.borrow() {
            Role::Leads(acts_until) => acts_until,
            Role::Unknown | Role::Follows(_) => Instant::now() + LEADS_FOR,
        };
        FormerLeader { acts_until, grants_until: acts_until + GRANT_LASTS }
    }

    /// Passes the connections of a port on to the leader, until this replica leads.
    pub(super) async fn pass_on(&self, listener: &TcpListener, port: Port) {
        let own = self.own;
        let target = move |role: &Role| match role {
            Role::Unknown => None,
            Role::Follows(leader) => Some(port(leader)),
            // One that has waited for a leader.
            Role::Leads(_) => Some(port(&own)),
        };
        listener::pass_on(listener, self.roles.clone(), target, &self.elected).await;
    }
}

/// Waits until the Lease of this replica is lost; forever where there is none.
pub(super) async fn lost(election: &mut Option<Election>) -> LeaseLost {
    match election {
        Some(election) => election.run().await,
        None => std::future::pending().await,
    }
}

fn reachable(bound: SocketAddr, pod_ips: &[IpAddr]) -> SocketAddr {
    let ip = if bound.ip().is_unspecified() { pod_ips.first().copied().unwrap_or(bound.ip()) } else { bound.ip() };
    SocketAddr::new(ip, bound.port())
}
