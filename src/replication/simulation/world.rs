//! The world of one schedule: its clock, the tasks that are under way, and everything that these act on.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::cluster::{Declared, Home};
use super::copying::Step;
use super::deleting::DeletionStep;
use super::destination::Destination;
use super::names::{CONFIGURATIONS, Content, DESTINATIONS, Key, Millis};
use super::observer::{Answer, Request};
use super::oracles::{Oracles, Violation};
use super::process::Process;
use super::schedule::Weather;
use super::source::Source;
use super::store::ModelStore;
use crate::plan::{ConfigurationReport, PairIdentity};
use crate::replication::machine::{CopyId, Event, PairId};
use crate::terms::ReplicationStatusStatus;

/// Everything that exists.
#[derive(Debug)]
pub(super) struct World {
    pub home: Home,
    pub now: Millis,
    pub source: Source,
    pub destinations: [Destination; DESTINATIONS],
    pub store: ModelStore,
    pub declared: [Declared; CONFIGURATIONS],
    pub processes: BTreeMap<u32, Process>,
    /// The process that leads, or led last and has died.
    pub leader: Option<u32>,
    pub started: u32,
    /// Counts changes of Registries and policies.
    pub changes: u64,
    pub weather: Weather,
    /// Steps may be so far apart that what was deleted before is deleted everywhere.
    pub lingers: bool,
    pub oracles: Oracles,
    rng: SmallRng,
    tasks: BinaryHeap<Scheduled>,
    scheduled: u64,
    trace: Option<Vec<String>>,
}

/// A configuration in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    pub process: u32,
    pub configuration: usize,
}

/// One thing that happens at its time.
#[derive(Debug)]
pub(super) enum Task {
    Act,
    Heal,
    Judge,
    Finish,
    Start,
    Thaw(u32),
    Leave(u32),
    /// A write takes effect at a destination.
    Land(Key, Content),
    /// A deletion of a configuration takes effect at a destination.
    Remove(Key, usize),
    /// A request reaches the source.
    Taken(Request),
    /// A status reaches the store.
    Publish(Target, PairId, Arc<PairIdentity>, Box<ReplicationStatusStatus>),
    Delete(Target, Arc<PairIdentity>),
    Report(Target, Arc<ConfigurationReport>),
    // The following are bound to a process: they wait while it is frozen, and are lost with it.
    Event(Target, Event),
    Orders(Target),
    Answer(Request, Answer),
    Copy(Target, CopyId, Step),
    Deletion(Target, CopyId, DeletionStep),
}

