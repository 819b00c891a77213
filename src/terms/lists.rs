//! Kubernetes extensions of JSON schemas that say how lists merge when several writers apply an object.

use schemars::Schema;
use schemars::transform::Transform;
use serde_json::json;

/// Marks a list as one value: a writer replaces all of it.
pub(super) fn atomic(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
}

/// Marks a list as a set: an entry is unique.
pub(super) fn set(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("set"));
}

/// Marks a list as a map: the field `key` identifies an entry and is unique.
pub(super) fn keyed_by(key: &'static str) -> impl Transform {
    move |schema: &mut Schema| {
        schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
        schema.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
    }
}
