//! Observations that come late or prove nothing: tags, statuses and conditions stay what they are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::scene::{Scene, to};
use crate::support::eventually::{eventually, throughout};
use crate::support::image::{Blob, Image};
use crate::support::registry::TestRegistry;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::registry;

pub(super) const SOON: Duration = Duration::from_secs(30);
const CONFIGURATION: &str = "all";

/// Returns a scene whose source and destination are scripted registries without logins; its configuration `all` copies
/// what `filters` take.
pub async fn between(
    story: &str,
    source: &ScriptedRegistry,
    destination: &ScriptedRegistry,
    filters: Option<Value>,
) -> Scene {
    let mut scene = Scene::new(story).await;
    scene.open_registry("source", source).await;
    scene.open_registry("destination", destination).await;
    scene.take_notifications("source").await;
    scene.configure(CONFIGURATION, "source", &[to("destination")], filters, "24h").await;
    scene
}

/// Waits until the configuration `all` is Ready.
pub(super) async fn is_ready(scene: &Scene) {
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, CONFIGURATION, "Ready", "True", "Replicated", SOON).await;
}

/// Returns the uids of all statuses.
async fn uids(scene: &Scene) -> BTreeSet<String> {
    scene.statuses().await.iter().filter_map(ResourceExt::uid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_of_a_comparison_does_not_undo_a_newer_push() {
    let (source, destination) = (registry(), registry());
    let old = source.push("app", "latest", &Image::single(1, 1, 1_000));
    let mut scene = between("late-answer", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    let late = Duration::from_secs(4);
    source.fault(When::asked("HEAD", "/manifests/latest"), ScriptedFault::AnswerLate(late));
    let looks = source.count("HEAD", "/manifests/latest");
    scene.request_comparison(CONFIGURATION, "late").await;
    eventually(SOON, "the comparison looks at the tag", async || source.count("HEAD", "/manifests/latest") > looks)
        .await;
    let asked = Instant::now();
    let new = source.push("app", "latest", &Image::single(2, 1, 1_000));
    scene.notify("source", "app", "latest", &new).await;
    eventually(late, "the push is copied", async || destination.tags("app")["latest"] == new).await;
    assert!(asked.elapsed() < late, "the answer was not late enough");
    scene.compared(CONFIGURATION, "late").await;
    throughout(Duration::from_secs(2), "nothing goes back", async || destination.tags("app")["latest"] == new).await;
    assert_eq!(destination.moves("app")["latest"], [old, new.clone()]);
    let image = &scene.images().await["destination/app:latest"];
    assert_eq!((&image.digest, image.status), (&new, ReplicationState::Complete));
    is_ready(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_is_invalid_for_a_moment_costs_no_status_and_no_image() {
    const PAIRS: u64 = 60;
    let (source, destination) = (registry(), registry());
    for seed in 0..PAIRS {
        source.push(&format!("app-{seed}"), "v1", &Image::single(10 * seed, 1, 100));
    }
    let mut scene = between("typo", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    eventually(SOON, "all statuses are there", async || scene.images().await.len() as u64 == PAIRS).await;
    let (before, position) = (uids(&scene).await, scene.plane.audit_position());
    for invalid_for in [Duration::from_millis(200), Duration::from_millis(1_500)] {
        let began = Instant::now();
        filter_tags(&scene, "v[").await;
        if invalid_for > Duration::from_secs(1) {
            let namespace = &scene.namespace.name;
            scene
                .condition::<ReplicationConfiguration>(
                    namespace,
                    CONFIGURATION,
                    "Stalled",
                    "True",
                    "InvalidSpec",
                    invalid_for,
                )
                .await;
        }
        tokio::time::sleep(invalid_for.saturating_sub(began.elapsed())).await;
        filter_tags(&scene, "v.*").await;
        scene.compared_again(CONFIGURATION, &format!("{invalid_for:?}")).await;
        is_ready(&scene).await;
        assert_eq!(uids(&scene).await, before, "the same objects");
        let images = scene.images().await;
        let complete = images.values().filter(|image| image.status == ReplicationState::Complete).count() as u64;
        assert_eq!((complete, images.len() as u64), (PAIRS, PAIRS));
    }
    let written: Vec<_> = scene.writes(Some(position)).into_iter().filter(is_about_statuses).collect();
    assert!(written.is_empty(), "{written:?}");
}

fn is_about_statuses(event: &crate::support::control_plane::AuditEvent) -> bool {
    event.object_ref.resource == "replicationstatuses"
}

/// Has the configuration take only tags that match a regular expression.
async fn filter_tags(scene: &Scene, filter: &str) {
    let filters = json!([{"filter": filter, "filterType": "REGEX_MATCH"}]);
    let rule = json!({"name": "all", "destinations": [to("destination")], "tagFilters": filters});
    let spec = Patch::Merge(json!({"spec": {"rules": [rule]}}));
    scene.configurations().patch(CONFIGURATION, &PatchParams::default(), &spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_catalog_that_is_empty_deletes_no_status() {
    const PAIRS: u64 = 20;
    let (source, destination) = (registry(), registry());
    for seed in 0..PAIRS {
        source.push(&format!("app-{seed}"), "v1", &Image::single(10 * seed, 1, 100));
    }
    let mut scene = between("empty-catalog", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    eventually(SOON, "all statuses are there", async || scene.images().await.len() as u64 == PAIRS).await;
    let counted = async || {
        let summary = scene.configurations().get(CONFIGURATION).await.unwrap().status.unwrap_or_default().summary;
        summary.map(|summary| (summary.repositories, summary.complete))
    };
    eventually(SOON, "all are counted", async || counted().await == Some((PAIRS, PAIRS))).await;
    let (before, position) = (uids(&scene).await, scene.plane.audit_position());
    let empty = ScriptedFault::Answer {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: r#"{"repositories":[]}"#.into(),
    };
    source.fault(When::asked("GET", "/v2/_catalog"), empty);
    for token in ["empty", "whole"] {
        scene.compared_again(CONFIGURATION, token).await;
        throughout(Duration::from_secs(1), "the counts stay", async || match counted().await {
            Some((PAIRS, PAIRS)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(uids(&scene).await, before, "the same objects");
        is_ready(&scene).await;
    }
    let written: Vec<_> = scene.writes(Some(position)).into_iter().filter(is_about_statuses).collect();
    assert!(written.is_empty(), "{written:?}");
    let blobs = destination.count("HEAD", "/blobs/");
    assert_eq!(blobs, destination.count("PUT", "/blobs/uploads/"), "nothing was read back twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_has_only_a_layer_yet_stalls_nothing() {
    let source = TestRegistry::docker_2_8("layer-source").start().await;
    let destination = registry();
    source.pusher().push("team/app", "v1", &Image::single(1, 1, 1_000)).await;
    let mut scene = Scene::new("only-a-layer").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, None).await;
    scene.open_registry("destination", &destination).await;
    let filters = json!([{"filter": "team/", "filterType": "PREFIX_MATCH"}]);
    scene.configure(CONFIGURATION, "source", &[to("destination")], Some(filters), "24h").await;
    scene.start_operator().await;
    is_ready(&scene).await;
    source.pusher().push_blob("team/new", &Blob::layer(5, 1_000)).await;
    let lists = |path: &str| source.access_log().iter().filter(|access| access.path.contains(path)).count();
    scene.compared_again(CONFIGURATION, "layer").await;
    assert_eq!(lists("/v2/team/new/tags/list"), 1, "the catalog lists the repository");
    let compared = lists("/v2/_catalog");
    // A comparison that was not complete would be made again after 15 s.
    throughout(Duration::from_secs(17), "the configuration is Ready and not compared again", async || {
        is_ready(&scene).await;
        if lists("/v2/_catalog") == compared { Ok(()) } else { Err("it is compared again") }
    })
    .await;
    source.pusher().push("team/new", "v1", &Image::single(2, 1, 1_000)).await;
    scene.compared_again(CONFIGURATION, "tag").await;
    scene.image_becomes("destination/team/new:v1", ReplicationState::Complete, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_failed_image_never_makes_the_configuration_ready() {
    let (source, destination) = (registry(), registry());
    source.push("app", "good", &Image::single(1, 1, 1_000));
    source.push("app", "bad", &Image::single(10, 1, 1_000));
    destination.fault(When::asked("PUT", "/manifests/bad").always(), ScriptedFault::error(403, "DENIED"));
    let mut scene = between("retries", &source, &destination, None).await;
    scene.start_operator().await;
    let (began, mut seen, mut requests) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(10) {
        let status = scene.configurations().get(CONFIGURATION).await.unwrap().status.unwrap_or_default();
        for condition in status.conditions.iter().filter(|condition| condition.type_ == "Ready") {
            assert_ne!(condition.status, "True", "after {seen:?}: {condition:?}");
            if seen.last() != Some(&condition.reason) {
                seen.push(condition.reason.clone());
            }
        }
        if began.elapsed() > requests * Duration::from_millis(500) {
            requests += 1;
            scene.request_comparison(CONFIGURATION, &format!("retry-{requests}")).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = destination.count("PUT", "/manifests/bad");
    println!("{refused} attempts; reasons of Ready=False: {seen:?}");
    assert!(refused >= 5, "it was tried {refused} times");
    destination.clear_faults();
    scene.compared_again(CONFIGURATION, "recovered").await;
    is_ready(&scene).await;
}
