//! Sources that mean harm and destinations that break, end to end; `docs/reference/faults.md` lists every case with its
//! test.

mod bodies;
mod coverage;
mod destinations;
mod digests;
mod documents;
mod memory;

use std::collections::BTreeMap;

use transship::copy::CopyError;
use transship::registry::{ErrorKind, RegistryError};

use crate::registries::pair::RegistryPair;
use crate::support::image::{Image, OCI_MANIFEST};
use crate::support::scripted::{ScriptedFault, When};

/// Returns a document as a manifest of this media type, whatever it is.
fn document(media_type: &str, bytes: impl Into<Vec<u8>>) -> Image {
    Image {
        media_type: media_type.to_owned(),
        bytes: bytes.into(),
        blobs: Vec::new(),
        children: Vec::new(),
        platform: None,
        descriptor_annotations: BTreeMap::new(),
    }
}

/// Copies what the source serves for a manifest, whatever it is.
async fn copy_of_served(pair: &RegistryPair, content_type: &str, bytes: impl Into<Vec<u8>>) -> Result<(), CopyError> {
    let served = document(content_type, bytes);
    let headers = vec![("content-type", content_type.to_owned())];
    let answer = ScriptedFault::Answer { status: 200, headers, body: served.bytes.clone().into() };
    pair.source.clear_faults();
    pair.source.fault(When::asked("GET", format!("/manifests/{}", served.digest())).always(), answer);
    pair.copy("1", &served.digest()).await.map(|_| ())
}

/// Returns the error with which the source was refused. Panics where it is another one, or may pass by itself, or where
/// anything was tagged.
fn refused(pair: &RegistryPair, copied: Result<impl std::fmt::Debug, CopyError>, kind: ErrorKind) -> RegistryError {
    assert!(pair.destination.tags("app").is_empty(), "{copied:?}");
    match copied {
        Err(CopyError::Source(error)) if error.kind == kind && !kind.is_transient() => error,
        other => panic!("{kind:?} of the source was expected, not {other:?}"),
    }
}

/// Returns an OCI manifest with this descriptor of a configuration, and more.
fn manifest(config: &Image, more: &str) -> String {
    let config = serde_json::json!({ "mediaType": config.blobs[0].media_type, "digest": config.blobs[0].digest,
        "size": config.blobs[0].bytes.len() });
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config}{more}}}"#)
}
