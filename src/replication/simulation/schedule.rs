//! The random schedule of a seed: how a world begins, what happens to it, and how its faults stop.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::cluster::{Declared, Home, Shape};
use super::names::{CONFIGURATIONS, Content, DESTINATIONS, Millis, REPOSITORIES, TAGS};
use super::source::Lie;
use super::world::{Target, Task, World};
use crate::plan::DeletionBrake;
use crate::replication::machine::Event;

/// The faults and the number of steps of a schedule.
#[derive(Debug)]
pub(super) struct Weather {
    faults: Vec<Fault>,
    steps: u32,
    /// Faults have stopped.
    pub is_calm: bool,
}

/// One kind of thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Push,
    RollBack,
    DeleteTag,
    Unlist,
    List,
    CatalogLie,
    TagsLie,
    Withhold,
    SourceDown,
    DestinationDown,
    DestinationSlow,
    Consent,
    Deny,
    Refuse,
    Edit,
    Crash,
    Restart,
    Freeze,
    StoreFails,
    Request,
    Registry,
    StatusesLost,
    Other,
    BreakList,
    DeleteConsent,
    Approve,
    Reorder,
}

const ALL: [Fault; 26] = [
    Fault::RollBack,
    Fault::DeleteTag,
    Fault::Unlist,
    Fault::List,
    Fault::CatalogLie,
    Fault::TagsLie,
    Fault::Withhold,
    Fault::SourceDown,
    Fault::DestinationDown,
    Fault::DestinationSlow,
    Fault::Consent,
    Fault::Deny,
    Fault::Refuse,
    Fault::Edit,
    Fault::Crash,
    Fault::Restart,
    Fault::Freeze,
    Fault::StoreFails,
    Fault::Request,
    Fault::Registry,
    Fault::StatusesLost,
    Fault::Other,
    Fault::BreakList,
    Fault::DeleteConsent,
    Fault::Approve,
    Fault::Reorder,
];

impl Weather {
    /// Makes a schedule of some of the faults only, so that each combination has its turn.
    pub(super) fn draw(rng: &mut SmallRng) -> Self {
        let share = rng.random_range(10..70);
        let mut faults: Vec<Fault> = ALL.into_iter().filter(|_| rng.random_ratio(share, 100)).collect();
        for _ in 0..=faults.len() / 2 {
            faults.push(Fault::Push);
        }
        // Lists prove nothing about tags that stay.
        let deletions = faults.iter().filter(|fault| **fault == Fault::DeleteTag).count() * (faults.len() / 8);
        faults.extend(std::iter::repeat_n(Fault::DeleteTag, deletions));
        Self { faults, steps: rng.random_range(6..26), is_calm: false }
    }
}

/// Returns the configurations of a world; the second one is there now and then.
pub(super) fn declare(rng: &mut SmallRng, home: Home) -> [Declared; CONFIGURATIONS] {
    let interval = [60, 90, 150][rng.random_range(0..3)];
    std::array::from_fn(|index| {
        let destinations = if index == 0 && rng.random_bool(0.4) { vec![0, 1] } else { vec![0] };
        let mut base = Shape::of(destinations);
        if rng.random_bool(0.2) {
            base.exact = Some((0..rng.random_range(1..=REPOSITORIES)).collect());
        }
        base.without_tag = rng.random_bool(0.1);
        base.with_platforms = rng.random_bool(0.1);
        base.deletion = rng.random_bool(0.5).then(|| BRAKES[rng.random_range(0..BRAKES.len())]);
        base.merges = rng.random_bool(0.1);
        base.has_windows = rng.random_bool(0.15);
        base.newest = rng.random_bool(0.25).then(|| rng.random_range(1..=2));
        base.has_schedule = rng.random_bool(0.05);
        let interval = if base.has_schedule { 120 } else { interval };
        Declared {
            home,
            exists: index == 0 || rng.random_bool(0.2),
            was_deleted: false,
            index,
            created: rng.random_range(0..1_000),
            generation: 1,
            shape: base.clone(),
            request: None,
            was_refused: false,
            varies_tags: false,
            least_newest: base.newest,
            base,
            interval: std::time::Duration::from_secs(interval),
            approved: None,
        }
    })
}

