//! Reads every object of a kind at the start, in pages.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_util::task::AbortOnDropHandle;

use super::call::{CallError, call};
use super::decodable::Decodable;

/// A page of a list, of which no object is decoded yet.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<Box<RawValue>>,
}

/// Lists all objects of a kind in pages of `limit`, and has `take` take each. The next page is under way while one is
/// decoded. An object that cannot be decoded is logged and left out: another version of the program may have written it.
///
/// # Errors
/// [`CallError`] if a page cannot be read.
pub(super) async fn each_page<K>(client: &Client, limit: u32, mut take: impl FnMut(Vec<K>)) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let parameters = ListParams::default().limit(limit);
    let mut next = Some(begin::<K>(client, &parameters)?);
    while let Some(page) = next.take() {
        let Page { metadata, items } = page.await.expect("a call neither panics nor is aborted")?;
        if let Some(token) = metadata.continue_.filter(|token| !token.is_empty()) {
            next = Some(begin::<K>(client, &parameters.clone().continue_token(&token))?);
        }
        take(items.iter().filter_map(|item| decoded(item)).collect());
    }
    Ok(())
}

type RunningCall = AbortOnDropHandle<Result<Page, CallError>>;

fn begin<K: Resource<DynamicType = ()>>(client: &Client, parameters: &ListParams) -> Result<RunningCall, CallError> {
    let request = Request::new(K::url_path(&(), None)).list(parameters).map_err(kube::Error::BuildRequest)?;
    let client = client.clone();
    let page = async move { call(client.request::<Page>(request)).await };
    Ok(AbortOnDropHandle::new(tokio::spawn(page)))
}

fn decoded<K: Resource<DynamicType = ()> + DeserializeOwned>(item: &RawValue) -> Option<K> {
    if let Ok(object) = serde_json::from_str(item.get()) {
        return Some(object);
    }
    let kind = K::kind(&());
    match serde_json::from_str::<Decodable<K>>(item.get()) {
        Ok(Decodable(Ok(object))) => return Some(object),
        Ok(object @ Decodable(Err(_))) => {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let error = object.0.err().map(|unreadable| unreadable.error).unwrap_or_default();
            tracing::warn!(%kind, namespace, name, error, "an object that cannot be read is left out");
        }
        Err(error) => tracing::warn!(%kind, %error, "an object that cannot be read is left out"),
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ReplicationStatus;

    #[test]
    fn an_object_that_cannot_be_decoded_is_left_out() {
        let object = |images: serde_json::Value| {
            let end = json!({"registryRef": {"name": "r", "uid": "v"}, "repository": "app"});
            let spec = json!({"configurationRef": {"name": "c", "uid": "u"}, "source": end, "destination": end});
            let object = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationStatus",
                "metadata": {"namespace": "n", "name": "s"}, "spec": spec, "status": {"images": images}});
            serde_json::value::to_raw_value(&object).unwrap()
        };
        assert!(decoded::<ReplicationStatus>(&object(json!([]))).is_some());
        assert!(decoded::<ReplicationStatus>(&object(json!("many"))).is_none());
        assert!(decoded::<ReplicationStatus>(&serde_json::value::to_raw_value(&json!("no object")).unwrap()).is_none());
    }
}
