//! Changes that people make while a schedule runs: of consent, specs, and Registries.

use super::cluster::Home;
use super::names::CONFIGURATIONS;
use super::schedule::{BRAKES, Fault};
use super::world::{Target, Task, World};

impl World {
    /// The owner of a destination allows replication or deletions, or does so no longer.
    pub(super) fn change_consent(&mut self, fault: Fault, destination: usize) {
        let destination = &mut self.destinations[destination];
        let is_allowed =
            if fault == Fault::Consent { &mut destination.is_allowed } else { &mut destination.may_delete };
        *is_allowed = !*is_allowed;
        self.declare_change();
    }

    /// Chooses a configuration for something, or ends it for the one that has it.
    pub(super) fn toggle(&mut self, of: impl Fn(&mut Self) -> &mut Option<usize>) {
        let configuration = self.pick(CONFIGURATIONS);
        let chosen = of(self);
        *chosen = if chosen.is_some() { None } else { Some(configuration) };
        self.declare_change();
    }

    pub(super) fn edit(&mut self, choice: usize) {
        let index = if self.declared[1].exists { self.pick(2) } else { 0 };
        let kind = self.pick(12);
        let declared = &mut self.declared[index];
        let is_base = declared.shape == declared.base;
        declared.shape = declared.base.clone();
        if is_base {
            let shape = &mut declared.shape;
            match kind {
                0 | 1 => shape.is_invalid = true,
                2 => shape.suspend = true,
                3 => shape.exact = Some(vec![choice]),
                4 => (shape.without_tag, declared.varies_tags) = (!shape.without_tag, true),
                5 => shape.with_platforms = !shape.with_platforms,
                6 => shape.deletion = if shape.deletion.is_some() { None } else { Some(BRAKES[1]) },
                7 => shape.merges = !shape.merges,
                8 => shape.has_windows = !shape.has_windows,
                9 | 10 => {
                    shape.newest = if shape.newest == Some(1) { None } else { Some(1) };
                    declared.least_newest = [declared.least_newest, shape.newest].into_iter().flatten().min();
                }
                _ => shape.destinations = if shape.destinations.len() == 2 { vec![1] } else { vec![0, 1] },
            }
        }
        declared.generation += 1;
        let shape = declared.shape.clone();
        self.trace(|_| format!("c{index} is {shape:?}"));
        self.notify(index);
    }

    /// The configurations of files change places, and with that their ages.
    pub(super) fn reorder(&mut self) {
        if self.home == Home::Files {
            let [first, second] = &mut self.declared;
            std::mem::swap(&mut first.created, &mut second.created);
            self.declare_change();
        }
    }

    pub(super) fn change_registry(&mut self, index: usize) {
        let destination = &mut self.destinations[index];
        destination.uid = match destination.uid {
            Some(_) => None,
            None => {
                destination.last_uid += 1;
                Some(destination.last_uid)
            }
        };
        self.declare_change();
    }

    pub(super) fn declare_change(&mut self) {
        self.changes += 1;
        (0..CONFIGURATIONS).for_each(|index| self.notify(index));
    }

    /// Every process learns what is declared, after a while.
    pub(super) fn notify(&mut self, configuration: usize) {
        let processes: Vec<u32> = self.processes.keys().copied().collect();
        for process in processes {
            let delay = self.delay();
            self.after(delay, Task::Orders(Target { process, configuration }));
        }
    }
}
