//! The state machine of one running configuration: everything it knows, and every decision it makes.
//!
//! [`Machine::step`] takes one [`Event`] and returns the [`Effect`]s to carry out; it does no I/O, and time comes in as
//! an argument. Effects come in an order that no hash decides, so that a schedule replays. The cost of an event does not
//! depend on the number of pairs: totals are kept up to date and deadlines are ordered. The driver carries effects out;
//! the simulator does so in a model, through random schedules.

mod assignments;
mod backfill;
mod causes;
mod claiming;
mod comparison;
mod copies;
mod deletion_hints;
mod deletions;
mod departed;
mod departed_image;
mod event;
mod finding;
mod hidden;
mod hinted_lists;
mod ids;
mod lag;
mod long_steps;
mod look_choice;
mod looks;
mod newest;
mod once;
mod orders;
mod pair;
mod pair_deletions;
mod pair_map;
mod pairs;
mod probes;
mod reporting;
mod room;
mod short;
mod shown;
mod state;
mod sweep;
mod sweep_state;
mod tags;
mod takers;
mod timers;
mod unselected;
mod verified;
mod withdrawals;
mod write_ahead;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use self::causes::SharedCauses;
pub(crate) use self::departed_image::{DepartedFate, DepartedImage};
pub(crate) use self::event::{
    Assignment, CopyProgress, Deletion, DeletionOutcome, Effect, Event, Group, Hints, Orders, Outcome, Predecessor,
    Record, RegistryIdentity, StoreOutcome, Stored, StoredPair,
};
pub(crate) use self::finding::{Coverage, Finding, Listed, Looked, Observed, Unread};
pub(crate) use self::ids::{ComparisonId, CopyId, PairId};
pub(crate) use self::looks::{KnownLooks, Looks, ReferrerLooks};
pub(crate) use self::once::NextAttempt;
pub(crate) use self::pair::{Pair, PairKey};
use self::pair_map::PairMap;
pub(crate) use self::state::Excluded;
use self::state::{
    Backfills, Comparison, Deletions, LastReport, MAX_AHEAD, MAX_LOOKS, MAX_PUBLICATIONS, Pacing, Places, Queued,
    Retried, RunningCopy, STANDSTILL, Slot, SourceRepository, WriteAhead,
};
use self::sweep_state::Sweep;
use self::timers::Timers;
use crate::image::{RepositoryName, Tag};
use crate::plan::{
    ByRegistry, Claims, Configuration, Counts, LagWatch, LagWindow, MAX_LATE_WRITE, PairIdentity, Problem,
    RepositoryAddress, WindowState,
};

/// One running configuration.
#[derive(Debug)]
pub(crate) struct Machine {
    orders: Arc<Orders>,
    /// The last spec that was valid; kept while a later one is not.
    configuration: Option<Arc<Configuration>>,
    effects: Vec<Effect>,

    pairs: PairMap,
    next_pair: PairId,
    totals: ByRegistry<Counts>,
    /// Pairs of an earlier process whose Registry is missing.
    stored: Vec<StoredPair>,
    /// Status objects whose deletion is under way, by name.
    deleting: HashMap<String, Arc<PairIdentity>>,
    /// The times at which failed deletions are tried again, by name.
    delete_again_at: BTreeMap<String, Timestamp>,
    /// The pairs by the names of their status objects.
    names: HashMap<String, PairId>,

    queue: VecDeque<Queued>,
    /// Images that left the queue and wait for the store.
    ahead: WriteAhead,
    /// Each is boxed: most configurations copy few images at once.
    copies: BTreeMap<CopyId, Box<RunningCopy>>,
    groups: BTreeMap<u64, Slot>,
    /// The copy that may be writing a tag of a destination, also if its pair is gone.
    writing: BTreeMap<(RepositoryAddress, Tag), CopyId>,
    next_copy: CopyId,
    retries: Timers<PairId>,
    backfills: Backfills,
    causes: SharedCauses,
    progressed_at: Timestamp,
    /// Deletions of images that have left the source.
    deletions: Deletions,

    comparison: Option<Comparison>,
    /// The observation of known tags.
    sweep: Sweep,
    next_comparison: ComparisonId,
    compare_at: Timestamp,
    pacing: Pacing,
    /// Tags are copied only if they were observed since: what an earlier process, or life, observed may be outdated.
    observe_from: Timestamp,
    /// Copies begin from then on.
    copy_from: Timestamp,
    /// The state of the windows for copies, as last asked.
    window: WindowState,
    /// Writes until then may be followed by one that an earlier process sent.
    doubt_until: Timestamp,
    places: Places,
    /// Pairs that were dropped while their status was being published: it is deleted after that.
    doomed: HashMap<PairId, Arc<PairIdentity>>,
    looks: usize,
    repositories: BTreeSet<RepositoryName>,
    /// The number of repositories as last published, until a comparison has listed them.
    stored_repositories: u64,
    sources: HashMap<RepositoryName, SourceRepository>,
    excluded: Excluded,

