//! Drives one state machine: turns its effects into tasks and their results into events.
//!
//! Every task is owned here and ends with the driver; the state machine bounds how many there are.

mod comparing;
mod deletions;
mod figures;
mod looks;
mod run_once;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::figures::{figures, usage};
use super::clock::Clock;
use super::fair_slots::FairSlots;
use super::hints::Hint;
use super::machine::{
    Assignment, ComparisonId, CopyId, Effect, Event, Looks, Machine, Orders, Outcome, PairId, StoreOutcome, Stored,
    StoredPair,
};
use super::mailbox::Mailbox;
use super::observer::{Observation, Observer};
use super::ports::{Access, Executor, Store};
use super::shared_claims::SharedClaims;
use super::sweeps::{SweepShare, Sweeps};
use crate::copy::Engine;
use crate::image::{RepositoryName, Tag};
use crate::metrics::Metrics;
use crate::plan::{NamespacedName, PairIdentity, SweepOwner};
use crate::policy::PermissionRequest;
use crate::terms::{Action, ReplicationStatusStatus};

/// Everything that the configurations of a process share.
pub(crate) struct Core {
    /// Registries and policies.
    pub access: Arc<dyn Access>,
    /// Statuses and records.
    pub store: Arc<dyn Store>,
    /// Carries out copies.
    pub executor: Arc<dyn Executor>,
    /// Copies images, and keeps what it has read of them.
    pub engine: Engine,
    /// The claims of all configurations.
    pub claims: SharedClaims,
    /// The bound of comparisons at once.
    pub comparisons: FairSlots,
    /// The budgets for looks at known tags.
    pub sweeps: Sweeps,
    /// The time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Takes the uids of configurations that need new orders, as claims changed.
    pub wakes: mpsc::UnboundedSender<Vec<String>>,
}

/// The ways to a driver from outside.
pub(crate) struct Inlets {
    /// New orders, hints and lost statuses.
    pub mailbox: Arc<Mailbox>,
    /// Ends the configuration for good.
    pub retire: CancellationToken,
    /// Lets nothing begin any more.
    pub drain: CancellationToken,
    /// Ends the process.
    pub shutdown: CancellationToken,
}

/// Drives one configuration.
pub(crate) struct Driver {
    core: Arc<Core>,
    inlets: Inlets,
    /// One receiver for all turns: a stop that is noticed between two turns counts.
    stops: watch::Receiver<u64>,
    machine: Machine,
    comparison: Option<RunningComparison>,
    copies: JoinSet<Outcome>,
    started: HashMap<task::Id, StartedCopy>,
    /// There while something is copied.
    progress: Option<ProgressChannel>,
    /// Everything else: each ends with an event, which stands here in case that the task panics; boxed, as a map keeps room
    /// for four.
    tasks: JoinSet<Event>,
    expected: HashMap<task::Id, Box<Event>>,
    deletions: HashMap<CopyId, AbortHandle>,
    /// Bounds deletions and looks ahead.
    background: Arc<Semaphore>,
    /// The hints that the machine is taking, by tag.
    hinted: BTreeMap<(RepositoryName, Tag), Arc<Hint>>,
    announced_at: Option<Timestamp>,
}

/// The way of the progress of copies. Each event is boxed: the channel keeps room for 32.
type ProgressChannel = (mpsc::Sender<Box<Event>>, mpsc::Receiver<Box<Event>>);

/// A copy that was started.
struct StartedCopy {
    copy: CopyId,
    task: AbortHandle,
    assignment: Arc<Assignment>,
    at: Instant,
}

/// A comparison that is under way.
struct RunningComparison {
    id: ComparisonId,
    task: AbortHandle,
    findings: mpsc::UnboundedReceiver<Box<Observation>>,
    replies: HashMap<RepositoryName, oneshot::Sender<Looks>>,
}

impl Drop for RunningComparison {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// Returns a driver of the configuration with these orders, with what an earlier process left of it.
    pub(crate) fn new(core: Arc<Core>, orders: Arc<Orders>, inlets: Inlets, stored: Stored) -> Self {
        for StoredPair { identity, status, .. } in &stored.pairs {
            core.metrics.pair(&identity.namespace, &identity.name, usage(identity, status));
        }
        let takes_long = stored.takes_long();
        let machine = core.claims.hold(takes_long, |claims| Machine::new(orders, stored, claims, core.clock.now()));
        Self {
            machine,
            stops: core.clock.watch_stops(),
            core,
            inlets,
            comparison: None,
            copies: JoinSet::new(),
            started: HashMap::new(),
            progress: None,
            tasks: JoinSet::new(),
            expected: HashMap::new(),
            deletions: HashMap::new(),
            background: Arc::new(Semaphore::new(BACKGROUND_AT_ONCE)),
            hinted: BTreeMap::new(),
            announced_at: None,
        }
    }

