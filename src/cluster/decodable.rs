//! Objects of the API server, of which one may have a value that this program cannot read.

use std::borrow::Cow;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object of the kind `K`, or what is known of one that cannot be decoded. A list of objects is read whatever one of
/// them is, as with [`kube::core::DeserializeGuard`], which does not say the field.
#[derive(Clone, Debug)]
pub(super) struct Decodable<K>(pub Result<K, UnreadableObject>);

/// An object that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct UnreadableObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The field and what is wrong with it.
    pub error: String,
}

#[derive(Deserialize)]
struct WithMetadata {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Decodable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match serde_path_to_error::deserialize(&value) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let WithMetadata { metadata } = WithMetadata::deserialize(&value).map_err(D::Error::custom)?;
                let error = format!("{}: {}", error.path(), error.inner());
                Ok(Self(Err(UnreadableObject { metadata, error })))
            }
        }
    }
}

impl<K: Resource> Resource for Decodable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ReplicationConfiguration;

    #[test]
    fn the_field_that_cannot_be_read_is_named_and_the_object_too() {
        let spec = json!({"source": {"registryRef": {"name": "s"}}, "rules": [], "priority": "high"});
        let object = json!({"metadata": {"namespace": "n", "name": "c"}, "spec": spec});
        let invalid = serde_json::from_value::<Decodable<ReplicationConfiguration>>(object).unwrap();
        assert_eq!(invalid.meta().name.as_deref(), Some("c"));
        let error = invalid.0.unwrap_err().error;
        assert_eq!(error, "spec.priority: invalid type: string \"high\", expected i32");
    }
}
