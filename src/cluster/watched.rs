//! Watches of the operator's own kinds that one malformed object does not stop.

use std::fmt::Debug;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// Returns a controller of all objects of a kind. It reconciles deleted objects too: their reconcile ends with
/// `ObjectNotFound`.
pub(crate) fn watched<K>(client: &Client) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = store();
    let guarded: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = watcher(guarded, watcher::Config::default()).default_backoff();
    let events = events.filter_map(async |event| event.map(decoded).transpose());
    Controller::for_stream(Box::pin(events).reflect(writer).touched_objects(), store)
}

/// Leaves out an object that cannot be decoded, with a warning: one malformed object never stops another.
fn decoded<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let object = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let (kind, name) = (K::kind(&()), invalid.metadata.name.unwrap_or_default());
            let namespace = invalid.metadata.namespace.unwrap_or_default();
            tracing::warn!(%kind, %namespace, %name, error = %invalid.error, "an object is left out: it cannot be decoded");
            None
        }
    };
    match event {
        Event::Apply(guard) => object(guard).map(Event::Apply),
        Event::Delete(guard) => object(guard).map(Event::Delete),
        Event::Init => Some(Event::Init),
        Event::InitApply(guard) => object(guard).map(Event::InitApply),
        Event::InitDone => Some(Event::InitDone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Registry;

    #[test]
    fn an_object_that_cannot_be_decoded_is_left_out_and_the_next_one_is_not() {
        let event = |url: serde_json::Value| {
            let object = serde_json::json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry",
                "metadata": {"name": "r", "namespace": "n"}, "spec": {"url": url}});
            Event::InitApply(serde_json::from_value::<DeserializeGuard<Registry>>(object).unwrap())
        };
        assert!(decoded(event(7.into())).is_none());
        assert!(matches!(decoded(event("https://r".into())), Some(Event::InitApply(_))));
    }
}
