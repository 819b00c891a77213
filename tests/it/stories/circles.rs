//! Configurations whose copies would come back to where they began.

use std::time::Duration;

use transship::api::ReplicationConfiguration;

use super::scene::{Scene, to};
use crate::support::image::Image;
use crate::tag_filters::registry;

/// Several intervals of ten seconds, on a busy machine.
const LATER: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_three_registries_is_refused_and_nothing_comes_back() {
    let registries = [registry(), registry(), registry()];
    let pushed = registries[0].push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = Scene::new("circle").await;
    let namespace = scene.namespace.name.clone();
    for (name, registry) in ["a", "b", "c"].into_iter().zip(&registries) {
        scene.open_registry(name, registry).await;
    }
    for (name, from, destination) in [("one", "a", "b"), ("two", "b", "c"), ("three", "c", "a")] {
        scene.configure(name, from, &[to(destination)], None, "10s").await;
        tokio::time::sleep(Duration::from_millis(1100)).await; // Ages differ by the second.
    }
    scene.start_operator().await;
    let circle = ("Stalled", "SelfReplication");
    scene.condition::<ReplicationConfiguration>(&namespace, "three", circle.0, "True", circle.1, LATER).await;
    for name in ["one", "two"] {
        scene.condition::<ReplicationConfiguration>(&namespace, name, "Ready", "True", "Replicated", LATER).await;
    }
    assert!(registries.iter().all(|registry| registry.tags("app").get("v1") == Some(&pushed)));
    assert_eq!(registries[0].count("PUT", "/v2/app/") + registries[0].count("POST", "/v2/app/"), 0);
}
