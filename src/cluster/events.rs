//! Publishes transitions of `Ready` as Events, one for each change of its status or reason, and deletions that wait.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use super::call::{FIELD_MANAGER, call};
use crate::locked::Locked;
use crate::terms::{Condition, held_transition, ready_transition, shorten};

/// The recorder of Events.
pub(crate) struct Events {
    client: Client,
    recorder: Locked<BoundedRecorder>,
}

/// A recorder, which keeps every Event of the last minutes (3 kB each) to count one that is repeated.
struct BoundedRecorder {
    recorder: Recorder,
    published: usize,
}

impl BoundedRecorder {
    fn new(client: Client) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Self { recorder: Recorder::new(client, reporter), published: 0 }
    }
}

impl Events {
    /// Returns a recorder that writes through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self { recorder: Locked::new(BoundedRecorder::new(client.clone())), client }
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
        if let Some(held) = held_transition(before, after) {
            self.record(object, "Delete", EventType::Warning, held).await;
        }
    }

    /// Publishes an Event about `Ready` of `object`.
    pub(super) async fn announce<K>(&self, object: &K, action: &str, ready: &Condition)
    where
        K: Resource<DynamicType = ()>,
    {
        let type_ = if ready.status == "True" { EventType::Normal } else { EventType::Warning };
        self.record(object, action, type_, ready).await;
    }

    async fn record<K>(&self, object: &K, action: &str, type_: EventType, condition: &Condition)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: condition.reason.clone(),
            note: Some(shorten(&condition.message, MAX_NOTE_BYTES)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = call(self.recorder().publish(&event, &object.object_ref(&()))).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }

    /// Returns the recorder, or one that has forgotten what it published if that was much: a repeated Event is a new one
    /// then.
    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock();
        if recorder.published >= MAX_RECALLED {
            *recorder = BoundedRecorder::new(self.client.clone());
        }
        recorder.published += 1;
        recorder.recorder.clone()
    }
}

/// The most Events that are kept to count repeated ones.
const MAX_RECALLED: usize = 256;

/// The API server refuses a longer note.
const MAX_NOTE_BYTES: usize = 1024;
