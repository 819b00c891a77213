//! An operator that starts again finds everything as it was, and says so by writing nothing.

use std::time::{Duration, Instant};

use transship::terms::{ReplicationState, condition_type};

use super::core::{SOON, between, is_ready};
use super::scene::Scene;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

/// Waits until the operator that was started last has compared the source, and a moment longer.
async fn compared_once(source: &ScriptedRegistry, lists: usize) {
    eventually(SOON, "the source is compared", async || source.count("GET", "/v2/_catalog") > lists).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_nothing_changed_writes_no_status() {
    let (source, destination) = (registry(), registry());
    for seed in 0..30 {
        // Several images are complete in the same second.
        source.push(&format!("app-{}", seed % 3), &format!("v{seed}"), &Image::single(10 * seed, 1, 100));
    }
    let mut scene = between("unchanged", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    // The counts of the configuration follow a moment later.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = destination.log().len();
    for is_killed in [false, true] {
        if is_killed {
            scene.kill_operator();
        } else {
            scene.end_operator().await;
        }
        let (position, lists) = (scene.plane.audit_position(), source.count("GET", "/v2/_catalog"));
        scene.start_operator().await;
        compared_once(&source, lists).await;
        let written = scene.writes(Some(position));
        assert!(written.is_empty(), "{written:?}");
    }
    let asked = destination.log().split_off(asked);
    assert!(asked.iter().all(|seen| seen.is("GET", "/v2/")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_back_nothing_of_a_pair_that_its_status_has_no_room_for() {
    const TAGS: u64 = 400;
    let (source, destination) = (registry(), registry());
    let digest = source.push("app", "v0", &Image::single(1, 1, 100));
    (1..TAGS).for_each(|tag| source.tag("app", &format!("v{tag}"), &digest));
    let mut scene = between("no-room", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    eventually(SOON, "all are complete", async || complete(&scene).await == Ok(TAGS)).await;
    scene.kill_operator();
    let lists = source.count("GET", "/v2/_catalog");
    scene.start_operator().await;
    scene.request_comparison("all", "after").await;
    let began = Instant::now();
    loop {
        assert_eq!(complete(&scene).await, Ok(TAGS));
        let status = scene.configurations().get("all").await.unwrap().status.unwrap_or_default();
        if status.last_handled_replicate_request.as_deref() == Some("after") {
            break;
        }
        assert!(began.elapsed() < SOON, "the request is not handled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    compared_once(&source, lists).await;
    assert_eq!(complete(&scene).await, Ok(TAGS));
    is_ready(&scene).await;
}

/// Returns the number of complete images that the only status counts; an error if a condition or an image of it says
/// something else.
async fn complete(scene: &Scene) -> Result<u64, String> {
    let status = scene.statuses().await.pop().and_then(|object| object.status).unwrap_or_default();
    let replicated = status.conditions.iter().find(|condition| condition.type_ == condition_type::REPLICATED);
    let is_replicated = replicated.is_some_and(|condition| condition.status == "True");
    if !is_replicated || status.images.iter().any(|image| image.status != ReplicationState::Complete) {
        return Err(format!("{replicated:?}, {:?}", status.summary));
    }
    Ok(status.summary.complete)
}
