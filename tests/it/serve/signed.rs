//! A `serve` that copies only what is signed.

use serde_json::json;
use transship::terms::{FailureCode, ReplicationState};

use super::{Serve, becomes};
use crate::support::cosign::{CosignSigner, signature_tag};
use crate::support::image::Image;
use crate::tag_filters::{files, registry, rule};

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_copies_what_is_signed_and_says_what_is_not() {
    let (signer, other) = (CosignSigner::new(), CosignSigner::new());
    let (source, destination) = (registry(), registry());
    for (seed, tag) in (1..).zip(["signed", "wrong-key", "unsigned"]) {
        let digest = source.push("app", tag, &Image::single(seed, 1, 1_000));
        let by = if tag == "signed" { &signer } else { &other };
        if tag != "unsigned" {
            source.push("app", &signature_tag(&digest), &by.simple_signatures(&[&digest]));
        }
    }
    let mut files = files("serve-signed", &source, &[&destination]);
    rule(&mut files)["verification"] = json!({"cosign": {"publicKey": signer.public_key()}});
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d0/app:signed", ReplicationState::Complete).await;
    let failed = becomes(&files, "app: d0/app:wrong-key", ReplicationState::Failed).await;
    assert_eq!(failed.failure_code, Some(FailureCode::SignatureInvalid));
    let skipped = becomes(&files, "app: d0/app:unsigned", ReplicationState::Skipped).await;
    assert_eq!(skipped.failure_code, Some(FailureCode::SignatureMissing));
    assert!(!destination.tags("app").contains_key("unsigned") && !destination.tags("app").contains_key("wrong-key"));
    serve.end().await;
}
