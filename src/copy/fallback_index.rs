//! The index of referrers under a fallback tag, and the artifact types that manifests state.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::task::CopyError;
use crate::image::{MAX_DESCRIPTORS, Manifest, ManifestKind, media_type};
use crate::registry::{ErrorKind, RegistryError};

/// Returns the index `present` with descriptors of `missing` at its end; everything else in it stays.
///
/// # Errors
/// [`CopyError::Destination`] if `present` cannot be extended, [`CopyError::LimitExceeded`].
pub(super) fn merge(present: Option<&Manifest>, missing: &[&Manifest]) -> Result<Manifest, CopyError> {
    let unusable = |what: &str| {
        let detail = format!("the destination has {what} under the tag of a referrers index: remove that tag there");
        CopyError::Destination(RegistryError::new(ErrorKind::Rejected, detail))
    };
    let mut index = match present {
        None => Map::new(),
        Some(index) if matches!(index.kind, ManifestKind::Index { .. }) => {
            serde_json::from_slice(&index.bytes).map_err(|_| unusable("something that is no index"))?
        }
        Some(_) => return Err(unusable("an image")),
    };
    index.entry("schemaVersion").or_insert(json!(2));
    index.entry("mediaType").or_insert(json!(media_type::OCI_INDEX));
    let listed = index.entry("manifests").or_insert_with(|| json!([]));
    let listed = listed.as_array_mut().ok_or_else(|| unusable("something that is no index"))?;
    for manifest in missing {
        listed.push(descriptor(manifest)?);
    }
    if listed.len() > MAX_DESCRIPTORS {
        return Err(CopyError::LimitExceeded(format!("over {MAX_DESCRIPTORS} referrers of one manifest")));
    }
    let bytes = Bytes::from(Value::Object(index).to_string());
    Manifest::parse(Some(media_type::OCI_INDEX), bytes).map_err(|_| unusable("an index that cannot be extended"))
}

/// Returns the descriptor of a referrer: with its annotations, and its artifact type or else that of its configuration
/// (distribution specification 1.1, "Pushing Manifests with Subject").
fn descriptor(manifest: &Manifest) -> Result<Value, CopyError> {
    let document: TypesView<'_> = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    if let Some(artifact_type) = document.artifact_type() {
        descriptor["artifactType"] = json!(artifact_type);
    }
    let annotations = document.annotations.map(RawValue::get).filter(|text| text.starts_with('{'));
    if annotations.is_some_and(|text| text.len() > MAX_ANNOTATIONS) {
        let message = format!("the annotations of the referrer {} are over {MAX_ANNOTATIONS} bytes", manifest.digest);
        return Err(CopyError::LimitExceeded(message));
    }
    if let Some(annotations) = annotations.and_then(|text| serde_json::from_str(text).ok()) {
        descriptor["annotations"] = annotations;
    }
    Ok(descriptor)
}

/// The fields of a manifest that state its type.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TypesView<'a> {
    artifact_type: Option<String>,
    config: Option<TypedView>,
    pub(super) layers: Option<Vec<TypedView>>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypedView {
    #[serde(default)]
    pub(super) media_type: String,
}

impl TypesView<'_> {
    /// Returns the artifact type, or else that of the configuration.
    pub(super) fn artifact_type(&self) -> Option<&String> {
        let config = self.config.as_ref().map(|config| &config.media_type);
        self.artifact_type.as_ref().filter(|text| !text.is_empty()).or(config).filter(|text| !text.is_empty())
    }
}

/// Bytes of a referrer's annotations: an index repeats them, and has no room for many.
const MAX_ANNOTATIONS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn manifest(document: Value) -> Manifest {
        Manifest::parse(None, Bytes::from(document.to_string())).unwrap()
    }

    fn signature(layer: &str) -> Manifest {
        let blob =
            |content: &str| json!({"mediaType": "text/x", "digest": Digest::sha256(content.as_bytes()), "size": 1});
        manifest(json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "example/signature",
            "config": blob("config"), "layers": [blob(layer)], "annotations": {"key": layer}}))
    }

    #[test]
    fn an_index_of_referrers_keeps_what_it_lists_and_describes_what_is_new() {
        let (one, two) = (signature("1"), signature("2"));
        let first = merge(None, &[&one]).unwrap();
        let both = merge(Some(&first), &[&two]).unwrap();
        let document: Value = serde_json::from_slice(&both.bytes).unwrap();
        assert_eq!(document["manifests"].as_array().unwrap().len(), 2);
        let last = &document["manifests"][1];
        assert_eq!(last["artifactType"], "example/signature");
        assert_eq!((&last["annotations"]["key"], &last["digest"]), (&json!("2"), &json!(two.digest)));
        assert_eq!(document["manifests"][0]["digest"], json!(one.digest));
    }

    #[test]
    fn what_is_no_index_is_not_overwritten() {
        let error = merge(Some(&signature("1")), &[&signature("2")]).unwrap_err();
        assert!(error.to_string().contains("remove that tag"), "{error}");
    }
}
