//! Finds the filters of a configuration that match nothing of its source, and keeps what else its owner should know.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::locked::Locked;
use crate::plan::{ComparedTag, TagChoice, TagFilters};

/// The filters that have matched something in one comparison.
#[derive(Default)]
pub(super) struct UnusedFilters {
    /// Filters of repositories that matched nothing, as sentences.
    repositories: Locked<Vec<String>>,
    /// By rule, its filters of tags.
    tags: Locked<BTreeMap<String, MarkedFilters>>,
    /// Other sentences for the same readers.
    remarks: Locked<Vec<String>>,
}

/// The filters of tags of one rule, with a mark for each that has matched.
struct MarkedFilters {
    filters: Arc<TagFilters>,
    used: Vec<bool>,
}

impl UnusedFilters {
    /// Records the filters of repositories that match nothing.
    pub(super) fn see_repositories(&self, unused: Vec<String>) {
        *self.repositories.lock() = unused;
    }

    /// Adds sentences about the choice of the newest tags, as long as there are few.
    pub(super) fn remark(&self, sentences: Vec<String>) {
        let mut remarks = self.remarks.lock();
        let room = MAX_REMARKS.saturating_sub(remarks.len());
        remarks.extend(sentences.into_iter().take(room));
    }

    /// Takes a listed tag of a repository.
    pub(super) fn see_tag(&self, choice: &TagChoice, tag: &ComparedTag<'_>) {
        let mut seen = self.tags.lock();
        for (rule, filters) in &choice.rules {
            if !seen.contains_key(rule) {
                seen.insert(rule.clone(), MarkedFilters { filters: filters.clone(), used: Vec::new() });
            }
            if let Some(MarkedFilters { filters, used }) = seen.get_mut(rule) {
                filters.mark_used(tag, used);
            }
        }
    }

    /// Names the filters that matched nothing, once everything was listed; the other remarks follow.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut sentences = self.repositories.lock().clone();
        for (rule, MarkedFilters { filters, used }) in &*self.tags.lock() {
            sentences.extend(filters.unused(used).map(|filter| format!("rule {rule}: {filter} matches no tag")));
        }
        let mut remarks = self.remarks.lock().clone();
        remarks.sort();
        sentences.extend(remarks);
        sentences
    }
}

const MAX_REMARKS: usize = 20;
