//! An operator that starts again finds everything as it was, and says so by writing nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use transship::api::{Registry, ReplicationRecord, ReplicationStatus};
use transship::terms::{ReplicationState, condition_type};

use super::core::{SOON, between, is_ready};
use super::scene::{NOTIFY_TOKEN, Scene};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::support::tls::client_builder;
use crate::tag_filters::registry;

/// For a thousand images on a busy machine.
const LONG: Duration = Duration::from_secs(180);

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
        let image = Image::single(10 * seed, 1, 100);
        source.push(&format!("app-{}", seed % 3), &format!("v{seed}"), &image);
        // Its copy knows what refers to it, so that the comparison after a restart finds nothing new.
        let signature = Image::artifact(10 * seed + 1, "application/vnd.example.signature", 300, Some(&image));
        source.push_untagged(&format!("app-{}", seed % 3), &signature);
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
    let (lists, asked) = (source.count("GET", "/v2/_catalog"), destination.log().len());
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
    let asked = destination.log().split_off(asked);
    assert!(asked.iter().all(|seen| seen.is("GET", "/v2/")), "what is recorded is not looked at: {asked:?}");
}

/// Returns the tags in the records of all pairs, and the uids of the statuses that they belong to.
async fn recorded(scene: &Scene) -> (BTreeSet<String>, BTreeSet<String>) {
    let records = scene.api::<ReplicationRecord>(&scene.namespace.name).list(&ListParams::default()).await.unwrap();
    let rows = records.items.iter().flat_map(|record| &record.spec.rows);
    let tags = rows.map(|row| row.split(' ').next().unwrap().to_owned()).collect();
    (tags, records.items.iter().map(|record| record.spec.status_ref.uid.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_outgrows_its_status_is_recorded_whole_beside_it() {
    let (source, destination) = (registry(), registry());
    let digest = source.push("app", "v0", &Image::single(1, 1, 100));
    (1..100).for_each(|tag| source.tag("app", &format!("v{tag}"), &digest));
    let mut scene = between("record", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    assert_eq!(recorded(&scene).await.0, BTreeSet::new(), "the status is the record");

    (100..1_100).for_each(|tag| source.tag("app", &format!("v{tag}"), &digest));
    scene.request_comparison("all", "more").await;
    let all: BTreeSet<String> = (0..1_100).map(|tag| format!("v{tag}")).collect();
    eventually(LONG, "all are recorded", async || recorded(&scene).await.0 == all).await;

    // After a restart the pair is known, and a push shows as it does elsewhere.
    scene.kill_operator();
    scene.start_operator().await;
    let (pushed, began) = (source.push("app", "new", &Image::single(2, 1, 100)), Instant::now());
    scene.notify("source", "app", "new", &pushed).await;
    let shown = scene.image_becomes("destination/app:new", ReplicationState::Complete, SOON).await;
    println!("pushed after a restart and shown after {:?}", began.elapsed());
    assert_eq!(shown.digest, pushed);

    // A status that was deleted is written again, and its record belongs to the new object.
    let status = scene.statuses().await.pop().unwrap();
    let statuses = scene.api::<ReplicationStatus>(&scene.namespace.name);
    statuses.delete(&status.name_any(), &DeleteParams::default()).await.unwrap();
    eventually(SOON, "the record follows the status", async || {
        let (tags, uids) = recorded(&scene).await;
        let uid = scene.statuses().await.pop().and_then(|status| status.uid());
        if tags.len() == 1_101 && uid != status.uid() && uids == uid.into_iter().collect() {
            Ok(())
        } else {
            Err(format!("{} tags of {uids:?}", tags.len()))
        }
    })
    .await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_during_the_start_does_not_wait_for_the_sweep() {
    let (source, destination) = (registry(), registry());
    let image = source.push("app", "v0", &Image::single(0, 1, 100));
    // A sweep of these takes five minutes.
    (1..300).for_each(|number| source.tag("app", &format!("v{number}"), &image));
    let mut scene = between("early-hint", &source, &destination, None).await;
    let limits = Patch::Merge(json!({"spec": {"limits": {"sweepRequestsPerSecond": 1}}}));
    let registries = scene.api::<Registry>(&scene.namespace.name.clone());
    registries.patch("source", &PatchParams::default(), &limits).await.unwrap();
    scene.start_operator().await;
    is_ready(&scene).await;
    for seed in [1_000, 2_000] {
        scene.kill_operator();
        let digest = source.push("app", "v7", &Image::single(seed, 1, 100));
        let target = json!({"repository": "app", "tag": "v7", "digest": digest});
        let event = json!({"events": [{"action": "push", "target": target}]}).to_string();
        let (client, url) = (client_builder().build().unwrap(), scene.notify_url("source"));
        let notified = async {
            let request = || client.post(&url).bearer_auth(NOTIFY_TOKEN).body(event.clone()).send();
            while !request().await.is_ok_and(|answer| answer.status().as_u16() == 202) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::join!(scene.start_operator(), notified);
        eventually(SOON, "the tag is copied", async || {
            destination.digest("app", "v7").as_deref() == Some(digest.as_str())
        })
        .await;
    }
}
