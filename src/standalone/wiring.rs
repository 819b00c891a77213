//! The replication core on files: its parts, and the orders of each configuration.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::access::{FileAccess, FileContent};
use super::store::FileStore;
use super::template_check::TemplateCheck;
use crate::copy::Engine;
use crate::execution::{InProcess, Listener, Slots};
use crate::metrics::Metrics;
use crate::plan::{ByRegistry, Claimant, Configuration, NamespacedName};
use crate::replication::machine::{Machine, Orders, Predecessor, RegistryIdentity, Stored};
use crate::replication::{Clock, Core, FairSlots, SharedClaims, Sweeps, comparison_slots};

/// The core, and the uids of configurations whose claims changed.
pub(super) struct Wiring {
    pub(super) core: Arc<Core>,
    pub(super) access: Arc<FileAccess>,
    pub(super) store: Arc<FileStore>,
    pub(super) wakes: mpsc::UnboundedReceiver<Vec<String>>,
    /// Queues by their names: each is to stand still no longer than a moment.
    pub(super) queues: [(&'static str, FairSlots); 2],
    /// The Registries whose templates the registry does not support.
    pub(super) templates: Arc<TemplateCheck>,
    copies: usize,
    /// For how long a run tries again after a failure.
    retry_for: Duration,
    /// True if a run that ends deletes images where the rules say so, or is planned to.
    pub(super) deletes: bool,
    /// Counts requests to compare.
    requests: AtomicU64,
}

/// The commands that run the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Until it is ended.
    Serve,
    /// Once.
    Sync,
    /// Once, without copying.
    Plan,
}

impl Wiring {
    /// Returns a core on `content` that copies `copies` images at once, and calls `listener` with every result. In a run
    /// that ends, failures are tried again for `retry_for`.
    pub(super) fn new(
        content: FileContent,
        store: FileStore,
        copies: usize,
        retry_for: Duration,
        listener: Option<Box<Listener>>,
    ) -> Self {
        let (access, store) = (Arc::new(FileAccess::new(content)), Arc::new(store));
        let (engine, claims, clock) = (Engine::default(), SharedClaims::default(), Clock::default());
        let (metrics, (waker, wakes)) = (Arc::new(Metrics::default()), mpsc::unbounded_channel());
        metrics.leader.set(1);
        let executor = InProcess {
            access: access.clone(),
            engine: engine.clone(),
            claims: claims.clone(),
            clock: clock.clone(),
            slots: Slots::new(copies),
            metrics: metrics.clone(),
            grants: None,
            listener,
        };
        let (waiting_copies, comparisons) = (executor.slots.queue(), comparison_slots());
        let queues = [("queue of copies", waiting_copies), ("queue of comparisons", comparisons.clone())];
        let core = Core {
            access: access.clone(),
            store: store.clone(),
            executor: Arc::new(executor),
            engine,
            claims,
            comparisons,
            sweeps: Sweeps::default(),
            clock,
            metrics,
            wakes: waker,
        };
        Self {
            core: Arc::new(core),
            access,
            store,
            wakes,
            queues,
            templates: Arc::default(),
            copies,
            retry_for,
            deletes: false,
            requests: AtomicU64::new(0),
        }
    }

    /// Returns the orders of every configuration of the files, in their order.
    pub(super) fn orders(&self, mode: Mode) -> Vec<Orders> {
        let content = self.access.content();
        let configurations = content.documents.configurations.iter().enumerate();
        configurations.map(|(index, configuration)| self.orders_of(&content, index, configuration, mode)).collect()
    }

    /// Requests a comparison of every configuration: the next orders say so.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the state that an earlier process left of a configuration.
    pub(super) fn stored(&self, orders: &Orders) -> Stored {
        stored(&self.store, orders)
    }

