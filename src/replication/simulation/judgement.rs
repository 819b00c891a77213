//! Invariants that hold some time after faults have stopped: everything is replicated, or reported with a cause.

use std::collections::BTreeSet;

use super::cluster::place;
use super::names::{CONFIGURATIONS, destination, repository, tag};
use super::oracles::destination_index_of;
use super::process::is_ready;
use super::store::Status;
use super::world::World;
use crate::plan::Claimant;
use crate::terms::ReplicationState;

impl World {
    /// I7: faults stopped some time ago. From now on nothing may happen, if nothing fails.
    pub(super) fn judge(&mut self) {
        self.trace(|_| "=== judgement".to_owned());
        self.check_convergence();
        self.oracles.is_window = self.is_healthy();
        self.oracles.comparisons = 0;
    }

    /// Still so after a while in which nothing happened.
    pub(super) fn finish(&mut self) {
        self.check_convergence();
        let window = 2 * self.interval() + 10_000;
        let declared = self.declared.iter().filter(|declared| declared.exists);
        let most: i64 = declared.map(|declared| window / declared.interval_millis() + 1).sum();
        let most = usize::try_from(most).expect("it is small");
        let comparisons = self.oracles.comparisons;
        if comparisons > most && self.is_healthy() {
            self.violate("I10 quiet", || format!("{comparisons} comparisons in {window} ms"));
        }
        if comparisons == 0 {
            self.violate("I7 converge", || "the source is not compared any more".to_owned());
        }
    }

    fn is_healthy(&self) -> bool {
        let destinations = (0..self.destinations.len()).filter(|index| {
            self.declared.iter().any(|declared| declared.exists && declared.base.destinations.contains(index))
        });
        let mut destinations = destinations.map(|index| &self.destinations[index]);
        destinations.all(|destination| !destination.is_dead && destination.is_allowed && destination.denied.is_none())
            && (0..CONFIGURATIONS)
                .all(|index| !self.has_conflict(index) && !self.names_missing(index) && !self.merges(index))
    }

    /// Returns true if a configuration names a repository that does not exist.
    fn names_missing(&self, index: usize) -> bool {
        let declared = &self.declared[index];
        let exact = declared.base.exact.iter().flatten();
        declared.exists && exact.into_iter().any(|index| self.source.tags(*index).is_empty())
    }

    /// Returns true if several repositories of a configuration would have one name at a destination.
    fn merges(&self, index: usize) -> bool {
        let declared = &self.declared[index];
        let wanted = (0..super::names::REPOSITORIES).filter(|repository| self.takes(index, *repository));
        declared.exists && declared.base.merges && declared.base.destinations.contains(&1) && wanted.count() > 1
    }

    fn has_conflict(&self, index: usize) -> bool {
        let mut pairs = (0..super::names::REPOSITORIES).flat_map(|repository| [(0, repository), (1, repository)]);
        pairs.any(|(to, repository)| {
            let is_permitted = self.wants(index, to, repository) && self.destinations[to].allows(index);
            is_permitted && self.holder(to, repository) != Some(index)
        })
    }

    fn takes(&self, index: usize, repository: usize) -> bool {
        match &self.declared[index].base.exact {
            Some(exact) => exact.contains(&repository),
            None => self.source.repositories[repository].is_listed,
        }
    }

    /// Returns true if a repository has a place of its own at a destination.
    fn wants(&self, index: usize, to: usize, repository: usize) -> bool {
        let declared = &self.declared[index];
        let is_merged = declared.base.merges && to == 1;
        declared.exists && self.takes(index, repository) && declared.base.destinations.contains(&to) && !is_merged
    }

    /// Returns the configuration that replicates a repository to a destination: the oldest that wants it and may.
    fn holder(&self, to: usize, repository: usize) -> Option<usize> {
        let wanting = (0..CONFIGURATIONS)
            .filter(|index| self.wants(*index, to, repository) && self.destinations[to].allows(*index));
        wanting.min_by_key(|index| {
            let declared = &self.declared[*index];
            Claimant { created: super::names::at(declared.created), uid: declared.uid() }
        })
    }

    fn check_convergence(&mut self) {
        let alive = self.leader.and_then(|leader| self.processes.get(&leader)).is_some_and(|p| p.frozen_at.is_none());
        assert!(alive, "the model always has a process that leads once faults have stopped");
        for index in 0..CONFIGURATIONS {
            for to in 0..self.destinations.len() {
                for repository in 0..super::names::REPOSITORIES {
                    self.check_pair(index, to, repository);
                }
            }
            self.check_configuration(index);
        }
    }

