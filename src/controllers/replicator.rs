//! Runs one configuration: takes orders, findings, hints and outcomes, decides by `plan`, and starts copies.
//!
//! It is the only owner of its pairs, so nothing here is locked; everything that takes time runs in tasks that it owns and that
//! end with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::comparison::{self, Finding, KnownBefore};
use super::copies::{Began, Copying, Queued};
use super::copying::Outcome;
use super::pair::{Pair, PairKey};
use super::replicators::{Hints, Orders, Pushed};
use crate::api::{FailureCode, reason};
use crate::cluster::StoredPair;
use crate::image::RepositoryName;
use crate::plan::{ConfigurationReport, REFERRERS_EVERY, SeenReferrers, Trouble};

/// One running configuration.
pub struct Replicator {
    pub(super) context: Arc<Context>,
    orders: watch::Receiver<Orders>,
    pub(super) current: Orders,
    pub(super) report: watch::Sender<ConfigurationReport>,
    hints: Arc<Hints>,
    end: CancellationToken,
    pub(super) stored: Vec<StoredPair>,
    pub(super) pairs: BTreeMap<PairKey, Pair>,
    pub(super) queue: VecDeque<Queued>,
    pub(super) copies: JoinSet<Outcome>,
    pub(super) copying: HashMap<task::Id, Copying>,
    pub(super) began: (mpsc::Sender<Began>, mpsc::Receiver<Began>),
    worker_troubles: watch::Receiver<u64>,
    pub(super) observations: JoinSet<Option<Finding>>,
    pub(super) comparison: Option<Comparison>,
    pub(super) compare_at: Timestamp,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) repositories: BTreeSet<RepositoryName>,
    /// What refers to the images of each source repository, and when all of them were last asked for it.
    pub(super) referrers: BTreeMap<RepositoryName, (SeenReferrers, Timestamp)>,
    pub(super) compared: bool,
    pub(super) settled: bool,
    pub(super) asked: Option<String>,
    pub(super) handled: Option<String>,
    pub(super) reported_at: Timestamp,
}

/// A comparison that is under way.
pub(super) struct Comparison {
    findings: mpsc::Receiver<Finding>,
    task: AbortHandle,
    request: Option<String>,
    /// Pairs and rows that are younger than it were found by hints: it says nothing about them.
    pub(super) started: Timestamp,
    pub(super) known: BTreeSet<PairKey>,
    pub(super) troubles: Vec<Trouble>,
}

impl Drop for Comparison {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replicator {
    /// A configuration that starts, with what an earlier process left of it.
    pub fn new(
        context: Arc<Context>,
        mut orders: watch::Receiver<Orders>,
        report: watch::Sender<ConfigurationReport>,
        hints: Arc<Hints>,
        end: CancellationToken,
        stored: Vec<StoredPair>,
    ) -> Self {
        let current = orders.borrow_and_update().clone();
        let handled = current.object.status.as_ref().and_then(|status| status.last_handled_replicate_request.clone());
        Self {
            worker_troubles: context.office.trouble_changes(),
            began: mpsc::channel(BEGAN),
            context,
            orders,
            current,
            report,
            hints,
            end,
            stored,
            pairs: BTreeMap::new(),
            queue: VecDeque::new(),
            copies: JoinSet::new(),
            copying: HashMap::new(),
            observations: JoinSet::new(),
            comparison: None,
            compare_at: Timestamp::now(),
            retry_at: None,
            troubles: Vec::new(),
            repositories: BTreeSet::new(),
            referrers: BTreeMap::new(),
            compared: false,
            settled: false,
            asked: handled.clone(),
            handled,
            reported_at: Timestamp::now(),
        }
    }

