//! Publishes transitions of `Ready` as Events: one for each change of its status or reason.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use super::call::{FIELD_MANAGER, call};
use crate::terms::{Condition, ready_transition};

/// The recorder of Events.
pub(crate) struct Events(Recorder);

impl Events {
    /// Returns a recorder that writes through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter { controller: FIELD_MANAGER.to_owned(), instance: None }))
    }

    /// Publishes an Event if `action` changed `Ready` of `object`. A lost Event is no failure: the condition is kept.
    pub(crate) async fn publish<K>(&self, object: &K, action: &str, before: &[Condition], after: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        if let Some(ready) = ready_transition(before, after) {
            let meta = object.meta();
            let (kind, namespace, name) = (K::kind(&()), meta.namespace.as_deref(), meta.name.as_deref());
            if ready.status == "True" {
                tracing::info!(%kind, namespace, name, reason = ready.reason, "ready: {}", ready.message);
            } else {
                tracing::warn!(%kind, namespace, name, reason = ready.reason, "not ready: {}", ready.message);
            }
            self.announce(object, action, ready).await;
        }
    }

    /// Publishes an Event about `Ready` of `object`.
    pub(super) async fn announce<K>(&self, object: &K, action: &str, ready: &Condition)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if ready.status == "True" { EventType::Normal } else { EventType::Warning },
            reason: ready.reason.clone(),
            note: Some(ready.message.clone()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = call(self.0.publish(&event, &object.object_ref(&()))).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }
}