    /// Runs until the configuration or the process ends. Boxed: the task of each configuration would have room for two.
    pub(crate) async fn run(mut self: Box<Self>) {
        self.step(Event::Wake);
        while !self.machine.is_done() {
            self.turn().await;
        }
    }

    /// Waits for one event and takes it.
    async fn turn(&mut self) {
        let wake = self.machine.wake_at(self.core.clock.now()).map(|at| at.duration_since(self.core.clock.now()));
        let wake = wake.map(|pause| Duration::try_from(pause).unwrap_or_default()).unwrap_or(MAX_SLEEP);
        let (takes, hints) = (self.machine.takes_findings(self.core.clock.now()), self.machine.hints_wanted());
        let is_ending = self.machine.is_ending();
        tokio::select! {
            () = self.inlets.retire.cancelled(), if !is_ending => self.step(Event::Retire),
            () = self.inlets.drain.cancelled(), if !is_ending && !self.machine.is_draining() => self.step(Event::Drain),
            () = self.inlets.shutdown.cancelled(), if !is_ending => self.step(Event::Interrupt),
            Ok(()) = self.stops.changed() => self.step(Event::Frozen),
            observation = next_observation(&mut self.comparison), if takes => self.take_observation(observation),
            Some(ended) = self.tasks.join_next_with_id() => self.take_task(ended),
            Some(copied) = self.copies.join_next_with_id() => self.take_copy(copied),
            progress = next_progress(&mut self.progress) => self.step(*progress),
            mail = self.inlets.mailbox.take(hints), if !is_ending => self.take_mail(mail),
            () = tokio::time::sleep(wake.min(MAX_SLEEP)) => self.step(Event::Wake),
        }
    }

