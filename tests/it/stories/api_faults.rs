//! The API server fails now and then, in every way, or goes away again and again: nothing is lost, nothing is copied
//! twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::core::{between, is_ready};
use super::scene::{NOTIFY_TOKEN, Scene};
use crate::support::chaos::ChaosProxy;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

const PUSHES: u64 = 40;
const LONG: Duration = Duration::from_secs(180);
/// Of a thousand requests.
const MANY_FAULTS: u64 = 300;

/// Pushes images to several repositories, each with its notification.
async fn push(scene: &Scene, source: &ScriptedRegistry) {
    for number in 0..PUSHES {
        let (repository, tag) = (format!("app-{}", number % 5), format!("v{number}"));
        let digest = source.push(&repository, &tag, &Image::single(10 * number, 1, 500));
        let target = json!({"repository": repository, "tag": tag, "digest": digest});
        let event = json!({"events": [{"action": "push", "target": target}]}).to_string();
        // The token of the notifications is read from the API server: a registry sends them again.
        eventually(LONG, "the notification is taken", async || {
            scene.send_notification("source", NOTIFY_TOKEN, event.clone()).await == 202
        })
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every image is complete, and was written once.
async fn all_arrive_once(scene: &Scene, destination: &ScriptedRegistry) {
    eventually(LONG, "every image is complete", async || {
        let images = scene.images().await;
        let complete = images.values().filter(|image| image.status == ReplicationState::Complete).count();
        if complete as u64 == PUSHES { Ok(()) } else { Err(format!("{complete} of {}", images.len())) }
    })
    .await;
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, "all", "Ready", "True", "Replicated", LONG).await;
    let moves: BTreeMap<_, _> = (0..5).flat_map(|number| destination.moves(&format!("app-{number}"))).collect();
    assert_eq!(moves.len() as u64, PUSHES);
    assert!(moves.values().all(|digests| digests.len() == 1), "{moves:?}");
    assert_eq!(scene.statuses().await.len(), 5, "a status for each pair");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_spoils_a_third_of_the_requests_loses_no_image() {
    let (source, destination) = (registry(), registry());
    let mut scene = between("spoilt-api", &source, &destination, None).await;
    let proxy = ChaosProxy::in_front_of(scene.plane.server(), 0);
    scene.operator.process().api_url = Some(format!("http://{}", proxy.host()));
    scene.start_operator().await;
    is_ready(&scene).await;
    proxy.spoil(MANY_FAULTS);
    push(&scene, &source).await;
    all_arrive_once(&scene, &destination).await;
    // A busy operator writes less often; it renews its lease in any case.
    eventually(LONG, "more than ten requests are spoilt", async || proxy.counts().1 > 10).await;
    let (requests, spoilt) = proxy.counts();
    println!("{spoilt} of {requests} requests spoilt for {PUSHES} images");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_away_again_and_again_loses_no_image() {
    let (source, destination) = (registry(), registry());
    let mut scene = between("away-api", &source, &destination, None).await;
    scene.operator.will_be_cut_off();
    scene.start_operator().await;
    is_ready(&scene).await;
    let away = async {
        for _ in 0..4 {
            scene.operator.refuse_connections();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            scene.operator.reconnect().await;
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
    };
    futures::join!(away, push(&scene, &source));
    all_arrive_once(&scene, &destination).await;
}