    fn check_pair(&mut self, index: usize, to: usize, number: usize) {
        // One that is denied shows that.
        let may_be_held = self.holder(to, number) == Some(index) || !self.destinations[to].allows(index);
        let is_held = self.wants(index, to, number) && may_be_held;
        let found: Vec<&Status> = self
            .store
            .statuses
            .values()
            .filter(|status| {
                let spec = &status.identity.spec;
                status.configuration == index
                    && destination_index_of(&status.identity) == to
                    && spec.source.repository == repository(number).to_string()
                    && spec.destination.repository == place(to, number).repository.to_string()
            })
            .collect();
        let what = format!("the status of c{index} r{number} to d{to}");
        if !is_held {
            if found.iter().any(|status| !self.store.left.contains(&status.identity.name)) {
                self.violate("I7 converge", || format!("{what} is there although nothing wants it"));
            }
            return;
        }
        let mut tags = self.source.tags(number);
        if tags.is_empty() && self.declared[index].base.exact.is_some() {
            return; // The configuration says that it is missing.
        }
        if self.declared[index].base.without_tag {
            tags.remove(&0);
        }
        let newest = self.declared[index].base.newest.map_or(usize::MAX, |count| count as usize);
        let tags: BTreeSet<usize> = tags.into_iter().rev().take(newest).collect();
        let uid = self.destinations[to].uid.map(|uid| format!("uid-d{to}-{uid}"));
        let status =
            found.iter().find(|status| Some(&status.identity.spec.destination.registry_ref.uid) == uid.as_ref());
        let Some(status) = status.map(|status| status.status.clone()) else {
            if !tags.is_empty() {
                self.violate("I8 no loss", || format!("{what} is missing"));
            }
            return;
        };
        self.check_images((index, to, number), &tags, &what, &status);
    }

    fn check_images(
        &mut self,
        (index, to, number): (usize, usize, usize),
        tags: &BTreeSet<usize>,
        what: &str,
        status: &crate::terms::ReplicationStatusStatus,
    ) {
        let images = tags.len() as u64;
        let summary = &status.summary;
        let destination = &self.destinations[to];
        let (is_dead, is_allowed) = (destination.is_dead, destination.allows(index));
        let stale = tags.iter().copied().find(|tagged| {
            let there = destination.tags.get(&(number, *tagged)).copied();
            // Without consent it does not look there, and may not learn that another one deletes.
            let is_unseen =
                !is_allowed && destination.deleted_by.get(&(number, *tagged)).is_some_and(|by| *by != index);
            let is_there = is_unseen || there == self.source.repositories[number].tags[*tagged].now();
            let shown = status.images.iter().find(|image| image.tag == tag(*tagged).to_string());
            let is_published =
                shown.map_or(summary.complete == summary.images, |i| i.status == ReplicationState::Complete);
            !is_there && is_published
        });
        if let Some(index) = stale {
            self.violate("I9 truth", || format!("{what} says COMPLETE of t{index}, which is not there"));
        }
        let extra = self.check_extra((index, images), what, summary.images);
        if summary.images < images {
            self.violate("I8 no loss", || format!("{what} counts {} images, of {images}", summary.images));
        }
        if is_allowed && !is_dead && summary.complete < images {
            self.violate("I7 converge", || format!("{what} is not complete: {summary:?}"));
        }
        if summary.pending > extra {
            self.violate("I8 no loss", || format!("{what} has images that wait without a cause: {summary:?}"));
        }
    }

    /// Images that the source has deleted stay until they are deleted at the destination, or wait with a cause. Returns
    /// their number.
    fn check_extra(&mut self, (index, images): (usize, u64), what: &str, shown: u64) -> u64 {
        let extra = shown.saturating_sub(images);
        let report = self.store.reports[index].as_ref();
        let is_held = report.is_some_and(|report| report.held_deletions.is_some());
        if extra > 0 && self.declared[index].base.deletion.is_none() {
            self.violate("I8 no loss", || format!("{what} counts {shown} images, of {images}"));
        }
        if extra > 0 && !is_held {
            self.violate("I7 converge", || format!("{what} has {extra} images that wait to be deleted"));
        }
        extra
    }

    fn check_configuration(&mut self, index: usize) {
        let declared = &self.declared[index];
        if !declared.exists {
            return;
        }
        let generation = declared.shown_generation();
        let request = declared.request.map(|request| request.to_string());
        let (is_fine, is_missing) =
            (self.is_healthy(), self.names_missing(index) || self.has_conflict(index) || self.merges(index));
        let Some(report) = self.store.reports[index].clone() else {
            return self.violate("I7 converge", || format!("c{index} has no report"));
        };
        if report.generation != generation {
            self.violate("I7 converge", || format!("c{index} reports generation {:?}", report.generation));
        }
        if is_fine && !is_ready(&report) {
            self.violate("I7 converge", || format!("c{index} is not Ready: {report:?}"));
        }
        if is_missing && report.problem.is_none() {
            self.violate("I8 no loss", || format!("c{index} does not say what is missing, or another's"));
        }
        if !is_missing && report.handled_request != request {
            self.violate("I7 converge", || format!("c{index} has not handled request {request:?}: {report:?}"));
        }
        self.check_claims(index);
    }

    fn check_claims(&mut self, index: usize) {
        let Some(process) = self.leader.and_then(|leader| self.processes.get(&leader)) else { return };
        let uid = self.declared[index].uid();
        let pairs = (0..super::names::REPOSITORIES).flat_map(|repository| [(0, repository), (1, repository)]);
        let wrong = pairs.into_iter().find(|(to, number)| {
            process.claims.holds(&uid, &place(*to, *number))
                && self.holder(*to, *number).is_some_and(|holder| holder != index)
        });
        if let Some((to, number)) = wrong {
            let name = destination(to).name;
            self.violate("I7 converge", || format!("c{index} holds r{number} of {name}, which another one wants"));
        }
    }
}