impl World {
    /// The state at the beginning of the schedule.
    pub(super) fn set_up(&mut self) {
        let repositories = 1 + self.pick(REPOSITORIES);
        for index in 0..repositories {
            self.source.repositories[index].is_listed = self.chance(80);
            for tag in 0..TAGS {
                if self.source.repositories[index].is_listed && self.chance(50) {
                    self.source.push(index, tag);
                }
            }
        }
        self.destinations[1].is_dead = self.chance(20);
        self.store.room = if self.chance(40) { self.pick(2) } else { 250 };
        self.store.has_records = self.chance(40);
        self.store.are_late = self.chance(50);
        if self.home == Home::Files {
            (self.store.room, self.store.has_records, self.store.are_late) = (250, true, false);
        }
        self.lingers = self.declared[0].base.deletion.is_some() && self.chance(30);
        self.start();
        self.after(100, Task::Act);
    }

    /// Something happens; then the next, or faults stop.
    pub(super) fn act(&mut self) {
        let chosen = self.pick(self.weather.faults.len());
        let fault = self.weather.faults[chosen];
        self.trace(|_| format!("=== {fault:?}"));
        self.happen(fault);
        self.weather.steps -= 1;
        if self.weather.steps == 0 {
            return self.after(1_000, Task::Heal);
        }
        let interval = self.interval();
        let gap = match self.pick(10) {
            // Two lists prove that a tag is gone.
            0..=1 if self.lingers => 2 * interval + 20_000,
            0..=3 => self.draw(0, 500),
            4..=7 => self.draw(500, 10_000),
            _ => self.draw(10_000, 90_000),
        };
        self.after(gap, Task::Act);
    }

    fn happen(&mut self, fault: Fault) {
        let (now, index, tag) = (self.now, self.pick(REPOSITORIES), self.pick(TAGS));
        let soon = self.draw(1_000, 60_000);
        let destination = self.pick(DESTINATIONS);
        match fault {
            Fault::Push => self.push(index, tag),
            Fault::RollBack => {
                let choice = self.pick(4);
                self.source.roll_back(index, tag, choice);
                self.hint(index, tag);
            }
            Fault::DeleteTag => {
                self.source.delete(index, tag);
                self.hint_deleted(index);
            }
            Fault::Unlist => self.source.unlist(index),
            Fault::List => self.source.enlist(index),
            Fault::CatalogLie => {
                self.source.catalog_lie = Some(if self.chance(50) { Lie::Empty } else { Lie::Lacks(index) });
            }
            Fault::TagsLie => {
                let lie = if self.chance(50) { Lie::Empty } else { Lie::Lacks(tag) };
                self.source.tags_lie.insert(index, lie);
            }
            Fault::Withhold => drop(self.source.withheld.insert((index, tag))),
            Fault::SourceDown => self.source.down_until = now + soon,
            Fault::DestinationDown => self.destinations[destination].down_until = now + soon,
            Fault::DestinationSlow => self.destinations[destination].slow_until = now + soon,
            Fault::Consent | Fault::DeleteConsent => self.change_consent(fault, destination),
            Fault::BreakList => drop(self.source.broken_lists.insert(index)),
            Fault::Approve => self.approve(),
            Fault::Reorder => self.reorder(),
            Fault::Deny => self.toggle(|world| &mut world.destinations[destination].denied),
            Fault::Refuse => {
                self.toggle(|world| &mut world.destinations[destination].refused);
                let refused = self.destinations[destination].refused;
                refused.into_iter().for_each(|index| self.declared[index].was_refused = true);
            }
            Fault::Edit => self.edit(tag),
            Fault::Crash => self.leader.into_iter().for_each(|leader| self.kill(leader)),
            Fault::Restart => self.restart(),
            Fault::Freeze => self.freeze(),
            Fault::StoreFails => self.store.failing_until = now + soon,
            Fault::Request => {
                let request = self.declared[0].request.unwrap_or(0) + 1;
                self.declared[0].request = Some(request);
                self.notify(0);
            }
            Fault::Registry => self.change_registry(destination),
            Fault::StatusesLost => self.lose_status(),
            Fault::Other => {
                let other = &mut self.declared[1];
                other.exists = !other.exists && !other.was_deleted;
                other.was_deleted |= !other.exists;
                self.notify(1);
            }
        }
    }

