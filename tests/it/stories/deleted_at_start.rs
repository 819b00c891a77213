//! Configurations that are deleted while the operator starts: their destinations are free for others.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::json;
use transship::api::ReplicationConfiguration;

use super::execution::with_jobs;
use super::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::refusing_proxy::RefusingProxy;
use crate::tag_filters::registry;

/// Several intervals of ten seconds, on a busy machine.
const LATER: Duration = Duration::from_secs(60);

/// Creates a configuration that copies one repository.
async fn configure(scene: &Scene, name: &str, source: &str, repository: &str) {
    let filters = json!([{"filter": repository, "filterType": "EXACT_MATCH"}]);
    scene.configure(name, source, &[to("target")], Some(filters), "10s").await;
}

/// Waits until the configuration `name` has a condition that is true.
async fn shows(scene: &Scene, name: &str, kind: &str, reason: &str) {
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, name, kind, "True", reason, LATER).await;
}

/// Returns true if the operator has logged a line with all of these parts.
async fn logs(scene: &Scene, parts: &[&str]) -> bool {
    let log = scene.operator_log().await;
    log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_deleted_during_the_start_leaves_its_destination() {
    let (one, two, target) = (registry(), registry(), registry());
    let mut scene = Scene::new("deleted-at-start").await;
    for (name, registry) in [("one", &one), ("two", &two), ("target", &target)] {
        scene.open_registry(name, registry).await;
    }
    let _channel = with_jobs(&mut scene, "deleted-at-start").await;
    let proxy = RefusingProxy::in_front_of(scene.plane.server());
    scene.operator.process().api_url = Some(proxy.url());
    // The older configuration; the younger one that wants the same repository of the target.
    let pairs = [("gone", "next-a", "app-a"), ("replaced", "next-b", "app-b")];
    for (seed, (older, _, repository)) in (1..).zip(pairs) {
        one.push(repository, "v1", &Image::single(10 * seed, 1, 1_000));
        two.push(repository, "v1", &Image::single(100 * seed, 1, 1_000));
        configure(&scene, older, "one", repository).await;
    }
    scene.start_operator().await;
    for (older, ..) in pairs {
        shows(&scene, older, "Ready", "Replicated").await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await; // Ages differ by the second.
    for (_, younger, repository) in pairs {
        configure(&scene, younger, "two", repository).await;
        shows(&scene, younger, "Stalled", "DestinationConflict").await;
    }
    scene.end_operator().await;

    // The next one has the claims of all statuses, and starts no configuration before it knows the Jobs.
    proxy.refuse("/jobs");
    scene.operator.process().spawn(&scene.namespaces, &scene.hosts);
    eventually(LATER, "it waits", async || logs(&scene, &["the copy Jobs cannot be listed yet"]).await).await;
    for name in ["gone", "replaced"] {
        scene.configurations().delete(name, &DeleteParams::default()).await.unwrap();
    }
    configure(&scene, "replaced", "one", "app-b").await;
    eventually(LATER, "it knows of that", async || logs(&scene, &["does not exist any more", "gone"]).await).await;
    proxy.let_through();
    for (_, younger, repository) in pairs {
        shows(&scene, younger, "Ready", "Replicated").await;
        assert_eq!(target.digest(repository, "v1"), two.digest(repository, "v1"));
    }
    shows(&scene, "replaced", "Stalled", "DestinationConflict").await;
    eventually(LATER, "no status of the older ones is left", async || {
        let statuses = scene.statuses().await;
        statuses.iter().all(|status| status.spec.configuration_ref.name.starts_with("next-"))
    })
    .await;
}
