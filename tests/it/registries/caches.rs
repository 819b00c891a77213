//! Caches of BuildKit: indexes whose entries are layers, which Distribution 2.8 takes and others refuse.

use transship::copy::CopyError;
use transship::plan::CodedError;
use transship::registry::ErrorKind;
use transship::terms::FailureCode;

use super::pair::RegistryPair;
use crate::support::image::{Blob, Image, OCI_INDEX};
use crate::support::scripted::{Personality, ScriptedFault, When};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// Returns a cache as `--cache-to type=registry` writes it by default.
pub fn cache() -> Image {
    let entry = |blob: &Blob, media_type: &str| serde_json::json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
    let (one, two, config) = (Blob::layer(1, 20_000), Blob::layer(2, 30_000), Blob::layer(3, 500));
    let entries = [entry(&one, LAYER), entry(&two, LAYER), entry(&config, CONFIG)];
    let document = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    let mut cache = Image::index(Vec::new());
    (cache.bytes, cache.blobs) = (document.to_string().into_bytes(), vec![one, two, config]);
    cache
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_buildkit_is_copied_with_its_layers_as_blobs() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let cache = cache();
    pair.source.push("app", "cache", &cache);
    pair.copy("cache", &cache.digest()).await.unwrap();
    let mut expected: Vec<_> = cache.blobs.iter().map(|blob| blob.digest.clone()).collect();
    expected.push(cache.digest());
    assert!(expected.iter().all(|digest| pair.destination.contents("app").contains(digest)));
    assert_eq!(pair.destination.tags("app")["cache"], cache.digest());
    assert_eq!(pair.source.count("GET", "/manifests/"), 1, "no layer is asked for as a manifest");
    assert!(pair.copy("cache", &cache.digest()).await.unwrap().already_there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_index_of_layers_refuses_a_cache_once() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let cache = cache();
    pair.source.push("app", "cache", &cache);
    for code in ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"] {
        pair.destination.clear_faults();
        pair.destination.fault(When::asked("PUT", "/manifests/").always(), ScriptedFault::error(400, code));
        let before = pair.destination.count("PUT", "/manifests/");
        let refused = pair.copy("cache", &cache.digest()).await.unwrap_err();
        assert_eq!(pair.destination.count("PUT", "/manifests/"), before + 1, "{code}");
        assert!(refused.to_string().contains(LAYER) || refused.to_string().contains(CONFIG), "{refused}");
        assert!(matches!(&refused, CopyError::Destination(error) if error.kind == ErrorKind::Rejected), "{refused}");
        assert_eq!(CodedError::from(refused).code, FailureCode::DestinationRejected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_breaks_at_a_cache_is_named_with_the_media_type() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let cache = cache();
    pair.source.push("app", "cache", &cache);
    for fault in [ScriptedFault::error(500, "UNKNOWN"), ScriptedFault::CutRequest(10)] {
        pair.destination.clear_faults();
        pair.destination.fault(When::asked("PUT", "/manifests/").always(), fault);
        let refused = pair.copy("cache", &cache.digest()).await.unwrap_err();
        assert!(
            refused.to_string().contains(LAYER) && refused.to_string().contains("image-manifest=true"),
            "{refused}"
        );
        assert_eq!(CodedError::from(refused).code, FailureCode::DestinationRejected, "it is not tried again");
    }
    pair.destination.fault(When::asked("", "/v2/").always(), ScriptedFault::error(503, "UNAVAILABLE"));
    let away = pair.copy("cache", &cache.digest()).await.unwrap_err();
    assert_eq!(
        CodedError::from(away).code,
        FailureCode::DestinationUnavailable,
        "a registry that is away may come back"
    );
}