    fn push(&mut self, index: usize, tag: usize) {
        self.source.enlist(index);
        let content: Content = self.source.push(index, tag);
        self.trace(|_| format!("push r{index}:t{tag} content {content}"));
        self.hint(index, tag);
    }

    fn lose_status(&mut self) {
        let names: Vec<String> = self.store.statuses.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.pick(names.len())].clone();
        self.lose(&name);
        let Some(process) = self.leader else { return };
        for configuration in 0..CONFIGURATIONS {
            let event = Event::StatusesLost([name.clone()].into());
            self.after(5, Task::Event(Target { process, configuration }, event));
        }
    }

    /// The process that leads ends in good order, and another one starts.
    fn restart(&mut self) {
        let Some(id) = self.leader else { return };
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.frozen_at.is_none()) else { return };
        if std::mem::replace(&mut process.is_ending, true) {
            return;
        }
        let configurations: Vec<usize> = process.running.keys().copied().collect();
        self.after(30_000, Task::Leave(id));
        for configuration in configurations {
            self.step(Target { process: id, configuration }, Event::Interrupt);
        }
    }

    fn freeze(&mut self) {
        let Some(id) = self.leader else { return };
        let now = self.now;
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.frozen_at.is_none()) else { return };
        process.frozen_at = Some(now);
        let duration = if self.chance(20) { self.draw(100, 5_000) } else { self.draw(7_000, 90_000) };
        self.after(duration, Task::Thaw(id));
        // None in a world of files, where the one that stands still has the state folder.
        let successor: Millis = self.draw(super::process::LEASE, 40_000);
        self.after(successor, Task::Start);
    }

    /// Faults stop: what is declared is valid, registries answer and say the truth, and one process leads.
    pub(super) fn heal(&mut self) {
        self.trace(|_| "=== faults stop".to_owned());
        self.weather.is_calm = true;
        let now = self.now;
        self.source.catalog_lie = None;
        self.source.tags_lie.clear();
        self.source.broken_lists.clear();
        self.source.withheld.clear();
        (self.source.down_until, self.store.failing_until) = (now, now);
        let is_consenting = self.chance(80);
        for destination in &mut self.destinations {
            destination.is_allowed |= is_consenting;
            destination.may_delete |= is_consenting;
            destination.denied = destination.denied.filter(|_| !is_consenting);
            destination.refused = None;
            (destination.down_until, destination.slow_until) = (now, now);
            if destination.uid.is_none() {
                destination.last_uid += 1;
                destination.uid = Some(destination.last_uid);
            }
        }
        for declared in &mut self.declared {
            if declared.shape != declared.base {
                (declared.shape, declared.generation) = (declared.base.clone(), declared.generation + 1);
            }
            if declared.was_refused {
                // People who have corrected the rights at a registry ask for a comparison.
                declared.request = Some(declared.request.unwrap_or(0) + 1);
            }
        }
        let frozen: Vec<u32> =
            self.processes.iter().filter(|(_, p)| p.frozen_at.is_some()).map(|(id, _)| *id).collect();
        frozen.into_iter().for_each(|id| self.after(0, Task::Thaw(id)));
        self.declare_change();
        self.after(40_000, Task::Start);
        let interval = self.interval();
        let has_windows = self.declared.iter().any(|declared| declared.base.has_windows);
        let has_schedule = self.declared.iter().any(|declared| declared.base.has_schedule);
        let settling = SETTLING + if has_windows { WINDOWS } else { 0 } + if has_schedule { PROOF } else { 0 };
        self.after(settling + 2 * interval, Task::Judge);
        self.after(settling + 4 * interval + 10_000, Task::Finish);
    }

    pub(super) fn interval(&self) -> Millis {
        self.declared[0].interval_millis()
    }
}

/// In that time the longest pause between retries is over, and writes that may come late have come and were noticed.
const SETTLING: Millis = 400_000;
/// In that time every window opens.
const WINDOWS: Millis = 300_000;
/// The time that two lists have to be apart where a schedule says when they come.
pub(super) const PROOF: Millis = 600_000;
/// The brakes of deletions.
pub(super) const BRAKES: [DeletionBrake; 4] = [
    DeletionBrake { max_percent: 0, min_allowed: 1 },
    DeletionBrake { max_percent: 0, min_allowed: 2 },
    DeletionBrake { max_percent: 40, min_allowed: 0 },
    DeletionBrake { max_percent: 100, min_allowed: 5 },
];
