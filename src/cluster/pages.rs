//! Reads every object of a kind at the start, in pages.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::call::{CallError, call};
use super::decodable::Decodable;

/// A page of a list, of which no object is decoded yet.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

/// Lists all objects of a kind in pages of `limit`, and has `take` take each; each page is a call of its own. Of an object
/// that cannot be decoded the status is left out, since another version of the program may have written it, or all of
/// it if that is not enough. The log has their number and the first one.
///
/// # Errors
/// [`CallError`] if a page cannot be read.
pub(super) async fn each<K>(client: &Client, limit: u32, mut take: impl FnMut(K)) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = Request::new(K::url_path(&(), None));
    let (mut parameters, mut unreadable) = (ListParams::default().limit(limit), (0, String::new()));
    loop {
        let request = kind.list(&parameters).map_err(kube::Error::BuildRequest)?;
        let page = call(client.request_text(request)).await?;
        let Page { metadata, items } = serde_json::from_str(&page).map_err(kube::Error::SerdeError)?;
        items.into_iter().filter_map(|item| decoded(item, &mut unreadable)).for_each(&mut take);
        match metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    if let (1.., first) = &unreadable {
        tracing::warn!(kind = %K::kind(&()), count = unreadable.0, %first, "objects that cannot be read are taken as empty");
    }
    Ok(())
}

/// Returns an object, without its status if that cannot be decoded; counts one that cannot be, and keeps the first error.
fn decoded<K>(item: &RawValue, unreadable: &mut (u64, String)) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let error = match serde_json::from_str(item.get()) {
        Ok(object) => return Some(object),
        Err(error) => error.to_string(),
    };
    let mut object: serde_json::Value = serde_json::from_str(item.get()).unwrap_or_default();
    let first = match serde_json::from_value::<Decodable<K>>(object.clone()) {
        Ok(found @ Decodable(Err(_))) => {
            let name = format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
            found.0.err().map(|found| format!("{name}: {}", found.error)).unwrap_or(name)
        }
        _ => error,
    };
    unreadable.0 += 1;
    if unreadable.0 == 1 {
        unreadable.1 = first;
    }
    object.as_object_mut()?.remove("status");
    serde_json::from_value(object).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ReplicationStatus;

    #[test]
    fn a_status_that_cannot_be_decoded_is_left_out() {
        let object = |images: serde_json::Value| {
            let end = json!({"registryRef": {"name": "r", "uid": "v"}, "repository": "app"});
            let spec = json!({"configurationRef": {"name": "c", "uid": "u"}, "source": end, "destination": end});
            let object = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationStatus",
                "metadata": {"namespace": "n", "name": "s"}, "spec": spec, "status": {"images": images}});
            serde_json::value::to_raw_value(&object).unwrap()
        };
        let mut unreadable = (0, String::new());
        let mut read = |item: &RawValue| decoded::<ReplicationStatus>(item, &mut unreadable);
        assert!(read(&object(json!([]))).is_some_and(|object| object.status.is_some()));
        assert!(read(&object(json!("many"))).is_some_and(|object| object.status.is_none()));
        assert!(read(&serde_json::value::to_raw_value(&json!("no object")).unwrap()).is_none());
        assert_eq!(unreadable.0, 2);
        assert!(unreadable.1.starts_with("n/s: status.images: invalid type: string"), "{}", unreadable.1);
    }
}
