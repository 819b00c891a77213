//! An operator makes up for what happened while its watches were down.

use std::time::Duration;

use kube::ResourceExt;
use kube::api::DeleteParams;
use transship::api::ReplicationStatus;
use transship::terms::ReplicationState;

use super::core::{between, is_ready};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);

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
