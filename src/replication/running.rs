//! The running configurations of a process: gives each its orders and hints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver::{Core, Driver, Inlets};
use super::hint_index::HintIndex;
use super::hints::PushedTag;
use super::machine::{Orders, Stored};
use super::mailbox::Mailbox;
use crate::image::RepositoryName;
use crate::locked::Locked;
use crate::plan::{Configuration, NamespacedName};

/// The running configurations, by namespace and name.
pub(crate) struct Configurations {
    core: Arc<Core>,
    shutdown: CancellationToken,
    running: Locked<HashMap<(String, String), Handle>>,
    hints: HintIndex,
    /// Tasks that end, by the uid of their configuration: the next one of that uid waits for it.
    ending: Locked<HashMap<String, JoinHandle<()>>>,
}

/// The names of ReplicationStatuses, by namespace and configuration.
pub(crate) type StatusNames = BTreeMap<(String, String), BTreeSet<String>>;

struct Handle {
    uid: String,
    source: (String, String),
    /// The last orders.
    orders: Arc<Orders>,
    /// The cause that keeps Jobs from running, as last said.
    workers: Option<String>,
    mailbox: Arc<Mailbox>,
    /// The spec by which hints are given.
    subscribed: Option<Arc<Configuration>>,
    retire: CancellationToken,
    task: JoinHandle<()>,
}

