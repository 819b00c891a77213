//! Pushed tags that are notified before their configurations have started.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::hint_space::{HintReservation, HintSpace};
use super::hints::PushedTag;
use crate::locked::Locked;
use crate::plan::NamespacedName;

/// The notifications of each Registry since the start of the process, for configurations that start after them. A
/// configuration that starts looks at new tags, but leaves those that it knows to the sweep, which may take hours.
pub(super) struct EarlyHints(Locked<Option<HashMap<NamespacedName, EarlyPushes>>>);

/// What was notified early of one Registry.
#[derive(Clone, Default)]
pub(super) struct EarlyPushes {
    /// The pushed tags of each notification.
    pub notifications: Vec<Arc<EarlyNotification>>,
    /// True if there was no room for others.
    pub is_overflown: bool,
}

/// One notification.
pub(super) struct EarlyNotification {
    /// Its tags.
    pub pushed: Vec<PushedTag>,
    /// The time when it came.
    pub received_at: Timestamp,
    _reservation: HintReservation,
}

impl Default for EarlyHints {
    fn default() -> Self {
        Self(Locked::new(Some(HashMap::new())))
    }
}

impl EarlyHints {
    /// Keeps the tags of a notification, until all configurations have started.
    pub(super) fn keep(
        &self,
        space: &Arc<HintSpace>,
        registry: &NamespacedName,
        pushed: &[PushedTag],
        received_at: Timestamp,
    ) {
        let mut early = self.0.lock();
        let Some(by_registry) = early.as_mut().filter(|_| !pushed.is_empty()) else { return };
        let pushes = by_registry.entry(registry.clone()).or_default();
        let bytes =
            pushed.iter().map(|(repository, tag, _)| PUSH_BYTES + repository.as_str().len() + tag.as_str().len());
        match space.reserve(&registry.namespace, bytes.sum()) {
            Some(reservation) => pushes.notifications.push(Arc::new(EarlyNotification {
                pushed: pushed.to_vec(),
                received_at,
                _reservation: reservation,
            })),
            None => pushes.is_overflown = true,
        }
    }

    /// Returns what was notified early of a Registry.
    pub(super) fn of(&self, registry: &NamespacedName) -> EarlyPushes {
        self.0.lock().as_ref().and_then(|early| early.get(registry)).cloned().unwrap_or_default()
    }

    /// Forgets everything, and keeps nothing any more: all configurations have started.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// The memory of a pushed tag with its digest, without the names.
const PUSH_BYTES: usize = 160;