    publications: Timers<PairId>,
    publishing: usize,
    problems: Vec<Problem>,
    missing: Vec<Problem>,
    /// The first pair that the policies deny, as last decided.
    denied: Option<Problem>,
    workers: Option<String>,
    compared: Option<Option<i64>>,
    requested: Option<String>,
    handling: Option<String>,
    handled: Option<String>,
    reported: LastReport,
    /// True if counts changed since the last report.
    is_changed: bool,
    /// True if another process may have published pairs that this one has never seen.
    was_frozen: bool,
    lags: ByRegistry<LagWindow>,
    lag_watch: LagWatch,
    ending: Option<Ending>,
    retried: Retried,
}

/// The end of a configuration: of its process, or of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Interrupt,
    Retire,
}

impl Machine {
    /// Returns a configuration that starts, with what an earlier process left of it; to be followed by [`Event::Wake`].
    pub(crate) fn new(orders: Arc<Orders>, stored: Stored, claims: &mut Claims, now: Timestamp) -> Self {
        let running = stored.in_progress();
        claims.introduce(&orders.holder.uid, &orders.namespace);
        let is_resumed = stored.predecessor != Predecessor::None || !stored.pairs.is_empty();
        let mut machine = Self::idle(orders, stored, now);
        if is_resumed {
            machine.pacing.begins_together = true;
            machine.doubt_until = now + MAX_LATE_WRITE;
        }
        machine.remember_stored();
        machine.resume(claims, now);
        machine.look_again(running);
        machine.take_request(now);
        machine
    }

    /// Returns a configuration that has not taken up what an earlier process left.
    fn idle(orders: Arc<Orders>, stored: Stored, now: Timestamp) -> Self {
        Self {
            configuration: orders.configuration.clone().ok(),
            effects: Vec::new(),
            pairs: PairMap::default(),
            next_pair: 0,
            totals: ByRegistry::default(),
            stored: stored.pairs,
            deleting: HashMap::new(),
            delete_again_at: BTreeMap::new(),
            names: HashMap::new(),
            queue: VecDeque::new(),
            ahead: WriteAhead::default(),
            copies: BTreeMap::new(),
            groups: BTreeMap::new(),
            writing: BTreeMap::new(),
            next_copy: 0,
            retries: Timers::default(),
            backfills: Backfills::default(),
            causes: SharedCauses::default(),
            progressed_at: now,
            deletions: Deletions { history: stored.deletion_history, ..Deletions::default() },
            comparison: None,
            sweep: Sweep::default(),
            next_comparison: 0,
            compare_at: now,
            pacing: Pacing::default(),
            observe_from: now,
            copy_from: if let Predecessor::MayAct(left) = stored.predecessor { now + left } else { now },
            window: WindowState { is_open: true, until: now },
            doubt_until: now,
            places: Places::default(),
            doomed: HashMap::new(),
            looks: 0,
            repositories: BTreeSet::new(),
            stored_repositories: stored.repositories,
            sources: HashMap::new(),
            excluded: Excluded { invalid_names: stored.invalid_names, ..Excluded::default() },
            publications: Timers::default(),
            publishing: 0,
            problems: Vec::new(),
            missing: Vec::new(),
            denied: None,
            workers: None,
            compared: stored.ready_generation.filter(|_| stored.ready_generation == orders.generation).map(Some),
            requested: stored.handled_request.clone(),
            handling: None,
            handled: stored.handled_request,
            reported: LastReport::new(now),
            is_changed: true,
            was_frozen: false,
            lags: ByRegistry::default(),
            lag_watch: LagWatch::default(),
            ending: None,
            retried: Retried::default(),
            orders,
        }
    }

    /// Takes one event and returns what is to be done. `claims` are those of all configurations of the process.
    pub(crate) fn step(&mut self, event: Event, claims: &mut Claims, now: Timestamp) -> Vec<Effect> {
        match event {
            Event::Orders(orders) => self.take_orders(orders, claims, now),
            Event::Hints(hints) => self.take_hints(hints, now),
            Event::Found(comparison, finding) => self.take_finding(comparison, finding, claims, now),
            Event::TagsListed(repository, listed) => self.take_hinted_list(&repository, listed, now),
            Event::Looked(looked) => self.take_looked(looked, claims, now),
            Event::Swept(looked, listed) => self.take_swept(looked, listed, claims, now),
            Event::Progress(copy, progress) => self.take_progress(copy, progress, now),
            Event::Ended(copy, outcome, jitter) => self.take_ended(copy, outcome, jitter, claims, now),
            Event::TagDeleted(copy, outcome, jitter) => self.take_tag_deleted(copy, outcome, jitter, now),
            Event::Published(pair, outcome) => self.take_published(pair, outcome, now),
            Event::Deleted(name, outcome) => self.take_deleted(&name, outcome, now),
            Event::StatusesLost(names) => self.take_lost(&names, now),
            Event::StatusesListed(names) => self.take_listed(&names, now),
            Event::Workers(problem) => self.workers = problem,
            Event::Frozen => self.thaw(now),
            Event::Wake => {}
            Event::Drain => self.drain(now),
            Event::Interrupt => self.end(Ending::Interrupt, now),
            Event::Retire => self.end(Ending::Retire, now),
        }
        match self.ending {
            Some(ending) => self.wind_up(ending, claims, now),
            None => self.advance(claims, now),
        }
        self.give_back_room();
        std::mem::take(&mut self.effects)
    }

