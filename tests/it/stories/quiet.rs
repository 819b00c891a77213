//! Nothing to do means nothing written, however often it is compared; and what people may do to objects by hand.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use transship::api::{ReplicationConfiguration, ReplicationStatus};
use transship::terms::ReplicationState;

use super::scene::{PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;

const SOON: Duration = Duration::from_secs(30);

async fn settled(story: &str, interval: &str) -> (Scene, TestRegistry, TestRegistry) {
    let source = TestRegistry::distribution(&format!("{story}-source")).user("reader", PASSWORD).start().await;
    let destination =
        TestRegistry::distribution(&format!("{story}-destination")).user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(21, 2, 5_000)).await;
    let mut scene = Scene::new(story).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, interval).await;
    scene.start_operator().await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;
    (scene, source, destination)
}

/// Returns the time for which it is idle: in seconds, `TRANSSHIP_IDLE` or 60.
fn idle() -> Duration {
    let seconds = std::env::var("TRANSSHIP_IDLE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_means_comparisons_and_no_write_anywhere() {
    let (scene, source, destination) = settled("idle", "10s").await;
    tokio::time::sleep(Duration::from_secs(5)).await; // The counts of the configuration follow a moment later.
    let (position, log) = (scene.plane.audit_position(), source.access_log().len());
    let destination_log = destination.access_log().len();
    tokio::time::sleep(idle()).await;
    let lists = source.access_log()[log..].iter().filter(|access| access.path.contains("/v2/_catalog")).count();
    let writes = scene.writes(Some(position));
    println!("idle for {:?}: {lists} comparisons, {} writes to the API server", idle(), writes.len());
    assert!(lists as u64 >= idle().as_secs() / 20, "{lists} comparisons");
    assert!(writes.is_empty(), "{writes:?}");
    let asked = destination.access_log().split_off(destination_log);
    assert!(asked.iter().all(|access| matches!(access.method.as_str(), "GET" | "HEAD")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_by_annotation_is_echoed() {
    let (scene, source, _destination) = settled("request", "24h").await;
    source.pusher().push("app", "v2", &Image::single(22, 2, 5_000)).await;
    let token = serde_json::json!({"metadata": {"annotations": {"transship.dev/replicate-requested-at": "token-1"}}});
    scene.configurations().patch("app", &PatchParams::default(), &Patch::Merge(token)).await.unwrap();
    eventually(SOON, "the request is echoed", async || {
        let status = scene.configurations().get("app").await.unwrap().status.unwrap_or_default();
        status.last_handled_replicate_request.as_deref() == Some("token-1")
    })
    .await;
    assert_eq!(scene.images().await["destination/app:v2"].status, ReplicationState::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_configuration_reads_and_writes_nothing() {
    let (scene, source, destination) = settled("suspend", "10s").await;
    let suspend = |value: bool| Patch::Merge(serde_json::json!({"spec": {"suspend": value}}));
    scene.configurations().patch("app", &PatchParams::default(), &suspend(true)).await.unwrap();
    let namespace = scene.namespace.name.clone();
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Suspended", "True", "Suspended", SOON).await;
    source.pusher().push("app", "v2", &Image::single(23, 2, 5_000)).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(destination.pusher().digest_of("app", "v2").await, None);
    scene.configurations().patch("app", &PatchParams::default(), &suspend(false)).await.unwrap();
    scene.image_becomes("destination/app:v2", ReplicationState::Complete, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_status_comes_back_a_deleted_configuration_takes_its_own() {
    let (scene, _source, destination) = settled("deleted", "24h").await;
    let statuses = scene.api::<ReplicationStatus>(&scene.namespace.name);
    let name = scene.statuses().await[0].metadata.name.clone().unwrap();
    statuses.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually(SOON, "the status is written again", async || {
        scene.images().await.get("destination/app:v1").is_some_and(|image| image.status == ReplicationState::Complete)
    })
    .await;
    scene.configurations().delete("app", &DeleteParams::default()).await.unwrap();
    eventually(SOON, "the statuses are gone", async || scene.statuses().await.is_empty()).await;
    assert!(destination.pusher().digest_of("app", "v1").await.is_some(), "what was replicated stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_ends_leaves_nothing_in_progress() {
    let (mut scene, source, _destination) = settled("ends", "10s").await;
    for tag in 0..20 {
        source.pusher().push("app", &format!("t{tag}"), &Image::single(300 + tag, 2, 200_000)).await;
    }
    eventually(SOON, "work is under way", async || scene.images().await.len() > 1).await;
    scene.end_operator().await;
    let images = scene.images().await;
    assert!(images.values().all(|image| image.status != ReplicationState::InProgress), "{images:?}");
    assert!(images.contains_key("destination/app:v1"), "statuses outlive the operator");
}
