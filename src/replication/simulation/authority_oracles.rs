//! I4: a request that changes a destination is sent with consent, a claim, leadership and a grant. Judged by the state of
//! the world alone: the checks of the executor in the model are not asked.

use super::cluster::Home;
use super::names::Key;
use super::world::{Target, World};
use crate::replication::machine::{Assignment, CopyId};

impl World {
    /// Checks that a copy or a deletion may change a tag at this moment.
    pub(super) fn check_authority(&mut self, target: Target, copy: CopyId, key: Key, assignment: &Assignment) {
        let lacks = [
            (self.lacks_consent(target, key), "consent"),
            (self.lacks_registry(key, assignment), "the Registry that it was assigned"),
            (self.lacks_claim(target, assignment), "a claim"),
            (self.lacks_leadership(target), "leadership"),
            (self.lacks_grant(target, copy, key), "a grant"),
        ];
        if let Some((_, lacked)) = lacks.into_iter().find(|(is_lacking, _)| *is_lacking) {
            self.violate("I4 authority", || format!("{target:?} changes {key:?} without {lacked}"));
        }
    }

    fn lacks_consent(&self, target: Target, key: Key) -> bool {
        let destination = &self.destinations[key.destination];
        !destination.is_allowed || destination.denied == Some(target.configuration)
    }

    fn lacks_registry(&self, key: Key, assignment: &Assignment) -> bool {
        let present = self.destinations[key.destination].uid;
        present.is_none_or(|uid| format!("uid-d{}-{uid}", key.destination) != assignment.destination_uid)
    }

    fn lacks_claim(&self, target: Target, assignment: &Assignment) -> bool {
        let own = self.declared[target.configuration].uid();
        !self.processes[&target.process].claims.holds(&own, &assignment.place)
    }

    fn lacks_leadership(&self, target: Target) -> bool {
        let process = &self.processes[&target.process];
        self.leader != Some(target.process) || process.is_ending || process.frozen_at.is_some()
    }

    /// Returns true if the world has grants, and this copy has none, or another one has one as well.
    fn lacks_grant(&self, target: Target, copy: CopyId, key: Key) -> bool {
        let granted = self.processes.iter().filter_map(|(process, state)| {
            let grant = state.grants.get(&key).filter(|grant| grant.until > self.now)?;
            Some((*process, grant.configuration, grant.copy))
        });
        let granted: Vec<_> = granted.collect();
        let is_early = self.now < self.processes[&target.process].granted_from;
        self.home == Home::Cluster && (is_early || granted != [(target.process, target.configuration, copy)])
    }
}
