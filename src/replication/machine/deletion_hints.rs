//! Lists of single repositories in which something was deleted, as notifications say: the first of the two that prove it.

use std::time::Duration;

use jiff::Timestamp;

use super::hinted_lists::MAX_LISTS;
use super::{Effect, Listed, Machine, PairId};
use crate::image::RepositoryName;

impl Machine {
    /// Has the tags of a repository listed if it has pairs whose deletions follow the source: at once, or some time after
    /// the last such list. Where a rule takes the newest tags, a list alone does not say which are: the source is compared.
    pub(super) fn list_soon(&mut self, repository: &RepositoryName, now: Timestamp) {
        if self.deleting_pairs(repository).is_empty() {
            return;
        }
        if self.is_narrowed(repository) {
            return self.compare_soon(now);
        }
        let lists = &mut self.deletions.lists;
        let at = lists.listed_at.get(repository).map_or(now, |last| (*last + LIST_EVERY).max(now));
        lists.due.entry(repository.clone()).or_insert(at);
    }

    /// Lists the repositories that are due.
    pub(super) fn list_again(&mut self, now: Timestamp) {
        let lists = &mut self.deletions.lists;
        if lists.due.is_empty() {
            return;
        }
        lists.listed_at.retain(|_, last| *last + LIST_EVERY > now);
        let due = lists.due.iter().filter(|(repository, at)| **at <= now && !lists.running.contains(*repository));
        let room = MAX_LISTS.saturating_sub(lists.running.len());
        let due: Vec<RepositoryName> = due.map(|(repository, _)| repository.clone()).take(room).collect();
        for repository in due {
            lists.due.remove(&repository);
            lists.listed_at.insert(repository.clone(), now);
            lists.running.insert(repository.clone());
            self.effects.push(Effect::ListTags(repository));
        }
    }

    /// Takes the list of a repository that a hint named. One that is empty, or was requested before the process was
    /// stopped, proves nothing: the next comparison decides.
    pub(super) fn take_hinted_list(
        &mut self,
        repository: &RepositoryName,
        listed: Option<Box<Listed>>,
        now: Timestamp,
    ) {
        self.deletions.lists.running.remove(repository);
        let Some(listed) =
            listed.filter(|_| self.ending.is_none() && self.is_active() && !self.is_narrowed(repository))
        else {
            return;
        };
        if listed.tags.is_empty() || listed.sent_at < self.observe_from {
            return;
        }
        self.deleting_pairs(repository).into_iter().for_each(|id| self.take_list(id, None, &listed, now));
    }

    /// Returns true if a rule takes only the newest tags of a repository.
    fn is_narrowed(&self, repository: &RepositoryName) -> bool {
        let choice = self.configuration.as_ref().map(|configuration| configuration.selection.tags_of(repository));
        choice.is_some_and(|choice| choice.is_narrowed())
    }

    /// Returns the pairs of a repository whose deletions follow the source.
    fn deleting_pairs(&self, repository: &RepositoryName) -> Vec<PairId> {
        let ids = self.pairs.of_repository(repository).iter();
        ids.filter(|id| self.pairs[id].deletions.brake.is_some()).copied().collect()
    }
}

/// The least time between two such lists of one repository.
const LIST_EVERY: Duration = Duration::from_secs(10);
