//! The process of a copy Job: takes images from the operator, copies them, and reports their progress. Keeps no state.

mod authority;
mod error;
mod item;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{self, AbortHandle, JoinSet};

use self::authority::Leases;
pub use self::error::WorkerError;
use self::item::{ItemCopy, Route};
use crate::channel::{
    ChannelClient, ChannelError, ChannelFiles, EndedItem, HeldItem, Item, ItemId, Report, ReportAnswer,
};
use crate::config::WorkerFlags;
use crate::copy::{ByteCounter, Engine};
use crate::registry::EgressPolicy;

/// Copies the images that the operator hands out, until it lets the worker go.
///
/// # Errors
/// [`WorkerError`] if the operator cannot be reached for [`PATIENCE`], or does not know this worker any more. Its
/// sentence is left for the pod's status, too.
pub async fn run(flags: WorkerFlags) -> Result<(), WorkerError> {
    let ended = work(&flags).await;
    if let Err(cause) = &ended {
        // Absent outside of a pod.
        let _ = std::fs::write(PathBuf::from(TERMINATION_LOG), cause.to_string());
    }
    ended
}

async fn work(flags: &WorkerFlags) -> Result<(), WorkerError> {
    let client = ChannelClient::new(ChannelFiles::read(&flags.channel)?)?;
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(WorkerError::Signals)?;
    let mut worker = Worker {
        client: client.clone(),
        session: format!("{:032x}", rand::random::<u128>()),
        sequence: 0,
        slots: usize::from(flags.slots),
        egress: Arc::new(flags.egress.policy()),
        engine: Engine::default(),
        route: None,
        leases: Arc::default(),
        running: HashMap::new(),
        waiting: VecDeque::new(),
        copies: JoinSet::new(),
        ended: Vec::new(),
    };
    tracing::info!(slots = flags.slots, "working");
    let mut answered = Instant::now();
    loop {
        let (report, sent) = (worker.report(), Instant::now());
        let answer = tokio::select! {
            answer = client.report(&report) => answer,
            Some(done) = worker.copies.join_next_with_id() => {
                worker.take(done);
                continue;
            }
            _ = terminate.recv() => return Ok(()),
        };
        match answer {
            Ok(answer) if answer.end && worker.is_idle() => return Ok(()),
            Ok(answer) => {
                answered = sent;
                worker.apply(answer, &report, sent)?;
                tokio::time::sleep(MIN_PAUSE.saturating_sub(sent.elapsed())).await;
            }
            Err(ChannelError::Late) => {}
            Err(error @ ChannelError::Void) => return Err(WorkerError::Unknown(error)),
            Err(error @ ChannelError::Unreachable(_)) => {
                // No answer has been usable yet: the cause is shown soon.
                let patience = if worker.route.is_none() { PATIENCE_AT_FIRST } else { PATIENCE };
                if answered.elapsed() > patience {
                    return Err(WorkerError::Unreachable(error));
                }
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

struct Worker {
    client: ChannelClient,
    session: String,
    sequence: u64,
    slots: usize,
    egress: Arc<EgressPolicy>,
    engine: Engine,
    route: Option<Arc<Route>>,
    leases: Arc<Leases>,
    running: HashMap<ItemId, RunningItem>,
    /// Images whose tag is being written by an earlier copy, which ends first.
    waiting: VecDeque<Item>,
    copies: JoinSet<EndedItem>,
    ended: Vec<EndedItem>,
}

struct RunningItem {
    item: Item,
    handle: AbortHandle,
    counter: ByteCounter,
}

impl Worker {
    fn report(&mut self) -> Report {
        self.sequence += 1;
        let held = |item: &Item, bytes| HeldItem {
            id: item.id.clone(),
            repository: item.image.target.clone(),
            tag: item.image.tag.clone(),
            bytes,
        };
        let running = self.running.values().map(|running| held(&running.item, running.counter.bytes()));
        let waiting = self.waiting.iter().map(|item| held(item, 0));
        Report {
            session: self.session.clone(),
            sequence: self.sequence,
            slots: self.slots,
            held: running.chain(waiting).collect(),
            ended: self.ended.clone(),
            access_version: self.route.as_ref().map(|route| route.version.clone()),
            quotas: self.route.as_ref().map(|route| route.quotas()).unwrap_or_default(),
        }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.ended.is_empty()
    }

    /// Carries out the orders of an answer.
    fn apply(&mut self, answer: ReportAnswer, report: &Report, sent: Instant) -> Result<(), WorkerError> {
        self.ended.drain(..report.ended.len());
        if let Some(access) = answer.access {
            self.route = Some(Arc::new(Route::new(access, &self.egress, self.route.as_deref())?));
        }
        if let Some((route, limits)) = self.route.as_ref().zip(answer.limits) {
            route.limit(&limits);
        }
        let until = sent + Duration::from_millis(answer.authority_ms);
        self.leases.renew(answer.keep.iter().chain(answer.items.iter().map(|item| &item.id)), until);
        for id in &answer.cancel {
            self.leases.end(id);
            self.waiting.retain(|item| item.id != *id);
            if let Some(running) = self.running.get(id) {
                running.handle.abort();
            }
        }
        let is_known = |id: &ItemId| self.running.contains_key(id) || self.waiting.iter().any(|item| item.id == *id);
        let new: Vec<Item> = answer.items.into_iter().filter(|item| !is_known(&item.id)).collect();
        self.waiting.extend(new);
        self.start_waiting();
        Ok(())
    }

    fn start_waiting(&mut self) {
        let Some(route) = self.route.clone() else { return };
        let mut later = VecDeque::new();
        for item in std::mem::take(&mut self.waiting) {
            let is_busy = |running: &RunningItem| {
                (&running.item.image.target, &running.item.image.tag) == (&item.image.target, &item.image.tag)
            };
            if self.running.values().any(is_busy) {
                later.push_back(item);
                continue;
            }
            let counter = ByteCounter::default();
            let copy = ItemCopy {
                item: item.clone(),
                route: route.clone(),
                engine: self.engine.clone(),
                leases: self.leases.clone(),
                client: self.client.clone(),
                session: self.session.clone(),
                counter: counter.clone(),
            };
            let handle = self.copies.spawn(copy.run());
            self.running.insert(item.id.clone(), RunningItem { item, handle, counter });
        }
        self.waiting = later;
    }

    fn take(&mut self, done: Result<(task::Id, EndedItem), task::JoinError>) {
        let id = match &done {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let found = self.running.iter().find(|(_, running)| running.handle.id() == id);
        if let Some(item) = found.map(|(item, _)| item.clone()) {
            self.running.remove(&item);
            self.leases.end(&item);
            match done {
                Ok((_, ended)) => self.ended.push(ended),
                Err(error) if error.is_panic() => self.ended.push(item::panicked(item)),
                Err(_) => {} // It was cancelled: the operator does not wait for it.
            }
        }
        self.start_waiting();
    }
}

const TERMINATION_LOG: &str = "/dev/termination-log";
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(500);
const MIN_PAUSE: Duration = Duration::from_millis(20);
