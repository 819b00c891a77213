//! The Lease by which one of several replicas leads: read, taken, renewed and given up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::call::{CallError, call};
use crate::plan::{LEADS_FOR, LEASE_DURATION, LOOK_EVERY, LeaseBid, LeaseCandidate, LeaseSighting, RENEW_EVERY};

/// The addresses at which a replica is reached by the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaAddresses {
    /// Of notifications.
    pub notify: SocketAddr,
    /// Of workers.
    pub channel: SocketAddr,
}

/// The part that a replica plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is not known which one leads.
    Unknown,
    /// The replica at these addresses leads.
    Follows(ReplicaAddresses),
    /// This one leads. The leader before it has acted until then.
    Leads(Instant),
}

/// The election of the leader among the replicas that name the same Lease.
pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    candidate: LeaseCandidate,
    addresses: ReplicaAddresses,
    roles: watch::Sender<Role>,
    elected: CancellationToken,
    /// The end of the time for which this replica may act.
    leads_until: Option<Instant>,
}

/// The Lease was lost: another replica may lead from now on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeaseLost;

impl Election {
    /// Returns an election by the Lease `name`, in which this replica is `identity`; `elected` is
    /// cancelled once it leads.
    pub(crate) fn new(
        client: Client,
        (namespace, name): (&str, &str),
        identity: String,
        addresses: ReplicaAddresses,
        roles: watch::Sender<Role>,
        elected: CancellationToken,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: LeaseCandidate::new(identity),
            addresses,
            roles,
            elected,
            leads_until: None,
        }
    }

    /// Tries to lead, and renews, until the Lease is lost.
    pub(crate) async fn run(&mut self) -> LeaseLost {
        loop {
            let sent = Instant::now();
            let attempt = tokio::time::timeout(ATTEMPT_DEADLINE, self.attempt()).await;
            let attempt = attempt.map_err(|late| late.to_string());
            match attempt.and_then(|attempt| attempt.map_err(|error| error.to_string())) {
                Ok(Role::Leads(after)) => {
                    if self.leads_until.replace(sent + LEADS_FOR).is_none() {
                        self.play(Role::Leads(after));
                    }
                }
                Ok(_) if self.leads_until.is_some() => return LeaseLost,
                Ok(role) => self.play(role),
                Err(error) => tracing::warn!(lease = %self.name, %error, "the Lease is neither taken nor renewed"),
            }
            if self.leads_until.is_some_and(|until| until <= Instant::now() + RENEW_EVERY) {
                tokio::time::sleep(self.left()).await;
                return LeaseLost;
            }
            tokio::time::sleep(if self.leads_until.is_some() { RENEW_EVERY } else { LOOK_EVERY }).await;
        }
    }

    /// Gives the Lease up, if this replica holds it: another one leads without waiting for its end. To be called once
    /// nothing is written any more.
    pub(crate) async fn give_up(&mut self) {
        if self.leads_until.take().is_none() {
            return;
        }
        if let Err(error) = self.release().await {
            tracing::warn!(lease = %self.name, %error, "the Lease is not given up: another replica leads once it has ended");
        }
    }

    fn left(&self) -> Duration {
        self.leads_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn play(&self, role: Role) {
        let identity = self.candidate.identity();
        let is_new = self.roles.send_if_modified(|present| std::mem::replace(present, role) != role);
        if is_new {
            tracing::info!(lease = %self.name, %identity, ?role, "the role of this replica");
        }
        if matches!(role, Role::Leads(_)) {
            self.elected.cancel();
        }
    }

    /// Reads the Lease, and takes or renews it if it may. A Lease that was written meanwhile belongs to another one.
    async fn attempt(&mut self) -> Result<Role, CallError> {
        let found = match call(self.leases.get(&self.name)).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let written = match self.candidate.bid(found.as_ref().map(sighting), now) {
            LeaseBid::Wait => return Ok(found.as_ref().and_then(leader).map_or(Role::Unknown, Role::Follows)),
            LeaseBid::Create => call(self.leases.create(&PostParams::default(), &self.lease(None, true))).await,
            LeaseBid::TakeOver => self.replace(&self.lease(found, true)).await,
            LeaseBid::Renew => self.replace(&self.lease(found, false)).await,
        };
        // On a conflict another one was faster, or the answer to one's own write was lost: the next attempt reads it.
        written.map(|_| Role::Leads(self.candidate.predecessor_ends(now)))
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, CallError> {
        call(self.leases.replace(&self.name, &PostParams::default(), lease)).await
    }

    async fn release(&self) -> Result<(), CallError> {
        let mut lease = call(self.leases.get(&self.name)).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.candidate.identity()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.replace(&lease).await.map(drop)
    }

    /// Returns the Lease that this replica writes over `found`.
    fn lease(&self, found: Option<Lease>, is_new: bool) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let now = MicroTime(Timestamp::now());
        let had_holder = lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some());
        let annotations = lease.annotations_mut();
        annotations.insert(NOTIFY_ADDRESS.to_owned(), self.addresses.notify.to_string());
        annotations.insert(CHANNEL_ADDRESS.to_owned(), self.addresses.channel.to_string());
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if is_new {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + i32::from(had_holder));
        }
        spec.holder_identity = Some(self.candidate.identity().to_owned());
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

fn sighting(lease: &Lease) -> LeaseSighting {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    LeaseSighting {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        duration: seconds.map_or(LEASE_DURATION, Duration::from_secs),
        version: lease.resource_version().unwrap_or_default(),
    }
}

fn leader(lease: &Lease) -> Option<ReplicaAddresses> {
    let address = |name: &str| lease.annotations().get(name)?.parse().ok();
    Some(ReplicaAddresses { notify: address(NOTIFY_ADDRESS)?, channel: address(CHANNEL_ADDRESS)? })
}

const NOTIFY_ADDRESS: &str = "transship.dev/notify-address";
const CHANNEL_ADDRESS: &str = "transship.dev/channel-address";
/// The time for reading and writing the Lease once: two attempts fit into the time for which a leader may act.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(3);
