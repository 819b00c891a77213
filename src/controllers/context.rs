//! What all reconcilers share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::office::Office;
use super::replicators::Replicators;
use crate::api::{ExecutionMode, Registry, RegistryPermissionPolicy, ReplicationConfiguration};
use crate::cluster::{Events, ExecutionClasses, Policies, Registries, Statuses};
use crate::copy::Engine;
use crate::metrics::Metrics;
use crate::plan::Claims;
use crate::registry::EgressPolicy;

/// Limits of the operator, from its command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces to act on; empty for all.
    pub namespaces: BTreeSet<String>,
    /// The most images that are copied at once, over all configurations.
    pub copies: usize,
    /// The most objects of one kind that are reconciled at once.
    pub reconciles: u16,
    /// How images are copied where a configuration does not say it.
    pub default_execution: ExecutionMode,
    /// Whether Jobs can be started.
    pub has_jobs: bool,
}

/// What all reconcilers share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Limits.
    pub settings: Settings,
    /// The watched kinds.
    pub stores: Stores,
    /// Clients of registries.
    pub registries: Registries,
    /// Decisions about permissions.
    pub policies: Policies,
    /// Transitions told as Events.
    pub events: Events,
    /// Status objects.
    pub statuses: Statuses,
    /// The copy engine.
    pub engine: Engine,
    /// Images that Jobs copy, and grants.
    pub office: Office,
    /// What Jobs may use.
    pub classes: ExecutionClasses,
    /// What workers trust, in PEM; empty until it is known.
    pub channel_authorities: watch::Sender<String>,
    /// One permit an image that is being copied.
    pub copy_permits: Arc<Semaphore>,
    /// Running configurations.
    pub replicators: Replicators,
    /// Instruments.
    pub metrics: Metrics,
    /// Ends everything.
    pub shutdown: CancellationToken,
    begun: AtomicBool,
    claims: Mutex<Claims>,
    nudges: mpsc::Sender<ObjectRef<ReplicationConfiguration>>,
    registry_checks: mpsc::Sender<ObjectRef<Registry>>,
}

/// The objects of the watched kinds.
#[derive(Clone)]
pub struct Stores {
    /// Registries.
    pub registries: Store<Registry>,
    /// Policies.
    pub policies: Store<RegistryPermissionPolicy>,
    /// Configurations.
    pub configurations: Store<ReplicationConfiguration>,
}

/// The ends of the channels by which reconcilers wake each other.
pub struct Wakes {
    /// Configurations to reconcile.
    pub configurations: mpsc::Receiver<ObjectRef<ReplicationConfiguration>>,
    /// Registries to check.
    pub registries: mpsc::Receiver<ObjectRef<Registry>>,
}

impl Context {
    /// The context of an operator that works through `client`.
    pub fn new(
        client: Client,
        settings: Settings,
        classes: ExecutionClasses,
        stores: Stores,
        egress: Arc<EgressPolicy>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> (Arc<Self>, Wakes) {
        let (nudges, configurations) = mpsc::channel(WAKES);
        let (registry_checks, registries) = mpsc::channel(WAKES);
        let context = Self {
            registries: Registries::new(client.clone(), egress),
            policies: Policies::new(client.clone()),
            events: Events::new(client.clone()),
            statuses: Statuses::new(client.clone()),
            engine: Engine::default(),
            office: Office::default(),
            classes,
            channel_authorities: watch::Sender::default(),
            copy_permits: Arc::new(Semaphore::new(settings.copies)),
            replicators: Replicators::default(),
            begun: AtomicBool::new(false),
            claims: Mutex::default(),
            client,
            settings,
            stores,
            metrics,
            shutdown,
            nudges,
            registry_checks,
        };
        (Arc::new(context), Wakes { configurations, registries })
    }

    /// Lets configurations start: everything that they depend on is known.
    pub async fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.nudge_where(|_| true).await;
    }

    /// Whether configurations may start.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the operator acts on objects of `namespace`.
    pub fn acts_on(&self, namespace: &str) -> bool {
        self.settings.namespaces.is_empty() || self.settings.namespaces.contains(namespace)
    }

    /// The Registry `namespace`/`name`, if the operator knows and acts on it.
    pub fn registry(&self, namespace: &str, name: &str) -> Option<Arc<Registry>> {
        let found = self.stores.registries.get(&ObjectRef::new(name).within(namespace));
        found.filter(|_| self.acts_on(namespace))
    }

    /// Works with the claims of all configurations. Never held across an await.
    pub fn claims<T>(&self, work: impl FnOnce(&mut Claims) -> T) -> T {
        work(&mut self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the configuration reconciled soon.
    pub async fn nudge(&self, namespace: &str, name: &str) {
        // A closed channel means that the operator ends.
        let _ = self.nudges.send(ObjectRef::new(name).within(namespace)).await;
    }

    /// Has the configurations with these uids reconciled soon.
    pub async fn nudge_uids(&self, uids: &[String]) {
        for configuration in self.stores.configurations.state() {
            if configuration.uid().is_some_and(|uid| uids.contains(&uid)) {
                self.nudge(&configuration.namespace().unwrap_or_default(), &configuration.name_any()).await;
            }
        }
    }

    /// Has every configuration reconciled soon that `concerned` picks.
    pub async fn nudge_where(&self, concerned: impl Fn(&ReplicationConfiguration) -> bool) {
        for configuration in self.stores.configurations.state() {
            if concerned(&configuration) {
                self.nudge(&configuration.namespace().unwrap_or_default(), &configuration.name_any()).await;
            }
        }
    }

    /// Has a Registry checked soon, whose credentials, name or certificate failed in use.
    pub fn check_registry(&self, registry: &Registry) {
        self.registries.read_again(&registry.uid().unwrap_or_default());
        // A full channel means that checks are on their way already.
        let _ = self.registry_checks.try_send(ObjectRef::from_obj(registry));
    }
}

const WAKES: usize = 1024;
