//! Tags that a destination keeps: what an operator shows of them.

use std::time::Duration;

use serde_json::json;
use transship::api::{ReplicationConfiguration, ReplicationStatus};
use transship::terms::{FailureCode, ReplicationState};

use super::platforms::change_rule;
use super::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_counts_kept_tags_apart_and_overwrites_once_it_may() {
    let (source, destination) = (registry(), registry());
    let wanted = source.push("app", "kept", &Image::single(1, 1, 1_000));
    source.push("app", "new", &Image::single(2, 1, 1_000));
    let there = destination.push("app", "kept", &Image::single(3, 1, 1_000));
    let mut scene = Scene::new("kept").await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("source", &source).await;
    scene.open_registry("destination", &destination).await;
    scene.configure("app", "source", &[to("destination")], None, "24h").await;
    change_rule(&scene, json!({"onTagConflict": "Keep"})).await;
    scene.start_operator().await;
    let image = scene.image_becomes("destination/app:kept", ReplicationState::Skipped, SOON).await;
    let message = image.message.unwrap_or_default();
    assert_eq!(image.failure_code, Some(FailureCode::TagExists));
    assert!(message.contains(&there) && message.contains(&wanted), "{message}");
    scene.image_becomes("destination/app:new", ReplicationState::Complete, SOON).await;
    let ready = scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON);
    assert!(ready.await.contains("1 of 2 images are skipped"));
    let name = scene.statuses().await[0].metadata.name.clone().unwrap();
    scene.condition::<ReplicationStatus>(&namespace, &name, "Replicated", "False", "ImagesSkipped", SOON).await;
    eventually(SOON, "the configuration counts it", async || {
        let summary = scene.configurations().get("app").await.unwrap().status.and_then(|status| status.summary);
        summary.is_some_and(|summary| (summary.skipped, summary.failed, summary.complete) == (1, 0, 1))
    })
    .await;
    change_rule(&scene, json!({})).await;
    scene.image_becomes("destination/app:kept", ReplicationState::Complete, SOON).await;
    assert_eq!(destination.tags("app")["kept"], wanted);
}
