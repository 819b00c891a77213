//! Hints that come before their configurations have started.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::hint_space::HintSpace;
use super::hints::{Hint, MAX_LOOKED_AT_AGAIN, PushedTag, bytes_of};
use crate::image::RepositoryName;
use crate::locked::Locked;
use crate::plan::NamespacedName;

/// The hints of each Registry since the start of the process, for configurations that start after them. A configuration
/// that starts looks at new tags, but leaves those that it knows to the sweep, which may take hours.
pub(super) struct EarlyHints {
    hints: Locked<Option<HashMap<NamespacedName, HintsOfSource>>>,
    /// Beside the memory of hints that wait: what is kept leaves no less room for these.
    space: Arc<HintSpace>,
}

#[derive(Default)]
struct HintsOfSource {
    hints: Vec<Arc<Hint>>,
    is_overflown: bool,
}

impl Default for EarlyHints {
    fn default() -> Self {
        Self { hints: Locked::new(Some(HashMap::new())), space: Arc::default() }
    }
}

impl EarlyHints {
    /// Keeps the tags of a notification until all configurations have started, while there is room.
    pub(super) fn keep(&self, registry: &NamespacedName, pushed: &[PushedTag], received_at: Timestamp) {
        let mut early = self.hints.lock();
        let Some(by_registry) = early.as_mut().filter(|_| !pushed.is_empty()) else { return };
        let of_source = by_registry.entry(registry.clone()).or_default();
        for (repository, tag, digest) in pushed {
            let bytes = bytes_of(&registry.namespace, repository, tag, 1);
            let Some(reservation) = self.space.reserve(&registry.namespace, bytes) else {
                of_source.is_overflown = true;
                return;
            };
            of_source.hints.push(Arc::new(Hint {
                repository: repository.clone(),
                tag: tag.clone(),
                digest: digest.clone(),
                received_at,
                is_one_of_many: of_source.hints.len() >= MAX_LOOKED_AT_AGAIN,
                looked: OnceCell::new(),
                _reservation: reservation,
            }));
        }
    }

    /// Returns the hints of a Registry by their repository, and true if there was no room for others.
    pub(super) fn of(&self, registry: &NamespacedName) -> (BTreeMap<RepositoryName, Vec<Arc<Hint>>>, bool) {
        let mut by_repository: BTreeMap<RepositoryName, Vec<Arc<Hint>>> = BTreeMap::new();
        let early = self.hints.lock();
        let Some(of_source) = early.as_ref().and_then(|early| early.get(registry)) else { return Default::default() };
        for hint in &of_source.hints {
            by_repository.entry(hint.repository.clone()).or_default().push(hint.clone());
        }
        (by_repository, of_source.is_overflown)
    }

    /// Forgets all of them, and keeps none any more.
    pub(super) fn end(&self) {
        *self.hints.lock() = None;
    }
}
