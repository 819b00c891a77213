//! The running configurations: gives each its orders and hints, and takes its report.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::replicator::Replicator;
use crate::api::ReplicationConfiguration;
use crate::cluster::StoredPair;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Configuration, ConfigurationReport, Holder};

/// The running configurations, by namespace and name.
#[derive(Default)]
pub struct Replicators {
    running: Mutex<HashMap<(String, String), Handle>>,
    stored: Mutex<HashMap<String, Vec<StoredPair>>>,
}

/// What a configuration is to do.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The object, for owner references.
    pub object: Arc<ReplicationConfiguration>,
    /// Its spec, parsed.
    pub configuration: Arc<Configuration>,
    /// Who claims destinations for it.
    pub holder: Holder,
    /// The value of the annotation that asks for a comparison.
    pub request: Option<String>,
    /// A fingerprint of the Registries and policies around it: when it changes, what failed may succeed now.
    pub surroundings: u64,
}

struct Handle {
    uid: String,
    source: (String, String),
    orders: watch::Sender<Orders>,
    hints: Arc<Hints>,
    report: watch::Receiver<ConfigurationReport>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

/// Tags that were pushed, as far as the source's notifications tell; a bounded set.
#[derive(Default)]
pub struct Hints {
    pushed: Mutex<Pushed>,
    arrived: Notify,
}

/// What was pushed since it was last asked.
#[derive(Default)]
pub struct Pushed {
    /// The tags, with the digest that each is said to have.
    pub tags: BTreeMap<(RepositoryName, Tag), Option<Digest>>,
    /// More than fit: only a comparison finds them.
    pub overflown: bool,
    /// Names of ReplicationStatus objects that were deleted.
    pub deleted: BTreeSet<String>,
}

impl Hints {
    /// Waits for hints and takes them.
    pub async fn take(&self) -> Pushed {
        loop {
            let pushed = std::mem::take(&mut *self.lock());
            if pushed.overflown || !pushed.tags.is_empty() || !pushed.deleted.is_empty() {
                return pushed;
            }
            self.arrived.notified().await;
        }
    }

    fn add(&self, repository: &RepositoryName, tag: &Tag, digest: Option<Digest>) {
        let mut pushed = self.lock();
        if pushed.tags.len() < MOST_HINTS {
            pushed.tags.insert((repository.clone(), tag.clone()), digest);
        } else {
            pushed.overflown = true;
        }
        drop(pushed);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pushed> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replicators {
    /// Keeps what an earlier process left, until the configurations start.
    pub fn seed(&self, pairs: Vec<StoredPair>) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        for pair in pairs {
            stored.entry(pair.identity.spec.configuration_ref.uid.clone()).or_default().push(pair);
        }
    }

    /// Gives orders to a configuration, starting it where it does not run, and answers with its present report.
    pub fn order(&self, context: &Arc<Context>, orders: Orders) -> ConfigurationReport {
        let key = (orders.configuration.namespace.clone(), orders.configuration.name.clone());
        let source = (orders.configuration.namespace.clone(), orders.configuration.source.clone());
        let mut running = self.lock();
        if let Some(handle) =
            running.get_mut(&key).filter(|handle| handle.uid == orders.holder.uid && !handle.task.is_finished())
        {
            handle.source = source;
            handle.orders.send_replace(orders);
            return handle.report.borrow().clone();
        }
        if let Some(earlier) = running.remove(&key) {
            earlier.end.cancel();
        }
        let uid = orders.holder.uid.clone();
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid).unwrap_or_default();
        let (report_sender, report) = watch::channel(ConfigurationReport::default());
        let (orders, orders_receiver) = watch::channel(orders);
        let (hints, end) = (Arc::new(Hints::default()), CancellationToken::new());
        let replicator =
            Replicator::new(context.clone(), orders_receiver, report_sender, hints.clone(), end.clone(), stored);
        let task = tokio::spawn(replicator.run());
        let answer = report.borrow().clone();
        running.insert(key, Handle { uid, source, orders, hints, report, end, task });
        answer
    }

    /// Ends a configuration that does not exist any more, or whose spec cannot be carried out.
    pub fn end(&self, namespace: &str, name: &str) {
        if let Some(handle) = self.lock().remove(&(namespace.to_owned(), name.to_owned())) {
            handle.end.cancel();
        }
    }

    /// Tells that a tag was pushed to the Registry `namespace`/`registry`. Calls nobody, and takes bounded memory.
    pub fn hint(
        &self,
        namespace: &str,
        registry: &str,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Option<Digest>,
    ) {
        for handle in self.lock().values().filter(|handle| handle.source.0 == namespace && handle.source.1 == registry)
        {
            if handle.orders.borrow().configuration.selection.wants(repository, tag) {
                handle.hints.add(repository, tag, digest.clone());
            }
        }
    }

    /// Tells that a ReplicationStatus of a configuration was deleted.
    pub fn status_deleted(&self, namespace: &str, configuration: &str, name: &str) {
        if let Some(handle) = self.lock().get(&(namespace.to_owned(), configuration.to_owned())) {
            handle.hints.lock().deleted.insert(name.to_owned());
            handle.hints.arrived.notify_one();
        }
    }

    /// Waits until every configuration has ended after the operator's shutdown, at most `deadline`.
    pub async fn ended(&self, deadline: Duration) {
        let handles: Vec<_> = self.lock().drain().map(|(_, handle)| handle.task).collect();
        let _ = tokio::time::timeout(deadline, futures::future::join_all(handles)).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MOST_HINTS: usize = 10_000;
