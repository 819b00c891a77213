//! An operator whose way to the API server is dead revokes what it cannot ask for, and makes up for what it has missed.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::DeleteParams;
use transship::api::ReplicationStatus;
use transship::terms::ReplicationState;

use super::consent::SlowLayer;
use super::core::{between, is_ready};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stops_although_the_watch_of_its_policy_is_dead() {
    let mut layer = SlowLayer::new("deaf").await;
    layer.scene.operator.will_be_cut_off();
    layer.is_on_its_way().await;
    layer.scene.operator.cut_off().await;
    layer.is_stopped_by_its_owner().await;
    layer.scene.operator.reconnect().await;
    layer.is_reported().await;
    let log = layer.scene.operator_log().await;
    // A leader that cannot renew its Lease ends, and its successor says that nothing is permitted.
    let has_ended = log.contains("the Lease is neither taken nor renewed");
    assert!(log.contains("PolicyRevoked") || has_ended, "it was reported as revoked: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_deleted_while_the_watch_is_down_is_written_again() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = between("gap", &source, &destination, None).await;
    scene.operator.will_be_cut_off();
    scene.start_operator().await;
    is_ready(&scene).await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    let (name, written) = (scene.statuses().await[0].name_any(), destination.count("PUT", "/manifests/"));
    scene.operator.refuse_connections();
    eventually(SOON, "its watch of statuses is down", async || {
        scene
            .operator_log()
            .await
            .lines()
            .any(|line| line.contains("ReplicationStatus") && line.contains("a watch failed"))
    })
    .await;
    scene.api::<ReplicationStatus>(&scene.namespace.name).delete(&name, &DeleteParams::default()).await.unwrap();
    assert!(scene.statuses().await.is_empty());
    scene.operator.reconnect().await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    assert_eq!(destination.count("PUT", "/manifests/"), written, "nothing is copied for that");
}