    fn step(&mut self, event: Event) {
        let takes_long = self.machine.takes_long(&event);
        let (machine, clock) = (&mut self.machine, &self.core.clock);
        // The time is that at which the claims are there: the wait for them may be long.
        let effects = self.core.claims.hold(takes_long, |claims| machine.step(event, claims, clock.now()));
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Compare(id) => self.compare(id),
            Effect::StopComparison => self.comparison = None,
            Effect::Observe(id, looks) => {
                if let Some(running) = self.comparison.as_mut().filter(|running| running.id == id)
                    && let Some(reply) = running.replies.remove(&looks.repository)
                {
                    let _ = reply.send(looks); // It was stopped meanwhile.
                }
            }
            Effect::Look { repository, tag, hinted } => self.look(repository, tag, hinted),
            Effect::Sweep { repository, tag, asks } => self.sweep(repository, tag, asks),
            Effect::Swept(duration) => {
                let orders = self.machine.orders();
                self.core.metrics.swept(&orders.namespace, &orders.name, duration);
            }
            Effect::ListTags(repository) => self.list_tags(repository),
            Effect::LookAhead(destination, repository) => self.look_ahead(*destination, repository),
            Effect::Copy(copy, assignment) => self.copy(copy, assignment),
            Effect::DeleteTag(copy, deletion) => self.delete_tag(copy, deletion),
            Effect::Stop(copy) => {
                self.deletions.get(&copy).inspect(|handle| handle.abort());
                self.started.values().filter(|started| started.copy == copy).for_each(|started| started.task.abort());
            }
            Effect::Verified(destination, lag) => {
                self.core.metrics.verified(&destination.namespace, &destination.name, lag)
            }
            Effect::Record(pair, record) => self.core.store.record(&pair, &record),
            Effect::Publish(id, pair, status) => {
                self.core.metrics.pair(&pair.namespace, &pair.name, usage(&pair, &status));
                self.core.store.begin_record(&pair, &status, &|| self.machine.verified_images(id));
                self.publish(id, pair, status);
            }
            Effect::Delete(pair) => {
                self.core.metrics.forget_pair(&pair.namespace, &pair.name);
                self.delete(pair);
            }
            Effect::Report(report) => {
                let orders = self.machine.orders();
                self.core.metrics.configuration(&orders.namespace, &orders.name, figures(&report));
                self.core.store.report(&orders.namespace, &orders.name, &orders.holder.uid, report);
            }
            Effect::WakeOthers(uids) => drop(self.core.wakes.send(uids)),
        }
    }

    fn observer(&self) -> Observer {
        let (core, source) = (&self.core, self.machine.source());
        let owner = SweepOwner { registry: source.clone(), configuration: self.machine.orders().name.clone() };
        let identity = self.machine.orders().registries.get(&source);
        let host = identity.map(|identity| identity.host.clone()).unwrap_or_default();
        let (sweeps, rate, clock) = (core.sweeps.clone(), core.access.sweep_rate(&source), core.clock.clone());
        Observer {
            access: core.access.clone(),
            engine: core.engine.clone(),
            clock: clock.clone(),
            source,
            sweep: SweepShare { sweeps, owner, host, rate, clock },
        }
    }

    /// Looks at a repository that images are about to be copied to, with the consent of its owner.
    fn look_ahead(&mut self, destination: NamespacedName, repository: RepositoryName) {
        let (access, engine) = (self.core.access.clone(), self.core.engine.clone());
        let (namespace, name) = (self.machine.orders().namespace.clone(), self.machine.orders().name.clone());
        let background = self.background.clone();
        let look = async move {
            let _place = background.acquire().await;
            let request = PermissionRequest {
                namespace: &namespace,
                configuration: &name,
                action: Action::ReplicateImage,
                registry_namespace: &destination.namespace,
                registry: &destination.name,
                repository: repository.as_str(),
            };
            if access.decide(request).await.allowed
                && let Ok(client) = access.client(&destination).await
            {
                engine.look_ahead(&client, &repository).await;
            }
            Event::Wake
        };
        self.spawn(look, Event::Wake);
    }

    fn copy(&mut self, copy: CopyId, assignment: Arc<Assignment>) {
        let (progress, _) = self.progress.get_or_insert_with(|| mpsc::channel(PROGRESS));
        let (executor, progress, copied) = (self.core.executor.clone(), progress.clone(), assignment.clone());
        let handle = self.copies.spawn(async move {
            // A full channel loses a number of bytes that the next one corrects.
            let report = move |reported| {
                let _ = progress.try_send(Box::new(Event::Progress(copy, reported)));
            };
            executor.copy(copied, &report).await
        });
        let at = Instant::now();
        self.started.insert(handle.id(), StartedCopy { copy, task: handle, assignment, at });
    }

    fn take_copy(&mut self, copied: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match copied {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a copy panicked");
                }
                (error.id(), None)
            }
        };
        let Some(StartedCopy { copy, assignment, at, .. }) = take(&mut self.started, id) else { return };
        if self.started.is_empty() {
            self.progress = None;
        }
        if let Some(outcome) = &outcome {
            if outcome.result.is_ok() {
                self.core.access.served(&assignment.source);
                self.core.access.served(&assignment.destination);
            }
            let word = match &outcome.result {
                Ok(_) => "complete",
                Err(error) if error.code.is_skip() => "skipped",
                Err(_) => "failed",
            };
            self.core.metrics.copied(word, at.elapsed());
        }
        self.step(Event::Ended(copy, outcome, rand::random()));
    }

    fn publish(&mut self, id: PairId, pair: Arc<PairIdentity>, status: Box<ReplicationStatusStatus>) {
        let store = self.core.store.clone();
        self.core.metrics.status_writes.inc();
        let publish = async move {
            let written = store.publish(&pair, &status).await;
            if let Err(error) = &written {
                tracing::warn!(%error, "a status waits to be written");
            }
            Event::Published(id, StoreOutcome::from(&written))
        };
        self.spawn(publish, Event::Published(id, StoreOutcome::Failed));
    }

    fn delete(&mut self, pair: Arc<PairIdentity>) {
        let (store, background, name) = (self.core.store.clone(), self.background.clone(), pair.name.clone());
        let delete = async move {
            let _place = background.acquire().await;
            let deleted = store.delete(&pair).await;
            if let Err(error) = &deleted {
                tracing::warn!(%error, "a status is left to the garbage collector");
            }
            Event::Deleted(pair.name.clone(), StoreOutcome::from(&deleted))
        };
        self.spawn(delete, Event::Deleted(name, StoreOutcome::Failed));
    }

    fn spawn(&mut self, task: impl Future<Output = Event> + Send + 'static, expected: Event) -> AbortHandle {
        let handle = self.tasks.spawn(task.boxed());
        self.expected.insert(handle.id(), Box::new(expected));
        handle
    }

    fn take_task(&mut self, ended: Result<(task::Id, Event), JoinError>) {
        match ended {
            Ok((id, event)) => {
                take(&mut self.expected, id);
                self.step(event);
            }
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a task of a configuration panicked");
                }
                if let Some(event) = take(&mut self.expected, error.id()) {
                    self.step(*event);
                }
            }
        }
    }
}

/// Removes what is kept of a task, and the room of the map with the last one: most configurations are idle.
fn take<T>(kept: &mut HashMap<task::Id, T>, id: task::Id) -> Option<T> {
    let taken = kept.remove(&id);
    if kept.is_empty() {
        kept.shrink_to_fit();
    }
    taken
}

async fn next_progress(progress: &mut Option<ProgressChannel>) -> Box<Event> {
    match progress {
        Some((_, reports)) => reports.recv().await.expect("the sender is kept beside the receiver"),
        None => std::future::pending().await,
    }
}

async fn next_observation(comparison: &mut Option<RunningComparison>) -> Option<Observation> {
    match comparison {
        Some(running) => running.findings.recv().await.map(|observation| *observation),
        None => std::future::pending().await,
    }
}

const PROGRESS: usize = 512;
const BACKGROUND_AT_ONCE: usize = 8;
const MAX_SLEEP: Duration = Duration::from_secs(60);
