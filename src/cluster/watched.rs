//! Watches of the operator's own kinds that one malformed object does not stop.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::decodable::Decodable;
use super::undecodable::Undecodable;
use super::watch_beats::watch_config;

/// Returns a controller of all objects of a kind. It reconciles deleted objects too: their reconcile ends with
/// `ObjectNotFound`. Of an object that cannot be decoded it keeps the last version that could, and `undecodable` knows
/// it. `seen` gets every event before the store does.
pub(crate) fn watched<K>(
    client: &Client,
    undecodable: &Arc<Undecodable>,
    seen: impl Fn(&Event<K>) + Send + Sync + 'static,
) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = store();
    let guarded: Api<Decodable<K>> = Api::all(client.clone());
    let events = watcher(guarded, watch_config()).default_backoff();
    let (reader, undecodable) = (store.clone(), undecodable.clone());
    let events = events.filter_map(move |event| {
        let event = event.map(|event| decoded(event, &undecodable, |key| reader.get(key))).transpose();
        std::future::ready(event)
    });
    let events = events.inspect_ok(seen);
    Controller::for_stream(Box::pin(events).reflect(writer).touched_objects(), store)
}

/// Replaces an object that cannot be decoded by its last version that could be, or leaves it out, with a warning: one
/// malformed object never stops another. `last` returns the last version.
fn decoded<K: Resource<DynamicType = ()> + Clone>(
    event: Event<Decodable<K>>,
    undecodable: &Undecodable,
    last: impl Fn(&ObjectRef<K>) -> Option<Arc<K>>,
) -> Option<Event<K>> {
    let object = |guard: Decodable<K>| match guard.0 {
        Ok(mut object) => {
            undecodable.forget::<K>(object.meta());
            // As large as the rest of an object, and of no use here.
            object.meta_mut().managed_fields = None;
            object.annotations_mut().remove(LAST_APPLIED);
            Some(object)
        }
        Err(invalid) => {
            undecodable.note::<K>(&invalid.metadata, &invalid.error);
            let (kind, name) = (K::kind(&()), invalid.metadata.name.unwrap_or_default());
            let namespace = invalid.metadata.namespace.unwrap_or_default();
            tracing::warn!(%kind, %namespace, %name, error = %invalid.error, "an object cannot be decoded");
            last(&ObjectRef::new(&name).within(&namespace)).map(|last| K::clone(&last))
        }
    };
    match event {
        Event::Apply(guard) => object(guard).map(Event::Apply),
        Event::Delete(guard) => {
            let metadata = guard.meta().clone();
            let deleted = object(guard).map(Event::Delete);
            undecodable.forget::<K>(&metadata);
            deleted
        }
        Event::Init => Some(Event::Init),
        Event::InitApply(guard) => object(guard).map(Event::InitApply),
        Event::InitDone => Some(Event::InitDone),
    }
}

/// The annotation in which `kubectl apply` keeps a second copy of an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Registry;

    #[test]
    fn an_object_that_cannot_be_decoded_is_left_out_and_the_next_one_is_not() {
        let undecodable = Undecodable::default();
        let guard = |url: serde_json::Value| {
            let object = serde_json::json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": "r", "namespace": "n", "uid": "u", "annotations": {LAST_APPLIED: "{}"},
                    "managedFields": [{"manager": "kubectl", "operation": "Update"}]}, "spec": {"url": url}});
            serde_json::from_value::<Decodable<Registry>>(object).unwrap()
        };
        let good = guard("https://r".into()).0.unwrap();
        let none = |_: &ObjectRef<Registry>| None;
        assert!(decoded(Event::InitApply(guard(7.into())), &undecodable, none).is_none());
        assert!(undecodable.has_uid("u") && undecodable.message::<Registry>(good.meta()).is_some());
        let applied = decoded(Event::InitApply(guard("https://r".into())), &undecodable, none);
        let Some(Event::InitApply(kept)) = applied else { panic!("{applied:?}") };
        assert!(!undecodable.has_uid("u") && kept.managed_fields().is_empty() && kept.annotations().is_empty());

        // One that was right before keeps its last version, until it is deleted.
        let last = |_: &ObjectRef<Registry>| Some(Arc::new(good.clone()));
        let changed = decoded(Event::Apply(guard(7.into())), &undecodable, last);
        assert!(matches!(changed, Some(Event::Apply(object)) if object.spec == good.spec));
        assert!(undecodable.has_uid("u"));
        assert!(matches!(decoded(Event::Delete(guard(7.into())), &undecodable, last), Some(Event::Delete(_))));
        assert!(!undecodable.has_uid("u"));
    }
}