    fn orders_of(&self, content: &FileContent, index: usize, configuration: &Configuration, mode: Mode) -> Orders {
        let named = named(configuration);
        let identity = |reference: &NamespacedName| {
            let known = content.registries.get(reference)?;
            Some((reference.clone(), RegistryIdentity { uid: known.host.clone(), host: known.host.clone() }))
        };
        let registries: ByRegistry<_> = named.iter().filter_map(identity).collect();
        Orders {
            namespace: configuration.namespace.clone(),
            name: configuration.name.clone(),
            // Where two want one destination repository, the first in the files has it.
            holder: Claimant {
                created: Timestamp::UNIX_EPOCH + Duration::from_secs(index as u64),
                uid: name_of(configuration),
            },
            generation: None,
            request: Some(self.requests.load(Ordering::Relaxed))
                .filter(|count| *count > 0)
                .map(|count| count.to_string()),
            dependencies: self.dependencies(content, &named),
            stalled_registries: self.templates.refused(&named),
            standings: ByRegistry::default(),
            policies: Arc::new(content.documents.policies.clone()),
            registries,
            class: None,
            slots: self.copies,
            once: (mode != Mode::Serve).then_some(self.retry_for),
            is_dry: mode == Mode::Plan,
            deletes: mode == Mode::Serve || self.deletes,
            approved_deletions: content.documents.approvals.get(&name_of(configuration)).cloned(),
            configuration: Ok(Arc::new(configuration.clone())),
        }
    }

    /// Returns a fingerprint of Registries, policies and claims.
    fn dependencies(&self, content: &FileContent, named: &[NamespacedName]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for reference in named {
            let known = content.registries.get(reference);
            (&reference.namespace, &reference.name, known.map(|known| known.version)).hash(&mut hasher);
            let policies = content.documents.policies.get(&reference.namespace);
            format!("{policies:?}").hash(&mut hasher);
        }
        self.templates.refused(named).hash(&mut hasher);
        self.core.claims.lock().changes().hash(&mut hasher);
        hasher.finish()
    }
}

/// Returns the state that an earlier process left of a configuration. A run that ends does not wait for what failed
/// before.
pub(super) fn stored(store: &FileStore, orders: &Orders) -> Stored {
    let mut pairs = store.load(&orders.namespace, &orders.name);
    if orders.once.is_some() {
        let images = pairs.iter_mut().flat_map(|pair| &mut pair.status.images);
        let failed = images.filter(|image| image.status != crate::terms::ReplicationState::Complete);
        failed.for_each(|image| (image.next_attempt_at, image.attempts) = (None, None));
    }
    // The lock of the state folder says that the process before has ended.
    let predecessor = if store.was_used() { Predecessor::Ended } else { Predecessor::None };
    let deletion_history = store.deletion_history(&orders.namespace, &orders.name);
    Stored { pairs, predecessor, deletion_history, ..Stored::default() }
}

/// Returns a line for each filter of a configuration that matched nothing of its source.
pub(super) fn unused_filters(machine: &Machine) -> impl Iterator<Item = String> {
    let name = machine.configuration().map(|configuration| name_of(configuration)).unwrap_or_default();
    machine.excluded().unused_filters.iter().map(move |line| format!("{name}: {line}"))
}

/// Returns the first fills of a machine that are stopped, as a sentence with its name.
pub(super) fn stopped_backfill(machine: &Machine) -> Option<String> {
    let configuration = machine.configuration()?;
    machine.stopped_backfill().map(|stopped| format!("{}: {stopped}", name_of(configuration)))
}

/// Returns the Registries that a configuration names, its source first.
fn named(configuration: &Configuration) -> Vec<NamespacedName> {
    let source = NamespacedName { namespace: configuration.namespace.clone(), name: configuration.source.clone() };
    std::iter::once(source).chain(configuration.selection.destinations().into_iter().cloned()).collect()
}

/// Returns the name of a configuration as `namespace/name`, which is its uid too.
pub(super) fn name_of(configuration: &Configuration) -> String {
    format!("{}/{}", configuration.namespace, configuration.name)
}
