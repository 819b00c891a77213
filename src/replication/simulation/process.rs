//! One operator process: its state machines, and how their effects are carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::cluster::Home;
use super::copying::{Copying, Grant};
use super::deleting::Deleting;
use super::names::{Content, DESTINATIONS, Key, Millis, at, millis, repository_index, tag_index};
use super::observer::Comparing;
use super::oracles::destination_index_of;
use super::sights::Sight;
use super::trace::{brief, brief_effect};
use super::world::{Target, Task, World};
use crate::plan::{Claims, ComparisonPhase, ConfigurationReport, PairIdentity, RepositoryAddress};
use crate::replication::machine::{Coverage, Effect, Event, Finding, Machine, Orders, PairId, StoreOutcome};
use crate::terms::{PairEnd, ReplicationStatusStatus};

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub claims: Claims,
    pub running: BTreeMap<usize, Running>,
    pub frozen_at: Option<Millis>,
    /// The events that became due while the process was frozen.
    pub parked: Vec<Task>,
    /// No grants are given before: an earlier process may still have some.
    pub granted_from: Millis,
    pub grants: HashMap<Key, Grant>,
    pub is_ending: bool,
    /// It leads again after another one did.
    pub has_regained: bool,
}

/// One configuration in a process.
#[derive(Debug)]
pub(super) struct Running {
    pub machine: Machine,
    pub wake: Option<Millis>,
    pub copies: BTreeMap<u64, Copying>,
    pub deletions: BTreeMap<u64, Deleting>,
    /// The destinations whose owner allows deletions, as last learned.
    pub consents: [bool; DESTINATIONS],
    pub comparing: Option<Comparing>,
    /// The rules choose tags as they do since then.
    pub chosen_from: Millis,
    /// Observations before this time prove nothing.
    pub fresh_from: Millis,
    /// The latest sight of a content under a tag of a repository.
    pub seen: HashMap<(usize, usize, Content), Sight>,
    /// The repositories and tags that the present comparison has observed.
    pub found: BTreeSet<(usize, usize)>,
    pub is_active: bool,
}

impl World {
    /// Starts a process, unless one leads that is well.
    pub(super) fn start(&mut self) {
        let is_locked = self.home == Home::Files;
        let is_well = |process: &Process| is_locked || process.frozen_at.is_none_or(|frozen| self.now < frozen + LEASE);
        if self.leader.and_then(|leader| self.processes.get(&leader)).is_some_and(is_well) {
            return;
        }
        self.started += 1;
        let id = self.started;
        self.trace(|_| format!("process {id} starts"));
        self.leader = Some(id);
        let process = Process {
            claims: Claims::default(),
            running: BTreeMap::new(),
            frozen_at: None,
            parked: Vec::new(),
            granted_from: self.now + if is_locked { 0 } else { LEASE },
            grants: HashMap::new(),
            is_ending: false,
            has_regained: false,
        };
        self.processes.insert(id, process);
        for configuration in 0..self.declared.len() {
            if !self.declared[configuration].exists {
                let garbage = self.store.collect_garbage(configuration);
                garbage.iter().for_each(|name| self.oracles.deleted(name));
                self.oracles.retired(configuration);
            }
        }
        self.seed_claims(id);
        for configuration in 0..self.declared.len() {
            self.run_configuration(Target { process: id, configuration });
        }
    }