impl Task {
    fn process(&self) -> Option<u32> {
        match self {
            Self::Event(target, _) | Self::Orders(target) | Self::Copy(target, ..) | Self::Deletion(target, ..) => {
                Some(target.process)
            }
            Self::Answer(request, _) => Some(request.target.process),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Scheduled {
    at: Millis,
    number: u64,
    task: Task,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl World {
    /// Returns the world of a seed. With `is_traced`, what happens is written down.
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let weather = Weather::draw(&mut rng);
        let home = if rng.random_ratio(1, 4) { Home::Files } else { Home::Cluster };
        let declared = super::schedule::declare(&mut rng, home);
        let mut world = Self {
            home,
            now: 0,
            source: Source::default(),
            destinations: [Destination::new(), Destination::new()],
            store: ModelStore::default(),
            declared,
            processes: BTreeMap::new(),
            leader: None,
            started: 0,
            changes: 0,
            weather,
            lingers: false,
            oracles: Oracles::default(),
            rng,
            tasks: BinaryHeap::new(),
            scheduled: 0,
            trace: is_traced.then(Vec::new),
        };
        world.set_up();
        world
    }

    /// Runs the whole schedule.
    pub(super) fn run(mut self) -> (Result<(), Violation>, Vec<String>) {
        let mut spins = 0;
        while self.oracles.violation.is_none() {
            let due = self.tasks.peek().map(|scheduled| scheduled.at);
            let wake = self.next_wake().filter(|(at, _)| due.is_none_or(|due| *at < due));
            if let Some((at, target)) = wake {
                spins = if at <= self.now { spins + 1 } else { 0 };
                if spins > 100 {
                    self.violate("busy", || format!("{target:?} wakes all the time"));
                }
                self.now = self.now.max(at);
                self.step(target, Event::Wake);
                continue;
            }
            let Some(Scheduled { at, task, .. }) = self.tasks.pop() else { break };
            (self.now, spins) = (at, 0);
            if matches!(task, Task::Finish) {
                self.finish();
                break;
            }
            self.perform(task);
        }
        let trace = self.trace.take().unwrap_or_default();
        (self.oracles.violation.map_or(Ok(()), Err), trace)
    }

    fn next_wake(&self) -> Option<(Millis, Target)> {
        let living = self.processes.iter().filter(|(_, process)| process.frozen_at.is_none());
        let wakes = living.flat_map(|(process, state)| {
            state.running.iter().filter_map(|(configuration, running)| {
                Some((running.wake?, Target { process: *process, configuration: *configuration }))
            })
        });
        wakes.min()
    }

    fn perform(&mut self, task: Task) {
        if let Some(process) = task.process() {
            match self.processes.get_mut(&process) {
                None => return,
                Some(state) if state.frozen_at.is_some() => return state.parked.push(task),
                Some(_) => {}
            }
        }
        match task {
            Task::Act => self.act(),
            Task::Heal => self.heal(),
            Task::Judge => self.judge(),
            Task::Finish => {}
            Task::Start => self.start(),
            Task::Thaw(process) => self.thaw(process),
            Task::Leave(process) => self.kill(process),
            Task::Land(key, content) => self.land(key, content),
            Task::Remove(key, by) => self.remove(key, by),
            Task::Taken(request) => self.take(request),
            Task::Publish(target, pair, identity, status) => self.store_status(target, pair, identity, &status),
            Task::Delete(target, identity) => self.delete_status(target, &identity),
            Task::Report(target, report) => self.store_report(target, report.as_ref().clone()),
            Task::Event(target, event) => self.step(target, event),
            Task::Orders(target) => self.give_orders(target),
            Task::Answer(request, answer) => self.answer(request, answer),
            Task::Copy(target, copy, step) => self.copy(target, copy, step),
            Task::Deletion(target, copy, step) => self.delete(target, copy, step),
        }
    }

    /// Has `task` performed after so long, behind what is due at the same time.
    pub(super) fn after(&mut self, delay: Millis, task: Task) {
        self.scheduled += 1;
        self.tasks.push(Scheduled { at: self.now + delay, number: self.scheduled, task });
    }

    /// Draws from a range.
    pub(super) fn draw(&mut self, from: Millis, to: Millis) -> Millis {
        self.rng.random_range(from..=to)
    }

    pub(super) fn pick(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    /// True this often, of a hundred.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    /// Draws a duration: short as a rule, and now and then long while there are faults.
    pub(super) fn delay(&mut self) -> Millis {
        match (self.weather.is_calm, self.pick(10)) {
            (false, 0) => self.draw(1_000, 20_000),
            (false, 1 | 2) => self.draw(50, 2_000),
            _ => self.draw(1, 50),
        }
    }

    pub(super) fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9.3} {}", self.now as f64 / 1000.0, line(self));
            self.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
        }
    }

    /// Records that an invariant does not hold. The first one counts.
    pub(super) fn violate(&mut self, oracle: &'static str, what: impl FnOnce() -> String) {
        if self.oracles.violation.is_none() {
            let violation = Violation { oracle, what: what() };
            self.trace(|_| format!("VIOLATION {}: {}", violation.oracle, violation.what));
            self.oracles.violation = Some(violation);
        }
    }

    fn land(&mut self, key: Key, content: Content) {
        self.trace(|_| format!("content {content} lands at {key:?}"));
        let destination = &mut self.destinations[key.destination];
        destination.tags.insert(key.slot(), content);
        destination.deleted_by.remove(&key.slot());
    }

    fn remove(&mut self, key: Key, by: usize) {
        let destination = &mut self.destinations[key.destination];
        let gone = destination.tags.remove(&key.slot());
        destination.deleted_by.insert(key.slot(), by);
        self.trace(|_| format!("content {gone:?} of {key:?} is deleted"));
    }
}
