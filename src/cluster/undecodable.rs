//! Objects that this program cannot decode, and the conditions that say so on them.
//!
//! The stored object may be right for another version of the program: it keeps its statuses, and runs no more until it
//! can be decoded.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Client, Resource};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::call::{CallError, FIELD_MANAGER, call};
use crate::locked::Locked;
use crate::terms::{condition_type, reason};

/// The objects that cannot be decoded, by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Undecodable {
    known: Locked<HashMap<ObjectKey, InvalidObject>>,
    changed: Notify,
}

type ObjectKey = (String, String, String);

#[derive(Clone)]
struct InvalidObject {
    resource: ApiResource,
    uid: String,
    message: String,
    is_reported: bool,
}

impl Undecodable {
    /// Records that an object of the kind `K` cannot be decoded because of `cause`.
    pub(super) fn note<K: Resource<DynamicType = ()>>(&self, metadata: &ObjectMeta, cause: &str) {
        let cause: String = cause.chars().take(MAX_CAUSE).collect();
        let message = format!("this version of Transship cannot read the object: {cause}");
        let uid = metadata.uid.clone().unwrap_or_default();
        let resource = ApiResource::erase::<K>(&());
        let object = InvalidObject { resource, uid, message, is_reported: false };
        self.known.lock().insert(key::<K>(metadata), object);
        self.changed.notify_one();
    }

    /// Records that an object can be decoded, or exists no more.
    pub(super) fn forget<K: Resource<DynamicType = ()>>(&self, metadata: &ObjectMeta) {
        self.known.lock().remove(&key::<K>(metadata));
    }

    /// Returns the sentence about an object of the kind `K` that cannot be decoded.
    pub(crate) fn message<K: Resource<DynamicType = ()>>(&self, metadata: &ObjectMeta) -> Option<String> {
        self.known.lock().get(&key::<K>(metadata)).map(|object| object.message.clone())
    }

    /// Returns true if an object with this uid cannot be decoded.
    pub(crate) fn has_uid(&self, uid: &str) -> bool {
        self.known.lock().values().any(|object| object.uid == uid)
    }

    /// Writes the condition of each object that cannot be decoded; never ends. `acts_on` returns true for namespaces
    /// whose objects the operator writes to.
    pub(crate) async fn report(&self, client: &Client, acts_on: impl Fn(&str) -> bool) {
        loop {
            self.changed.notified().await;
            while let Some((key, object)) = self.next(&acts_on) {
                let (_, namespace, name) = &key;
                let reported = write_condition(client, namespace, name, &object).await;
                match reported {
                    Err(error) if !error.is_not_found() => {
                        tracing::warn!(%namespace, %name, %error, "an object that cannot be decoded cannot be marked");
                        tokio::time::sleep(RETRY).await;
                    }
                    _ => self.mark_reported(&key, &object),
                }
            }
        }
    }

    fn next(&self, acts_on: &impl Fn(&str) -> bool) -> Option<(ObjectKey, InvalidObject)> {
        let known = self.known.lock();
        let mut waiting = known.iter().filter(|(key, object)| !object.is_reported && acts_on(&key.1));
        waiting.next().map(|(key, object)| (key.clone(), object.clone()))
    }

    fn mark_reported(&self, key: &ObjectKey, object: &InvalidObject) {
        if let Some(present) = self.known.lock().get_mut(key)
            && present.message == object.message
        {
            present.is_reported = true;
        }
    }
}

fn key<K: Resource<DynamicType = ()>>(metadata: &ObjectMeta) -> ObjectKey {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (K::kind(&()).into_owned(), text(&metadata.namespace), text(&metadata.name))
}

async fn write_condition(
    client: &Client,
    namespace: &str,
    name: &str,
    object: &InvalidObject,
) -> Result<(), CallError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &object.resource);
    let found = call(api.get(name)).await?;
    let present = found.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let status = with_conditions(&present, found.metadata.generation, &object.message, Timestamp::now());
    if status == present {
        return Ok(());
    }
    let ApiResource { api_version, kind, .. } = &object.resource;
    let patch = json!({"apiVersion": api_version, "kind": kind, "status": status});
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    call(api.patch_status(name, &parameters, &Patch::Apply(patch))).await.map(|_| ())
}

/// Returns `status` with the conditions of an object that cannot be decoded; the rest of it stays as it is.
fn with_conditions(status: &Value, generation: Option<i64>, message: &str, now: Timestamp) -> Value {
    let mut status = status.clone();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let is_over = |kind: &Value| kind == condition_type::RECONCILING || kind == condition_type::SUSPENDED;
    conditions.retain(|condition| !is_over(&condition["type"]));
    for (kind, state) in [(condition_type::READY, "False"), (condition_type::STALLED, "True")] {
        let earlier = conditions.iter().position(|condition| condition["type"] == kind);
        let earlier = earlier.map(|index| conditions.remove(index));
        let since = earlier.filter(|earlier| earlier["status"] == state).map(|e| e["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        conditions.push(json!({"type": kind, "status": state, "reason": reason::INVALID_SPEC, "message": message,
            "observedGeneration": generation, "lastTransitionTime": since}));
    }
    conditions.sort_by_key(|condition| condition["type"].as_str().unwrap_or_default().to_owned());
    status["conditions"] = Value::Array(conditions);
    status["observedGeneration"] = json!(generation);
    status
}

const MAX_CAUSE: usize = 500;
const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_change_and_the_rest_of_a_status_stays() {
        let before = json!({"summary": {"images": 3}, "conditions": [
            {"type": "Ready", "status": "True", "reason": "Replicated", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "NamesSkipped", "status": "True"}, {"type": "Reconciling", "status": "True"}]});
        let now: Timestamp = "2026-02-02T02:02:02Z".parse().unwrap();
        let after = with_conditions(&before, Some(4), "cannot be read", now);
        assert_eq!(after["summary"], before["summary"]);
        assert_eq!(after["observedGeneration"], 4);
        let conditions = after["conditions"].as_array().unwrap();
        let types: Vec<_> =
            conditions.iter().map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap())).collect();
        assert_eq!(types, [("NamesSkipped", "True"), ("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(conditions[2]["lastTransitionTime"], "2026-02-02T02:02:02Z");
        let later = with_conditions(&after, Some(4), "cannot be read", now + Duration::from_secs(60));
        assert_eq!(later, after, "nothing is written again");
    }
}
