//! A push is announced by the source's notifications and replicated at once.

use std::time::{Duration, Instant};

use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::image::Image;
use crate::support::registry::TestRegistry;

const SOON: Duration = Duration::from_secs(30);

pub(super) async fn notified(story: &str) -> (Scene, TestRegistry, TestRegistry) {
    let mut scene = Scene::new(story).await;
    let bearer = format!("Bearer {NOTIFY_TOKEN}");
    let source = TestRegistry::distribution(&format!("{story}-source")).user("reader", PASSWORD);
    let source = source.notify(&scene.notify_url("source"), &[("Authorization", &bearer)]).start().await;
    let destination =
        TestRegistry::distribution(&format!("{story}-destination")).user("writer", PASSWORD).start().await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.take_notifications("source").await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "24h").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;
    (scene, source, destination)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pushes_are_complete_within_a_second() {
    let (scene, source, _destination) = notified("latency").await;
    let mut times = Vec::new();
    for push in 0..50_u64 {
        let (repository, tag) = (format!("app-{}", push % 10), format!("v{push}"));
        source.pusher().push(&repository, &tag, &Image::single(1000 + push, 2, 50_000)).await;
        let began = Instant::now();
        scene.image_becomes(&format!("destination/{repository}:{tag}"), ReplicationState::Complete, SOON).await;
        times.push(began.elapsed());
    }
    times.sort();
    let (p50, p99) = (times[25], times[49]);
    println!("push to COMPLETE over 50 pushes: p50 {p50:?}, p99 {p99:?}");
    assert!(p50 < Duration::from_secs(1), "p50 {p50:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pushed_tag_is_looked_at_and_a_moved_tag_follows() {
    let (scene, source, destination) = notified("moved").await;
    for (tag, seed) in [("v1", 1), ("v2", 2), ("latest", 2)] {
        source.pusher().push("app", tag, &Image::single(seed, 2, 5_000)).await;
    }
    scene.image_becomes("destination/app:latest", ReplicationState::Complete, SOON).await;
    scene.image_becomes("destination/app:v2", ReplicationState::Complete, SOON).await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    let log = source.access_log().len();
    let moved = source.pusher().push("app", "latest", &Image::single(3, 2, 5_000)).await;
    crate::support::eventually::eventually(SOON, "the moved tag follows", async || {
        destination.pusher().digest_of("app", "latest").await.as_ref() == Some(&moved)
    })
    .await;
    let ours = source.access_log().split_off(log);
    let ours: Vec<_> = ours.iter().filter(|access| access.user_agent.starts_with("transship")).collect();
    assert!(!ours.is_empty());
    assert!(
        ours.iter().all(|access| !access.path.contains("tags/list") && !access.path.contains("_catalog")),
        "{ours:?}"
    );
    assert!(ours.iter().all(|access| !access.path.ends_with("/v1") && !access.path.ends_with("/v2")), "{ours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_an_unknown_registry_answer_the_same() {
    let (scene, _source, _destination) = notified("tokens").await;
    let body = || r#"{"events":[]}"#.to_owned();
    assert_eq!(scene.send_notification("source", NOTIFY_TOKEN, body()).await, 202);
    assert_eq!(scene.send_notification("source", NOTIFY_TOKEN, "garbage".to_owned()).await, 202);
    assert_eq!(scene.send_notification("source", "wrong", body()).await, 401);
    assert_eq!(scene.send_notification("source", "", body()).await, 401);
    assert_eq!(scene.send_notification("destination", NOTIFY_TOKEN, body()).await, 401);
    assert_eq!(scene.send_notification("nowhere", NOTIFY_TOKEN, body()).await, 401);
    assert_eq!(scene.send_too_much("source", NOTIFY_TOKEN, 2 << 20).await, 413);
    let (position, began) = (scene.plane.audit_position(), Instant::now());
    for push in 0..500 {
        let event = format!(r#"{{"events":[{{"action":"push","target":{{"repository":"flood","tag":"t{push}"}}}}]}}"#);
        assert_eq!(scene.send_notification("source", NOTIFY_TOKEN, event).await, 202);
    }
    let calls = scene.plane.audit_log_of(&scene.operator_user, position);
    // The Lease is renewed every 2 s, and the Secrets of Registries are asked for every 4 s.
    let most = 20 + began.elapsed().as_secs() as usize;
    assert!(calls.len() < most, "500 notifications cause {} calls to the API server", calls.len());
}