    /// Returns the time at which something is due without an event; an event may change it.
    pub(crate) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.ending.is_some() {
            return None;
        }
        let is_active = self.is_active();
        let comparison = (is_active && self.comparison.is_none()).then_some(self.compare_at);
        let retries = if self.orders.once.is_some() { self.retry_at() } else { self.retries.next() };
        let probes = self.causes.probe_at().filter(|_| self.orders.once.is_none());
        let retries = retries.into_iter().chain(probes).min().filter(|_| is_active);
        let slots = (!self.queue.is_empty()).then(|| self.slot_at(now)).flatten();
        let begin = (!self.queue.is_empty()).then(|| self.copies_begin_at(now)).flatten();
        let flow = (self.comparison.is_some() && !self.takes_findings(now)).then(|| self.progressed_at + STANDSTILL);
        let publication = self.publications.next().filter(|_| self.publishing < MAX_PUBLICATIONS);
        let deletion = self.delete_again_at.values().min().copied();
        let late = self.lag_watch.check_at();
        let tags = self.deletions.due.next().into_iter().chain(self.deletions.lists.next()).min();
        let tags = tags.filter(|_| is_active);
        [comparison, tags, retries, slots, begin, flow, publication, deletion, late, self.report_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns true if the next finding of a comparison may come. The observer waits for the copies while these get on,
    /// so that what it has read is still at hand when it is copied.
    pub(crate) fn takes_findings(&self, now: Timestamp) -> bool {
        self.queue.len() + self.ahead.len() < MAX_AHEAD || now >= self.progressed_at + STANDSTILL
    }

    /// Returns the number of hinted tags that may be looked at now.
    pub(crate) fn hints_wanted(&self) -> usize {
        if self.ending.is_some() { 0 } else { MAX_LOOKS.saturating_sub(self.looks) }
    }

    /// Returns true once the configuration or the process ends.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns true once nothing is begun any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.retried.is_draining
    }

    /// Returns true if the configuration has ended, and nothing that it began is under way.
    pub(crate) fn is_done(&self) -> bool {
        let is_idle = self.copies.is_empty() && self.deletions.running.is_empty();
        self.ending.is_some() && is_idle && self.publishing == 0 && self.deleting.is_empty()
    }

    /// Returns true if nothing is under way, and nothing but time or the world makes anything due.
    pub(crate) fn is_at_rest(&self) -> bool {
        let waiting = self.queue.len() + self.ahead.len();
        let is_idle = self.copies.is_empty() && self.deletions.busy.is_empty() && self.deletions.lists.are_idle();
        !self.is_comparing() && waiting == 0 && is_idle && self.looks == 0
    }

    /// Returns true until the first comparison has ended, and during each later one.
    pub(crate) fn is_comparing(&self) -> bool {
        self.comparison.is_some() || (self.is_active() && self.next_comparison == 0 && !self.is_draining())
    }

    /// Returns the last valid spec.
    pub(crate) fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.configuration.as_ref()
    }

    /// Returns the pairs, in the order in which they were found.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.values()
    }

    /// Returns the parts of the source that no rule takes; empty unless copies are only planned.
    pub(crate) fn excluded(&self) -> &Excluded {
        &self.excluded
    }

    /// Returns the spec of the configuration and everything around it.
    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Returns the repositories of the source that match, as far as they are known.
    pub(crate) fn repositories(&self) -> &BTreeSet<RepositoryName> {
        &self.repositories
    }

    /// Returns the problems of the whole configuration, the most important first.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(&self.missing)
    }

    /// Returns true if the configuration compares and copies.
    fn is_active(&self) -> bool {
        let is_suspended = self.configuration.as_ref().is_none_or(|configuration| configuration.suspend);
        self.orders.configuration.is_ok() && !is_suspended
    }

    /// Starts what is due.
    fn advance(&mut self, claims: &mut Claims, now: Timestamp) {
        if self.is_active() && !self.is_draining() {
            if self.comparison.is_none() && self.compare_at <= now {
                self.start_comparison(now);
            }
            self.queue_probes(claims.probe_turns(), now);
            self.queue_retries(now);
            self.release_backfills(now);
            self.list_again(now);
            self.go_on_sweeping(now);
            self.decide_deletions(now);
            if !self.orders.is_dry {
                self.start_copies(now);
            }
        }
        self.delete_again(now);
        self.publish(now);
        self.watch_lag(now);
        self.report(now);
    }
}

#[cfg(test)]
pub(super) mod tests;
