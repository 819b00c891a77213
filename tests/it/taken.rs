//! A destination repository that another configuration writes to, seen with an account that may not write there.

use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use transship::copy::{Authority, CONSENT_LASTS, CopyError, Denied, Mutation};
use transship::plan::CodedError;
use transship::terms::FailureCode;

use crate::registries::pair::RegistryPair;
use crate::support::image::Image;
use crate::support::scripted::{Personality, ScriptedFault, When};

/// Consents to everything but tags, if another configuration writes there.
struct Claim {
    is_taken: bool,
}

impl Authority for Claim {
    fn permit<'a>(&'a self, mutation: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        let is_refused = self.is_taken && matches!(mutation, Mutation::WriteTag { .. });
        async move { if is_refused { Err(Denied::destination_taken()) } else { Ok(Instant::now() + CONSENT_LASTS) } }
            .boxed()
    }
}

/// Copies an image whose layers may be there already, with an account that is refused at `part`.
async fn copied(is_taken: bool, refused: Option<(&'static str, &str)>, has_layers: bool) -> (RegistryPair, CopyError) {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 2, 1_000);
    pair.source.push("app", "v1", &image);
    if has_layers {
        pair.destination.push("app", "theirs", &image);
    }
    if let Some((method, part)) = refused {
        pair.destination.fault(When::asked(method, part).always(), ScriptedFault::error(403, "DENIED"));
    }
    let error = pair.copy_under(&Claim { is_taken }, "v1", &image.digest()).await.unwrap_err();
    (pair, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_account_reads_the_same_whether_the_place_is_taken_or_not() {
    let cases = [("POST", "/blobs/uploads/", false), ("PUT", "/manifests/", false), ("PUT", "/manifests/", true)];
    for (method, part, has_layers) in cases {
        let mut said = Vec::new();
        for is_taken in [false, true] {
            let (pair, error) = copied(is_taken, Some((method, part)), has_layers).await;
            let CodedError { code, message, .. } = CodedError::from(error);
            assert_eq!(code, FailureCode::DestinationDenied, "{message}");
            let message = message.replace(&pair.destination.host(), "the registry");
            // Of several layers any one is refused first; a manifest is named by its tag.
            let about = message.split("@sha256:").next().unwrap_or_default().to_owned();
            said.push((about, method == "PUT" && message.contains("@sha256:")));
        }
        assert_eq!(said[0], said[1], "{method} {part}, layers there: {has_layers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_said_once_the_registry_has_taken_the_manifest() {
    for has_layers in [false, true] {
        let (pair, error) = copied(true, None, has_layers).await;
        let CodedError { code, message, .. } = CodedError::from(error);
        assert_eq!(code, FailureCode::DestinationConflict, "{message}");
        assert!(!pair.destination.tags("app").contains_key("v1"), "no tag is written");
    }
}
