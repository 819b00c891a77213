//! Writes an Event for each transition of `Ready`: when its status or reason changes, and never else.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use super::{FIELD_MANAGER, call};
use crate::terms::{Condition, ready_transition};

/// Writes Events.
pub struct Events(Recorder);

impl Events {
    /// Writes through `client`.
    pub fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter { controller: FIELD_MANAGER.to_owned(), instance: None }))
    }

    /// Reports that `action` changed `Ready` of `object`, if it did. A lost Event is no failure: the condition stands.
    pub async fn report<K>(&self, object: &K, action: &str, before: &[Condition], after: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        let Some(ready) = ready_transition(before, after) else { return };
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
