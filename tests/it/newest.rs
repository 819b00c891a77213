//! The newest tags without a cluster: what is copied, what a plan says, and what is deleted at the destination.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use transship::terms::{Newest, NewestBy, ReplicationState};

use crate::deletions::{self, INTERVAL, names, tags_after};
use crate::measured::limits::run_workers;
use crate::standalone::text;
use crate::stories::core::between;
use crate::stories::execution::with_jobs;
use crate::stories::scene::{PASSWORD, Scene};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::{files, registry, rule, sync};

fn tags(registry: &ScriptedRegistry) -> Vec<String> {
    registry.tags("app").into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_versions_are_asked_for_and_a_plan_says_why() {
    let (source, destination) = (registry(), registry());
    for (seed, tag) in (0..).zip(["v1.9.0", "v1.10.0", "v1.11.0-rc.1", "v1.2.0", "latest", "v1.11.0-debug"]) {
        source.push("app", tag, &Image::single(seed, 1, 1_000));
    }
    let mut files = files("newest", &source, &[&destination]);
    rule(&mut files)["excludeTagFilters"] = json!([{"filter": "*-debug", "filterType": "GLOB_MATCH"}]);
    rule(&mut files)["newest"] = json!({"count": 2, "by": "Semver"});
    let planned = text(&files.run("plan", &[]).await);
    assert!(planned.contains("4 tags of source/app are left out, such as "), "{planned}");
    for why in ["v1.9.0 (rule all: not one of the newest 2 by Semver)", "excludeTagFilters has GLOB_MATCH *-debug"] {
        assert!(planned.contains(why), "{why}: {planned}");
    }
    sync(&files, 0).await;
    assert_eq!(tags(&destination), ["v1.10.0", "v1.11.0-rc.1"]);
    assert_eq!(source.count("HEAD", "/manifests/v1.9.0") + source.count("GET", "/manifests/v1.9.0"), 0);
    source.push("app", "v1.11.0", &Image::single(9, 1, 1_000));
    sync(&files, 0).await;
    assert_eq!(tags(&destination), ["v1.10.0", "v1.11.0", "v1.11.0-rc.1"], "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_by_date_are_copied_and_tags_without_one_are_named() {
    let (source, destination) = (registry(), registry());
    let image = |seed: u64, date: &str| Image::single(seed, 1, 1_000).created_at(date);
    let dated = [
        ("z-old", image(1, "2023-01-01T00:00:00Z")),
        ("middle", image(2, "2024-05-01T00:00:00Z")),
        ("a-new", Image::index(vec![image(3, "2024-06-01T00:00:00+02:00")])),
        ("undated", Image::single(4, 1, 1_000)),
        ("chart", Image::artifact(5, "application/vnd.example.chart", 100, None)),
    ];
    for (tag, image) in &dated {
        source.push("app", tag, image);
    }
    let lost = Image::single(6, 1, 1_000).created_at("2025-01-01T00:00:00Z");
    source.push("app", "lost", &lost);
    source.lose_blob("app", &lost.blobs[0].digest);
    let mut files = files("newest-dates", &source, &[&destination]);
    rule(&mut files)["newest"] = json!({"count": 2, "by": "Created"});
    let planned = text(&files.run("plan", &[]).await);
    for words in [
        "3 tags of source/app are left out",
        "not one of the newest 2 by Created",
        "2 tags of app state no date, such as chart: they sort last for newest by Created",
        "the dates of 1 tags of app cannot be read, such as that of lost",
    ] {
        assert!(planned.contains(words), "{words}: {planned}");
    }
    sync(&files, 0).await;
    assert_eq!(tags(&destination), ["a-new", "middle"]);
    // With room for all of them tags without a date are copied, too.
    rule(&mut files)["newest"]["count"] = json!(9);
    sync(&files, 0).await;
    assert_eq!(tags(&destination), ["a-new", "chart", "middle", "undated", "z-old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_falls_out_is_deleted_and_an_edit_deletes_none() {
    let source = registry();
    let destination = TestRegistry::distribution("newest-to").user("writer", PASSWORD).start().await;
    for version in 0..6 {
        source.push("app", &format!("v1.{version}.0"), &Image::single(version, 1, 1_000));
    }
    let mut files = deletions::files("newest-deletes", &source, &destination, 5);
    rule(&mut files)["newest"] = json!({"count": 5, "by": "Semver"});
    deletions::sync(&files, &["--delete"]).await;
    let all = ["v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0"];
    assert_eq!(destination.pusher().tags("app").await, names(&all));
    // Fewer by an edit: nothing is deleted, however often it is compared.
    rule(&mut files)["newest"]["count"] = json!(4);
    assert_eq!(tags_after(&files, &destination).await, names(&all));
    tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(tags_after(&files, &destination).await, names(&all));
    // A newer one pushes out the oldest of the four, which the source still has.
    source.push("app", "v1.6.0", &Image::single(6, 1, 1_000));
    deletions::sync(&files, &["--delete"]).await;
    tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
    let planned = text(&files.run("plan", &["--state", &files.state(), "--delete"]).await);
    assert!(planned.contains("newer tags took its place in two lists of the source"), "{planned}");
    let left = tags_after(&files, &destination).await;
    assert_eq!(left, names(&["v1.1.0", "v1.3.0", "v1.4.0", "v1.5.0", "v1.6.0"]));
    assert!(source.tags("app").contains_key("v1.2.0"));
}

async fn take_newest(scene: &Scene, count: u32) {
    let configurations = scene.configurations();
    let mut object = configurations.get("all").await.unwrap();
    object.spec.rules[0].newest = Some(Newest { count, by: NewestBy::Semver });
    // The operator may write its status meanwhile: a patch does not mind.
    let patch = Patch::Merge(json!({"spec": {"rules": object.spec.rules}}));
    configurations.patch("all", &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the statuses have just these tags of `app`, all complete.
async fn statuses_have(scene: &Scene, tags: &[&str]) {
    eventually(SOON, &format!("the statuses have {tags:?}"), async || {
        let images = scene.images().await;
        let is_complete = images.values().all(|image| image.status == ReplicationState::Complete);
        let found: Vec<&str> = images.keys().filter_map(|name| name.strip_prefix("destination/app:")).collect();
        if found == tags && is_complete { Ok(()) } else { Err(format!("{images:?}")) }
    })
    .await;
}

/// An operator takes the newest two, then a newer one that is pushed, and then fewer by an edit.
async fn an_operator_follows(story: &str, mode: &str) {
    let (source, destination) = (registry(), registry());
    for minor in 0..4 {
        source.push("app", &format!("v1.{minor}.0"), &Image::single(minor, 1, 1_000));
    }
    let mut scene = between(story, &source, &destination, None).await;
    take_newest(&scene, 2).await;
    let patch = Patch::Merge(json!({"spec": {"execution": {"mode": mode, "class": "default"}}}));
    scene.configurations().patch("all", &PatchParams::default(), &patch).await.unwrap();
    let (system, _channel) = with_jobs(&mut scene, story).await;
    scene.start_operator().await;
    let _workers = if mode == "Job" { Some(run_workers(&scene, &system, 1).await) } else { None };
    statuses_have(&scene, &["v1.2.0", "v1.3.0"]).await;
    let digest = source.push("app", "v1.4.0", &Image::single(4, 1, 1_000));
    scene.notify("source", "app", "v1.4.0", &digest).await;
    statuses_have(&scene, &["v1.2.0", "v1.3.0", "v1.4.0"]).await;
    take_newest(&scene, 1).await;
    statuses_have(&scene, &["v1.4.0"]).await;
    assert_eq!(tags(&destination), ["v1.2.0", "v1.3.0", "v1.4.0"], "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_takes_the_newest_and_an_edit_takes_effect() {
    an_operator_follows("newest-in-process", "InProcess").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_copy_the_newest_and_an_edit_takes_effect() {
    an_operator_follows("newest-jobs", "Job").await;
}

const SOON: Duration = Duration::from_secs(120);