    /// Runs until the configuration or the operator ends. Where the configuration ends, its statuses are deleted and its claims
    /// given up; where the operator ends, nothing is left in progress.
    pub async fn run(mut self) {
        self.resume(Timestamp::now()).await;
        self.ask_again(Timestamp::now());
        loop {
            let now = Timestamp::now();
            self.start_due_work(now);
            self.publish(now).await;
            let pause = self.next_wake().duration_since(Timestamp::now());
            tokio::select! {
                () = self.end.cancelled() => return self.retire().await,
                () = self.context.shutdown.cancelled() => return self.interrupt().await,
                changed = self.orders.changed() => match changed {
                    Ok(()) => self.take_orders().await,
                    // Nobody gives orders any more: the configuration has ended, or the whole operator ends.
                    Err(_) if self.end.is_cancelled() => return self.retire().await,
                    Err(_) => return self.interrupt().await,
                },
                finding = next_finding(&mut self.comparison) => self.take_finding(finding).await,
                Some(observed) = self.observations.join_next() => if let Ok(Some(finding)) = observed { self.take_observed(finding).await },
                Some(copied) = self.copies.join_next_with_id() => self.take_outcome(copied),
                Some(began) = self.began.1.recv() => self.take_began(&began),
                Ok(()) = self.worker_troubles.changed() => {}
                pushed = self.hints.take(), if self.observations.len() < OBSERVATIONS_AT_ONCE => self.take_hints(pushed),
                () = tokio::time::sleep(Duration::try_from(pause).unwrap_or_default()) => {}
            }
        }
    }

    async fn take_orders(&mut self) {
        let (next, now) = (self.orders.borrow_and_update().clone(), Timestamp::now());
        let earlier = std::mem::replace(&mut self.current, next);
        if self.current.object.metadata.generation != earlier.object.metadata.generation {
            (self.comparison, self.compared, self.settled) = (None, false, false);
            if self.current.configuration.suspend {
                self.stop_copies(now);
            }
            self.drop_pairs_without_rule().await;
            self.drop_tags_without_rule(now);
            self.apply_options(now);
            self.compare_at = now;
        }
        if self.current.surroundings != earlier.surroundings {
            self.mended(now);
        }
        self.ask_again(now);
    }

    /// Compares at once when the annotation has a value that was not handled yet.
    fn ask_again(&mut self, now: Timestamp) {
        if self.current.request.is_some() && self.current.request != self.asked {
            self.asked = self.current.request.clone();
            self.comparison = None;
            self.compare_at = now;
            self.settled = false;
            self.make_due(now, |_| true);
        }
    }

    /// Something around the configuration changed: what failed because of it may succeed now.
    fn mended(&mut self, now: Timestamp) {
        self.make_due(now, |code| {
            use FailureCode::{
                DestinationDenied, DestinationUnavailable, PolicyRevoked, RegistryNotReady, RegistryPermissionDenied,
                SourceDenied, SourceUnavailable,
            };
            matches!(
                code,
                DestinationDenied
                    | DestinationUnavailable
                    | PolicyRevoked
                    | RegistryNotReady
                    | RegistryPermissionDenied
                    | SourceDenied
                    | SourceUnavailable
            )
        });
        if !self.troubles.is_empty() {
            self.compare_at = now;
        }
    }

    fn make_due(&mut self, now: Timestamp, chosen: impl Fn(FailureCode) -> bool) {
        for pair in self.pairs.values_mut() {
            pair.ledger.make_due(now, &chosen);
        }
        self.retry_at = Some(now);
    }

