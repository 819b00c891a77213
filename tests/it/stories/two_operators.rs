//! Two operators that both believe to be the only one.

use std::time::Duration;

use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::operator::Operator;
use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::{AccessLine, TestRegistry};

const SOON: Duration = Duration::from_secs(60);
const MOVES: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_double_no_status_and_agree_on_the_newest_of_every_tag() {
    let mut scene = Scene::new("rivals").await;
    let namespace = scene.namespace.name.clone();
    let mut rival = Operator::new(scene.plane, "rivals").await;
    let rival_url = format!("{}/v1/notify/{namespace}/source", rival.notify_url());
    let bearer = format!("Bearer {NOTIFY_TOKEN}");
    let authorization = [("Authorization", bearer.as_str())];
    let source = TestRegistry::distribution("rivals-source").notify(&scene.notify_url("source"), &authorization);
    let source = source.notify(&rival_url, &authorization).start().await;
    let destination = TestRegistry::distribution("rivals-to").user("writer", PASSWORD).start().await;
    scene.registry(&namespace, "source", &source, None).await;
    scene.take_notifications("source").await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "10s").await;
    scene.start_operator().await;
    rival.start(&scene.namespaces, &[source.host(), destination.host()]).await;
    let mut newest = String::new();
    for seed in 0..MOVES {
        newest = source.pusher().push("app", "latest", &Image::single(700 + seed, 2, 50_000)).await;
        source.pusher().push("app", &format!("v{seed}"), &Image::single(800 + seed, 2, 50_000)).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let wanted = usize::try_from(MOVES).unwrap() + 1;
    eventually(SOON, "both have settled", async || {
        let images = scene.images().await;
        let complete = images.values().filter(|image| image.status == ReplicationState::Complete).count();
        let digest = images.get("destination/app:latest").map(|image| image.digest.clone());
        let there = destination.pusher().digest_of("app", "latest").await;
        let is_settled = complete == wanted && there.as_ref() == Some(&newest) && digest.as_ref() == Some(&newest);
        if is_settled { Ok(()) } else { Err(format!("{complete} of {wanted}, {there:?}")) }
    })
    .await;
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SOON).await;
    assert_eq!(scene.statuses().await.len(), 1, "one status for the pair");
    let is_write = |access: &AccessLine| access.method == "PUT" && access.path.contains("/manifests/");
    let writes = || destination.access_log().into_iter().filter(is_write).count();
    let settled = writes();
    // A comparison of each: neither finds anything to correct.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(writes(), settled, "they are at peace");
    assert_eq!(destination.pusher().digest_of("app", "latest").await, Some(newest));
    println!("{settled} manifests written for {} pushes by two operators", 2 * MOVES);
    assert!(settled as u64 <= 4 * MOVES, "each writes an image once at most");
    rival.end().await;
}
