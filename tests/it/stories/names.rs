//! Repositories get other names at their destinations: what an operator shows of it.

use std::time::Duration;

use serde_json::json;
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::platforms::change_rule;
use super::scene::{Scene, to};
use crate::support::image::Image;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_shows_both_names_and_those_that_would_merge() {
    let (source, destination) = (registry(), registry());
    for (seed, repository) in (0..).zip(["a/x", "b/x", "c/z"]) {
        source.push(repository, "v1", &Image::single(seed, 1, 1_000));
    }
    let mut scene = Scene::new("names").await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("source", &source).await;
    scene.open_registry("destination", &destination).await;
    scene.configure("app", "source", &[to("destination")], None, "10s").await;
    let named = json!([{"registryRef": {"name": "destination"}, "repository": "mirror/{basename}"}]);
    change_rule(&scene, json!({"repositoryFilters": null, "destinations": named})).await;
    scene.start_operator().await;
    scene.image_becomes("destination/mirror/z:v1", ReplicationState::Complete, SOON).await;
    let reason = "DestinationNameCollision";
    let message = scene.condition::<ReplicationConfiguration>(&namespace, "app", "Stalled", "True", reason, SOON).await;
    assert!(message.contains("a/x and b/x would share the repository mirror/x"), "{message}");
    let statuses = scene.statuses().await;
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    let spec = &statuses[0].spec;
    assert_eq!((spec.source.repository.as_str(), spec.destination.repository.as_str()), ("c/z", "mirror/z"));
    assert!(destination.tags("mirror/x").is_empty());

    // A push to one of them does not slip through, and once they have names of their own both are copied.
    let digest = source.push("a/x", "v2", &Image::single(8, 1, 1_000));
    let named = json!([{"registryRef": {"name": "destination"}, "repository": "mirror/{segment:1}-{basename}"}]);
    change_rule(&scene, json!({"repositoryFilters": null, "destinations": named})).await;
    scene.image_becomes("destination/mirror/a-x:v2", ReplicationState::Complete, SOON).await;
    scene.image_becomes("destination/mirror/b-x:v1", ReplicationState::Complete, SOON).await;
    assert_eq!(destination.tags("mirror/a-x")["v2"], digest);
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;
    let statuses = scene.statuses().await;
    let is_former = statuses.iter().any(|status| status.spec.destination.repository == "mirror/z");
    assert!(!is_former, "the status of the former name goes");
    assert_eq!(destination.tags("mirror/z"), source.tags("c/z"), "what was copied stays");
}