    /// Has a process that starts claim the places of stored pairs, also of configurations that are not active.
    fn seed_claims(&mut self, id: u32) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        for status in self.store.statuses.values().filter(|status| self.declared[status.configuration].exists) {
            let orders = self.declared[status.configuration].orders(&self.destinations, self.changes);
            let place = |end: &PairEnd| {
                let registry = orders.registries.iter().find(|(registry, _)| registry.name == end.registry_ref.name);
                let (host, repository) = (registry?.1.host.clone(), end.repository.parse().ok()?);
                Some(RepositoryAddress { host, repository })
            };
            let spec = &status.identity.spec;
            let (Some(from), Some(to)) = (place(&spec.source), place(&spec.destination)) else { continue };
            process.claims.introduce(&orders.holder.uid, &orders.namespace);
            if self.destinations[destination_index_of(&status.identity)].allows(status.configuration) {
                let name = &spec.destination.registry_ref.name;
                let standing = orders.standings.iter().find(|(registry, _)| registry.name == *name);
                let standing = standing.map(|(_, standing)| *standing).unwrap_or_default();
                let _ = process.claims.claim(&orders.holder, standing, &from, &to);
            }
        }
    }

    /// Starts a configuration in a process.
    pub(super) fn run_configuration(&mut self, target: Target) {
        let Some(process) = self.processes.get_mut(&target.process) else { return };
        let declared = &self.declared[target.configuration];
        if !declared.exists || process.running.contains_key(&target.configuration) {
            return;
        }
        let orders = declared.orders(&self.destinations, self.changes + (process.claims.changes() << 32));
        let is_active = orders.configuration.as_ref().is_ok_and(|configuration| !configuration.suspend);
        let stored = self.store.stored(target.configuration, (self.home, self.started > 1), is_ready);
        let machine = Machine::new(Arc::new(orders), stored, &mut process.claims, at(self.now));
        let running = Running {
            machine,
            wake: None,
            copies: BTreeMap::new(),
            deletions: BTreeMap::new(),
            consents: std::array::from_fn(|index| self.destinations[index].lets_delete(target.configuration)),
            comparing: None,
            chosen_from: self.now,
            fresh_from: self.now,
            seen: HashMap::new(),
            found: BTreeSet::new(),
            is_active,
        };
        process.running.insert(target.configuration, running);
        self.oracles.started(target.configuration);
        self.step(target, Event::Wake);
    }

    pub(super) fn running(&mut self, target: Target) -> Option<&mut Running> {
        self.processes.get_mut(&target.process)?.running.get_mut(&target.configuration)
    }

    /// Gives an event to a state machine, and carries out what it decides.
    pub(super) fn step(&mut self, target: Target, event: Event) {
        let now = self.now;
        self.trace(|_| format!("{}/c{} <- {}", target.process, target.configuration, brief(&event)));
        let Some(process) = self.processes.get_mut(&target.process) else { return };
        let Some(running) = process.running.get_mut(&target.configuration) else { return };
        let is_whole = matches!(event, Event::Found(id, Finding::Done(Coverage::Whole)) if running.comparing.as_ref().is_some_and(|c| c.id == id));
        running.watch(&event, &self.source);
        self.oracles.is_deferred = matches!(event, Event::Published(..));
        let effects = running.machine.step(event, &mut process.claims, at(now));
        running.wake = running.machine.wake_at(at(now)).map(|wake| millis(wake) + 1);
        if is_whole && self.leader == Some(target.process) {
            self.oracles.compared(target, &self.processes[&target.process].running[&target.configuration]);
        }
        if self.leader == Some(target.process) {
            self.oracles.settle(target, &self.processes[&target.process].running[&target.configuration]);
        }
        for effect in effects {
            self.trace(|_| format!("{}/c{}    -> {}", target.process, target.configuration, brief_effect(&effect)));
            self.check_effect(target, &effect);
            self.carry_out(target, effect);
        }
        self.end_if_done(target);
    }

    fn carry_out(&mut self, target: Target, effect: Effect) {
        match effect {
            Effect::Compare(id) => self.compare(target, id),
            Effect::StopComparison => {
                if let Some(running) = self.running(target) {
                    running.comparing = None;
                }
            }
            Effect::Observe(id, looks) => self.observe(target, id, &looks),
            Effect::Look { repository, tag, .. } => {
                self.look(target, repository_index(repository.as_str()), tag_index(&tag));
            }
            Effect::Sweep { repository, tag, .. } => {
                self.sweep(target, repository_index(repository.as_str()), tag_index(&tag));
            }
            Effect::Swept(_) => {}
            Effect::ListTags(repository) => self.list_tags(target, repository_index(repository.as_str())),
            Effect::LookAhead(..) | Effect::Verified(..) => {}
            Effect::Copy(copy, assignment) => self.begin_copy(target, copy, assignment),
            Effect::DeleteTag(copy, deletion) => self.begin_deletion(target, copy, deletion),
            Effect::Stop(copy) => self.stop_copy(target, copy),
            Effect::Record(identity, record) if self.leader == Some(target.process) => {
                self.store.record(target.process, &identity.name, record);
            }
            Effect::Record(..) => {}
            Effect::Publish(pair, identity, status) => {
                let delay = self.delay();
                self.after(delay, Task::Publish(target, pair, identity, status));
            }
            Effect::Delete(identity) => {
                let delay = self.delay();
                self.after(delay, Task::Delete(target, identity));
            }
            Effect::Report(report) => self.after(20, Task::Report(target, report)),
            Effect::WakeOthers(uids) => {
                for configuration in 0..self.declared.len() {
                    if uids.contains(&self.declared[configuration].uid()) {
                        let delay = self.delay();
                        self.after(delay, Task::Orders(Target { configuration, ..target }));
                    }
                }
            }
        }
    }

    /// Gives a configuration its declared orders; starts and ends it too.
    pub(super) fn give_orders(&mut self, target: Target) {
        let Some(process) = self.processes.get_mut(&target.process) else { return };
        let declared = &self.declared[target.configuration];
        let Some(running) = process.running.get_mut(&target.configuration) else {
            if !process.is_ending {
                self.run_configuration(target);
            }
            return;
        };
        if !declared.exists {
            return self.step(target, Event::Retire);
        }
        let orders = declared.orders(&self.destinations, self.changes + (process.claims.changes() << 32));
        let is_active = orders.configuration.as_ref().is_ok_and(|configuration| !configuration.suspend);
        if is_active && !running.is_active {
            running.fresh_from = self.now;
        }
        running.is_active = is_active;
        let choice =
            |orders: &Orders| orders.configuration.as_ref().ok().map(|c| c.selection.rules[0].choice_hash.clone());
        if choice(&orders) != choice(running.machine.orders()) {
            running.chosen_from = self.now;
        }
        running.consents = std::array::from_fn(|index| self.destinations[index].lets_delete(target.configuration));
        running.machine.narrow(&orders, at(self.now));
        self.step(target, Event::Orders(Arc::new(orders)));
    }

    /// A status reaches the store; one of a process that no longer leads is refused.
    pub(super) fn store_status(
        &mut self,
        target: Target,
        pair: PairId,
        identity: Arc<PairIdentity>,
        status: &ReplicationStatusStatus,
    ) {
        let is_refused = self.leader != Some(target.process);
        let (is_lost, is_unanswered) = self.store_fate();
        if !is_refused && (!is_lost || self.chance(50)) {
            self.store.write_records(target.process, &identity.name);
        }
        if !is_refused && !is_lost {
            self.oracles.stored(target, pair, &identity.name);
            self.store.publish(target.configuration, identity, status);
        }
        let delay = self.delay();
        let is_done = !is_refused && !is_lost && !is_unanswered;
        let outcome = if is_done { StoreOutcome::Done } else { StoreOutcome::Failed };
        self.after(delay, Task::Event(target, Event::Published(pair, outcome)));
    }

    pub(super) fn delete_status(&mut self, target: Target, identity: &PairIdentity) {
        let is_refused = self.leader != Some(target.process);
        let (is_lost, is_unanswered) = self.store_fate();
        if !is_refused && !is_lost {
            self.lose(&identity.name);
        } else {
            self.store.left.push(identity.name.clone());
        }
        let is_deleted = !is_refused && !is_lost && !is_unanswered;
        let delay = self.delay();
        let outcome = if is_deleted { StoreOutcome::Done } else { StoreOutcome::Failed };
        if !is_deleted {
            self.oracles.undeleted.insert(identity.name.clone());
        }
        self.after(delay, Task::Event(target, Event::Deleted(identity.name.clone(), outcome)));
    }

    /// Deletes a status, with the deletions that it counts.
    pub(super) fn lose(&mut self, name: &str) {
        if let Some(status) = self.store.statuses.get(name) {
            let repository = status.identity.spec.destination.repository.parse().expect("a repository name");
            let host = super::cluster::host(super::oracles::destination_index_of(&status.identity));
            let place = RepositoryAddress { host, repository };
            self.oracles.deletions.uncount(status.configuration, &place);
        }
        self.store.delete(name);
        self.oracles.deleted(name);
    }

    /// Draws if a write of the store is lost, and if it is answered as failed although it was carried out.
    fn store_fate(&mut self) -> (bool, bool) {
        let is_failing = self.now < self.store.failing_until;
        (is_failing && self.chance(50), is_failing && self.chance(50))
    }

    pub(super) fn store_report(&mut self, target: Target, report: ConfigurationReport) {
        if self.leader == Some(target.process) && self.declared[target.configuration].exists {
            self.store.reports[target.configuration] = Some(report);
        }
    }

    /// A frozen process goes on. It learns first that it was frozen, and whether another one leads by now.
    pub(super) fn thaw(&mut self, id: u32) {
        let now = self.now;
        let is_other = self.leader.is_some_and(|leader| leader != id && self.processes.contains_key(&leader));
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(frozen_at) = process.frozen_at.take() else { return };
        let parked = std::mem::take(&mut process.parked);
        self.trace(|_| format!("process {id} goes on"));
        if now - frozen_at > STOPPED_AFTER {
            if is_other {
                let delay = self.draw(0, 10_000);
                self.after(delay, Task::Leave(id));
            } else if self.leader != Some(id) {
                self.leader = Some(id);
                self.processes.get_mut(&id).expect("it lives").granted_from = now + LEASE;
                self.forget_others(id);
            }
            let configurations: Vec<usize> = self.processes[&id].running.keys().copied().collect();
            for configuration in configurations {
                let target = Target { process: id, configuration };
                self.running(target).expect("it runs").fresh_from = now;
                self.step(target, Event::Frozen);
            }
        }
        parked.into_iter().for_each(|task| self.after(0, task));
    }

    /// Resumes a process that leads again: publications of another one meanwhile stay unknown to it.
    fn forget_others(&mut self, id: u32) {
        self.processes.get_mut(&id).expect("it lives").has_regained = true;
        let pairs = self.processes[&id].running.values().flat_map(|running| running.machine.pairs());
        let known: BTreeSet<&str> = pairs.map(|pair| pair.identity.name.as_str()).collect();
        let unknown = self.store.statuses.keys().filter(|name| !known.contains(name.as_str()));
        for name in unknown.cloned().collect::<Vec<String>>() {
            self.oracles.deleted(&name);
            self.store.left.push(name);
        }
    }

    /// Ends a process without a word; what it sent is under way still.
    pub(super) fn kill(&mut self, id: u32) {
        if self.processes.remove(&id).is_some() {
            self.trace(|_| format!("process {id} dies"));
            if self.leader == Some(id) {
                let delay = self.draw(0, 20_000);
                self.after(delay, Task::Start);
            }
        }
    }

    fn end_if_done(&mut self, target: Target) {
        let Some(process) = self.processes.get_mut(&target.process) else { return };
        let is_done = process.running.get(&target.configuration).is_some_and(|running| running.machine.is_done());
        if is_done && process.is_ending {
            if process.running.values().all(|running| running.machine.is_done()) {
                self.check_rest(target.process);
                self.kill(target.process);
            }
        } else if is_done {
            process.running.remove(&target.configuration);
            self.oracles.retired(target.configuration);
        }
    }

    /// Returns true if a process may write now.
    pub(super) fn has_authority(&self, process: u32) -> bool {
        let state = &self.processes[&process];
        self.leader == Some(process) && self.now >= state.granted_from && !state.is_ending
    }
}

/// Returns true if the condition Ready of a configuration is True.
pub(super) fn is_ready(report: &ConfigurationReport) -> bool {
    let status = crate::plan::configuration_status(super::names::NAMESPACE, report, &Default::default(), at(0));
    report.phase == ComparisonPhase::Compared
        && status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The time after its last sign of life at which a process is replaced; its grants may be in use for so long.
pub(super) const LEASE: Millis = 10_000;
/// A process that did not run for so long has lost its authority.
const STOPPED_AFTER: Millis = 6_000;
