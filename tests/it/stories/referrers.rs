//! Signatures that come later than their image: by a notification at once, without one at the next comparison.

use std::collections::BTreeSet;
use std::time::Duration;

use transship::terms::{ImageStatus, ReplicationState};

use super::hints::notified;
use super::scene::{PASSWORD, Scene, to};
use crate::referrers::{attach, fallback_tag, listed};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;

const SOON: Duration = Duration::from_secs(30);

/// Waits until the image is complete with other referrers than before.
async fn referrers_change(scene: &Scene, image: &str, before: Option<&str>) -> ImageStatus {
    eventually(SOON, &format!("what refers to {image} changes"), async || {
        let entry = scene.images().await.remove(image);
        match entry {
            Some(entry) if entry.status == ReplicationState::Complete && entry.referrers_hash.as_deref() != before => {
                Ok(entry)
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_notified_follows_its_image() {
    let (scene, source, destination) = notified("signed").await;
    let image = Image::single(940, 2, 5_000);
    let signature = Image::artifact(941, "application/vnd.example.signature", 300, Some(&image));
    source.pusher().push("app", "v1", &image).await;
    let complete = scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    assert_eq!(complete.referrers_hash, None);
    attach(&source.pusher(), "app", &image, std::slice::from_ref(&signature)).await;
    referrers_change(&scene, "destination/app:v1", None).await;
    let there = listed(&destination.pusher(), "app", &image).await;
    assert_eq!(there, BTreeSet::from([signature.digest()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_signatures_are_no_images_and_are_followed_by_every_comparison() {
    let mut scene = Scene::new("cosign").await;
    let source = TestRegistry::distribution("cosign-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::docker_2_8("cosign-destination").user("writer", PASSWORD).start().await;
    let (image, signature) = (Image::multi_platform(950, 2_000), Image::single(951, 1, 300));
    let tag = format!("{}.sig", fallback_tag(&image));
    source.pusher().push("app", "v1", &image).await;
    source.pusher().push("app", &tag, &signature).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "10s").await;
    scene.start_operator().await;
    let first = scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    assert!(first.referrers_hash.is_some());
    assert_eq!(destination.pusher().digest_of("app", &tag).await, Some(signature.digest()));

    let again = Image::single(952, 1, 300);
    source.pusher().push("app", &tag, &again).await;
    referrers_change(&scene, "destination/app:v1", first.referrers_hash.as_deref()).await;
    assert_eq!(destination.pusher().digest_of("app", &tag).await, Some(again.digest()), "signed by one more key");
    let names: Vec<String> = scene.images().await.into_keys().collect();
    assert_eq!(names, ["destination/app:v1"], "a signature is no image of its own");
}
