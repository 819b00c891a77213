//! A rule takes some tags: what is replicated, what a push of another tag causes, and what a change of the filters
//! does.

use std::time::Duration;

use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::hints::notified;
use super::platforms::change_rule;
use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;

const SOON: Duration = Duration::from_secs(30);

fn matching(filter_type: &str, filter: &str) -> Value {
    json!({"tagFilters": [{"filter": filter, "filterType": filter_type}]})
}

/// Waits until the status has just these tags, all complete, and counts no others.
async fn status_has(scene: &Scene, tags: &[&str]) {
    eventually(SOON, &format!("the status has {tags:?}"), async || {
        let mut found: Vec<String> = Vec::new();
        let mut counted = 0;
        for status in scene.statuses().await {
            let status = status.status.unwrap_or_default();
            assert_eq!(status.summary.failed, 0, "{status:?}");
            counted += status.summary.images;
            let complete = status.images.iter().filter(|image| image.status == ReplicationState::Complete);
            found.extend(complete.map(|image| image.tag.clone()));
        }
        found.sort();
        if found == tags && counted == tags.len() as u64 { Ok(()) } else { Err(format!("{found:?}, {counted} in all")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_change_are_carried_out_and_what_was_replicated_stays() {
    let source = TestRegistry::distribution("filtered-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("filtered-destination").user("writer", PASSWORD).start().await;
    for (seed, tag) in (50..).zip(["v1.0.0", "v1.1.0", "v2.0.0", "latest"]) {
        source.pusher().push("app", tag, &Image::single(seed, 1, 5_000)).await;
    }
    let mut scene = Scene::new("filtered").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "24h").await;
    change_rule(&scene, matching("SEMVER_MATCH", "<2")).await;
    scene.start_operator().await;
    status_has(&scene, &["v1.0.0", "v1.1.0"]).await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;

    change_rule(&scene, matching("GLOB_MATCH", "v?.0.0")).await;
    status_has(&scene, &["v1.0.0", "v2.0.0"]).await;
    assert!(destination.pusher().digest_of("app", "v1.1.0").await.is_some(), "it stays");

    // The filters change while no operator runs: the status has tags that they do not take.
    scene.end_operator().await;
    change_rule(&scene, matching("EXACT_MATCH", "v2.0.0")).await;
    scene.start_operator().await;
    status_has(&scene, &["v2.0.0"]).await;
    let tags: Vec<String> = destination.pusher().tags("app").await.into_iter().collect();
    assert_eq!(tags, ["v1.0.0", "v1.1.0", "v2.0.0"]);

    change_rule(&scene, matching("REGEX_MATCH", "v[")).await;
    let message =
        scene.condition::<ReplicationConfiguration>(&namespace, "app", "Stalled", "True", "InvalidSpec", SOON).await;
    assert!(message.contains("spec.rules[all].tagFilters[0]: \"v[\" is no regular expression"), "{message}");
    change_rule(&scene, json!({})).await;
    status_has(&scene, &["latest", "v1.0.0", "v1.1.0", "v2.0.0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_tag_that_no_filter_takes_is_not_looked_at() {
    let (scene, source, destination) = notified("unfiltered").await;
    change_rule(&scene, json!({"excludeTagFilters": [{"filter": "*-debug", "filterType": "GLOB_MATCH"}]})).await;
    // The rule holds as soon as a comparison by it is over.
    scene.compared_again("app", "now").await;
    source.pusher().push("app", "v1-debug", &Image::single(61, 1, 5_000)).await;
    let event = r#"{"events":[{"action":"push","target":{"repository":"app","tag":"v1-debug"}}]}"#;
    assert_eq!(scene.send_notification("source", NOTIFY_TOKEN, event.to_owned()).await, 202);
    source.pusher().push("app", "v1", &Image::single(62, 1, 5_000)).await;
    status_has(&scene, &["v1"]).await;
    assert_eq!(destination.pusher().digest_of("app", "v1-debug").await, None);
    let log = source.access_log();
    let ours = log.iter().filter(|access| access.user_agent.starts_with("transship/"));
    assert!(ours.clone().any(|access| access.path.ends_with("/manifests/v1")));
    let unwanted: Vec<_> = ours.filter(|access| access.path.contains("v1-debug")).collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
}
