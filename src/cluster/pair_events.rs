//! Publishes Events on ReplicationStatuses: failed, recovered, kept by the destination.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::{Client, ResourceExt};

use super::events::Events;
use super::records::StatusMeta;
use crate::api::ReplicationStatus;
use crate::locked::Locked;
use crate::plan::{AnnouncedOutcome, NewsBudget, PairIdentity};
use crate::terms::Condition;

/// The outcomes of pairs that were announced, by namespace and name of their objects.
pub(super) struct PairNews {
    events: Events,
    announced: Locked<HashMap<(String, String), AnnouncedOutcome>>,
    budget: Locked<NewsBudget>,
}

impl PairNews {
    pub(super) fn new(client: Client) -> Self {
        Self { events: Events::new(client), announced: Locked::default(), budget: Locked::default() }
    }

    /// Takes the outcome that an earlier process announced.
    pub(super) fn restore(&self, object: &ReplicationStatus) {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        self.announced.lock().insert(key(object), AnnouncedOutcome::restore(conditions));
    }

    /// Publishes an Event if `conditions` of a status that was written are news. One beyond the budget is lost: the
    /// condition is kept.
    pub(super) async fn announce(&self, object: &StatusMeta, conditions: &[Condition]) {
        let news = self.announced.lock().entry(key(object)).or_default().news(conditions).cloned();
        if let Some(ready) = news.filter(|_| self.budget.lock().take(Timestamp::now())) {
            self.events.announce(object, "Replicate", &ready).await;
        }
    }

    /// Forgets a pair whose object was deleted.
    pub(super) fn forget(&self, pair: &PairIdentity) {
        self.announced.lock().remove(&(pair.namespace.clone(), pair.name.clone()));
    }
}

fn key(object: &impl ResourceExt) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