    fn start_due_work(&mut self, now: Timestamp) {
        if self.current.configuration.suspend {
            return;
        }
        if self.comparison.is_none() && self.compare_at <= now {
            self.start_comparison(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.queue_retries(now);
        }
        let most = if self.class().is_some() { COPIES_BY_JOBS } else { COPIES_AT_ONCE };
        // One in a hurry does not wait for the others.
        while (self.copies.len() < most || self.queue.front().is_some_and(|queued| queued.hurried))
            && self.copies.len() < MOST_COPIES
            && let Some(queued) = self.queue.pop_front()
        {
            self.start_copy(queued, now);
        }
    }

    fn start_comparison(&mut self, now: Timestamp) {
        let configuration = self.current.configuration.clone();
        let Some(registry) = self.context.registry(&configuration.namespace, &configuration.source) else {
            let message =
                format!("spec.source.registryRef: there is no Registry {} in this namespace", configuration.source);
            self.troubles = vec![Trouble { stalled: true, reason: reason::REGISTRY_NOT_FOUND, message }];
            self.compare_at = now + RETRY_COMPARISON;
            return;
        };
        let (sender, findings) = mpsc::channel(FINDINGS);
        let lately = self.referrers.iter().filter(|(_, (_, asked))| *asked + REFERRERS_EVERY > now);
        let referrers = lately.map(|(repository, _)| repository.clone()).collect();
        let before = KnownBefore { referrers, settled: self.settled_tags() };
        let compare = comparison::compare(self.context.clone(), registry, configuration, before, sender);
        let task = tokio::spawn(compare).abort_handle();
        let known = self.pairs.keys().cloned().collect();
        let request = self.asked.clone();
        self.comparison = Some(Comparison { findings, task, request, started: now, known, troubles: Vec::new() });
    }

    fn queue_retries(&mut self, now: Timestamp) {
        self.retry_at = None;
        let mut found = Vec::new();
        for (key, pair) in &self.pairs {
            let (due, next) = pair.ledger.due(now);
            found.extend(due.into_iter().map(|(tag, _)| (key.clone(), tag)));
            self.retry_at = self.retry_at.into_iter().chain(next).min();
        }
        for (key, tag) in found {
            self.enqueue(key, tag, false);
        }
    }

    fn take_hints(&mut self, pushed: Pushed) {
        for pair in self.pairs.values_mut().filter(|pair| pushed.deleted.contains(&pair.identity.name)) {
            pair.deleted(Timestamp::now());
        }
        if self.current.configuration.suspend {
            return;
        }
        if pushed.overflown {
            self.compare_at = Timestamp::now();
        }
        let configuration = &self.current.configuration;
        let Some(registry) = self.context.registry(&configuration.namespace, &configuration.source) else { return };
        for ((repository, tag), digest) in pushed.tags {
            if self.is_settled(&repository, &tag) {
                continue;
            }
            let (context, registry) = (self.context.clone(), registry.clone());
            self.observations
                .spawn(async move { comparison::observe_tag(&context, &registry, repository, tag, digest).await });
        }
    }

    /// Has the source compared after a pause, where the next comparison is not due earlier.
    pub(super) fn compare_soon(&mut self) {
        self.compare_at = self.compare_at.min(Timestamp::now() + SOON);
    }

    /// The end of a comparison: when the next one is due, and what stands in the way.
    pub(super) fn finish_comparison(&mut self, complete: bool) {
        let Some(mut comparison) = self.comparison.take() else { return };
        self.troubles = std::mem::take(&mut comparison.troubles);
        self.compared = complete;
        self.settled = false;
        let interval = self.current.configuration.interval;
        // What another configuration holds is told when it is free; everything else has to be looked at again.
        let told =
            |trouble: &Trouble| matches!(trouble.reason, reason::DESTINATION_CONFLICT | reason::SELF_REPLICATION);
        let pause = if complete && self.troubles.iter().all(told) { interval } else { interval.min(RETRY_COMPARISON) };
        self.compare_at = Timestamp::now() + pause;
        self.asked = comparison.request.clone().or_else(|| self.asked.clone());
    }
}

async fn next_finding(comparison: &mut Option<Comparison>) -> Finding {
    match comparison {
        // A comparison that ends without saying so has panicked: it is incomplete.
        Some(comparison) => comparison.findings.recv().await.unwrap_or(Finding::Done { complete: false }),
        None => std::future::pending().await,
    }
}

const COPIES_AT_ONCE: usize = 8;
/// More than a worker has slots: the next ones are handed in while it works.
const COPIES_BY_JOBS: usize = 64;
const MOST_COPIES: usize = 256;
const BEGAN: usize = 512;
const OBSERVATIONS_AT_ONCE: usize = 64;
const FINDINGS: usize = 500;
const SOON: Duration = Duration::from_secs(2);
const RETRY_COMPARISON: Duration = Duration::from_secs(15);