impl Configurations {
    /// None yet. All of them end with `shutdown`.
    pub(crate) fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        Self { core, shutdown, running: Locked::default(), hints: HintIndex::default(), ending: Locked::default() }
    }

    /// Gives orders to a configuration, and starts it where it does not run: `stored` returns what an earlier process
    /// left of it.
    pub(crate) fn order(&self, mut orders: Orders, stored: impl FnOnce() -> Stored + Send + 'static) {
        let key = (orders.namespace.clone(), orders.name.clone());
        let source = orders.configuration.as_ref().ok().map(|spec| (key.0.clone(), spec.source.clone()));
        let mut running = self.running.lock();
        if let Some(handle) =
            running.get_mut(&key).filter(|handle| handle.uid == orders.holder.uid && !handle.task.is_finished())
        {
            if source.is_some_and(|source| std::mem::replace(&mut handle.source, source.clone()) != source)
                && handle.workers.take().is_some()
            {
                handle.mailbox.workers(None); // It was about the Jobs of another source.
            }
            // At once: configurations whose orders come after this are weighed against it.
            if handle.orders.holder != orders.holder {
                let waiting = self.core.claims.lock().renew(&orders.holder);
                if !waiting.is_empty() {
                    let _ = self.core.wakes.send(waiting); // A closed channel means that the process ends.
                }
            }
            if orders.configuration == handle.orders.configuration {
                orders.configuration = handle.orders.configuration.clone(); // One of two equal ones is enough.
            }
            if *handle.orders != orders {
                handle.orders = Arc::new(orders);
                handle.mailbox.order(handle.orders.clone());
            }
            let configuration = handle.orders.configuration.clone().ok();
            let (is_first, mailbox) = (handle.subscribed.is_none(), handle.mailbox.clone());
            self.subscribe(handle, configuration.as_ref());
            drop(running);
            if let Some(configuration) = configuration.filter(|_| is_first) {
                self.hints.give_early(&configuration, &mailbox);
            }
            return;
        }
        if let Some(earlier) = running.remove(&key) {
            self.retire(earlier);
        }
        let configuration = orders.configuration.clone().ok();
        let mut handle = self.start(orders, source.unwrap_or_default(), stored);
        self.subscribe(&mut handle, configuration.as_ref());
        let mailbox = handle.mailbox.clone();
        running.insert(key, handle);
        drop(running);
        if let Some(configuration) = configuration {
            self.hints.give_early(&configuration, &mailbox);
        }
    }

    /// Ends a configuration that does not exist any more.
    pub(crate) fn end(&self, namespace: &str, name: &str) {
        if let Some(handle) = self.running.lock().remove(&(namespace.to_owned(), name.to_owned())) {
            self.retire(handle);
        }
    }

    /// Passes on that tags were pushed to a Registry. Takes bounded memory.
    pub(crate) fn hint(&self, registry: &NamespacedName, pushed: Vec<PushedTag>) {
        self.hints.give(registry, pushed, self.core.clock.now());
    }

    /// Returns true if a configuration has been given orders.
    pub(crate) fn has_started(&self, namespace: &str, name: &str) -> bool {
        self.running.lock().contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Ends the time in which pushes are kept for configurations that have not started yet: all have.
    pub(crate) fn all_have_started(&self) {
        self.hints.all_have_started();
    }

    /// Passes on that something was deleted in repositories of a Registry. Takes bounded memory.
    pub(crate) fn hint_deleted(&self, registry: &NamespacedName, repositories: &BTreeSet<RepositoryName>) {
        self.hints.give_deleted(registry, repositories);
    }

    /// Passes on that a ReplicationStatus of a configuration was deleted.
    pub(crate) fn status_deleted(&self, namespace: &str, configuration: &str, name: &str) {
        if let Some(handle) = self.running.lock().get(&(namespace.to_owned(), configuration.to_owned())) {
            handle.mailbox.lost(name);
        }
    }

    /// Passes on the names of all ReplicationStatuses that exist: one that is not among them was deleted.
    pub(crate) fn statuses_listed(&self, mut listed: StatusNames) {
        for (key, handle) in self.running.lock().iter() {
            handle.mailbox.listed(listed.remove(key).unwrap_or_default());
        }
    }

    /// Passes on what keeps the Jobs of a source's images from running, to the configurations of that source alone.
    pub(crate) fn workers(&self, source: &NamespacedName, problem: Option<&str>) {
        let mut running = self.running.lock();
        for name in self.hints.names_of(source) {
            let found = running.get_mut(&(source.namespace.clone(), name));
            let Some(handle) = found.filter(|handle| handle.workers.as_deref() != problem) else { continue };
            handle.workers = problem.map(str::to_owned);
            handle.mailbox.workers(handle.workers.clone());
        }
    }

    /// Keeps the clock beating, so that stops of the process are noticed; never ends.
    pub(crate) fn beat(&self) -> impl Future<Output = ()> + use<> {
        self.core.clock.clone().beat()
    }

    /// Waits until every configuration has ended after the shutdown, at most `deadline`.
    pub(crate) async fn ended(&self, deadline: Duration) {
        let running: Vec<_> = self.running.lock().drain().map(|(_, handle)| handle.task).collect();
        let ending: Vec<_> = self.ending.lock().drain().map(|(_, task)| task).collect();
        let all = futures::future::join_all(running.into_iter().chain(ending));
        let _ = tokio::time::timeout(deadline, all).await;
    }

    fn start(
        &self,
        orders: Orders,
        source: (String, String),
        stored: impl FnOnce() -> Stored + Send + 'static,
    ) -> Handle {
        let uid = orders.holder.uid.clone();
        let (mailbox, retire) = (Arc::new(Mailbox::default()), CancellationToken::new());
        let orders = Arc::new(orders);
        let inlets = Inlets {
            mailbox: mailbox.clone(),
            retire: retire.clone(),
            drain: CancellationToken::new(),
            shutdown: self.shutdown.clone(),
        };
        let (core, first) = (self.core.clone(), orders.clone());
        let earlier = self.ending.lock().remove(&uid);
        let task = tokio::spawn(async move {
            if let Some(earlier) = earlier {
                let _ = earlier.await;
            }
            // What the earlier one left is read once it has ended, and orders may have come meanwhile.
            let orders = inlets.mailbox.take_orders().unwrap_or(first);
            Box::new(Driver::new(core, orders, inlets, stored())).run().await;
        });
        Handle { uid, source, orders, workers: None, mailbox, subscribed: None, retire, task }
    }

    /// Lets a configuration take hints by `configuration`, and by its earlier spec no more.
    fn subscribe(&self, handle: &mut Handle, configuration: Option<&Arc<Configuration>>) {
        if handle.subscribed.as_ref() == configuration {
            return;
        }
        if let Some(earlier) = handle.subscribed.take() {
            self.hints.unsubscribe(&earlier);
        }
        match configuration {
            Some(configuration) => {
                self.hints.subscribe(configuration.clone(), handle.mailbox.clone());
                handle.subscribed = Some(configuration.clone());
            }
            // It does not hear of the end of this problem; one that is there still is passed on again.
            None if handle.workers.take().is_some() => handle.mailbox.workers(None),
            None => {}
        }
    }

    fn retire(&self, mut handle: Handle) {
        self.subscribe(&mut handle, None);
        handle.retire.cancel();
        let mut ending = self.ending.lock();
        ending.retain(|_, task| !task.is_finished());
        ending.insert(handle.uid, handle.task);
    }
}
