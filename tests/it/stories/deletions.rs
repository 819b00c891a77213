//! Images that leave the source: what an operator deletes, what it holds, and what people see of that.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use transship::api::{RegistryPermissionPolicy, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::execution::with_jobs;
use super::hints::notified;
use super::platforms::change_rule;
use super::scene::{PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

/// Two intervals of ten seconds, on a busy machine.
const LATER: Duration = Duration::from_secs(120);

/// Returns an operator that has replicated four tags to a real registry, and deletes at most one there.
async fn deleting(story: &str, prepare: impl AsyncFnOnce(&mut Scene)) -> (Scene, ScriptedRegistry, TestRegistry) {
    let source = registry();
    (0..4).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
    let destination = TestRegistry::distribution(&format!("{story}-to")).user("writer", PASSWORD).start().await;
    let mut scene = Scene::new(story).await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("source", &source).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "10s").await;
    change_rule(&scene, json!({"deleteReplication": {"enabled": true, "maxPercent": 0, "minAllowed": 1}})).await;
    prepare(&mut scene).await;
    scene.start_operator().await;
    for tag in ["v0", "v1", "v2", "v3"] {
        scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, LATER).await;
    }
    (scene, source, destination)
}

/// Has the owner of the destination allow deletions.
async fn allow_deletions(scene: &Scene) {
    let namespace = &scene.namespace.name;
    let statement = json!({"sid": "delete", "effect": "Allow", "principals": [{"namespace": namespace}],
        "actions": ["DeleteImage"], "resources": ["*"]});
    let policy = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy",
        "metadata": {"name": "deletes"},
        "spec": {"registryRef": {"name": "destination"}, "statements": [statement]}});
    let policies = scene.api::<RegistryPermissionPolicy>(namespace);
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
}

async fn patch(scene: &Scene, change: Value) {
    scene.configurations().patch("app", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

async fn held(scene: &Scene, reason: &str) -> String {
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, "app", "DeletionsHeld", "True", reason, LATER).await
}

/// Waits until the destination and the statuses have these tags, and no others.
async fn left(scene: &Scene, destination: &TestRegistry, tags: &[&str]) {
    eventually(LATER, &format!("{tags:?} are left"), async || {
        let there = destination.pusher().tags("app").await;
        let shown: Vec<String> = scene.images().await.into_keys().collect();
        let is_left = there.iter().eq(tags.iter()) && shown.len() == tags.len();
        if is_left { Ok(()) } else { Err(format!("{there:?} {shown:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_holds_deletions_until_they_are_allowed_and_approved() {
    let (scene, source, destination) = deleting("held", async |_| ()).await;
    for tag in ["v2", "v3"] {
        source.pusher().delete_manifest("app", tag).await;
    }
    let message = held(&scene, "DeletionNotPermitted").await;
    assert!(message.contains("no statement allows DeleteImage"), "{message}");
    allow_deletions(&scene).await;
    let message = held(&scene, "DeletionLimit").await;
    assert!(message.starts_with("2 deletions") && message.contains("destination/app:v2"), "{message}");
    eventually(LATER, "an Event says so", async || {
        let events = scene.api::<Event>(&scene.namespace.name).list(&ListParams::default()).await.unwrap();
        let found = events.iter().find(|event| event.reason.as_deref() == Some("DeletionLimit"));
        let about = found.map(|event| (event.involved_object.name.clone(), event.type_.clone()));
        let expected = (Some("app".to_owned()), Some("Warning".to_owned()));
        if about.as_ref() == Some(&expected) { Ok(()) } else { Err(format!("{about:?}")) }
    })
    .await;
    assert_eq!(destination.pusher().tags("app").await.len(), 4, "two are more than one");
    let hash = message.split("approve-deletions: ").nth(1).unwrap().split(' ').next().unwrap();
    patch(&scene, json!({"metadata": {"annotations": {"transship.dev/approve-deletions": hash}}})).await;
    left(&scene, &destination, &["v0", "v1"]).await;
    eventually(LATER, "nothing is held any more", async || {
        let status = scene.configurations().get("app").await.unwrap().status.unwrap_or_default();
        status.conditions.iter().all(|condition| condition.type_ != "DeletionsHeld")
    })
    .await;
    let counted: u64 = scene
        .statuses()
        .await
        .into_iter()
        .filter_map(|status| status.status)
        .fold(0, |sum, status| sum + status.recent_deletions.iter().map(|recent| recent.count).sum::<u64>());
    assert_eq!(counted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_deletes_also_where_jobs_copy_and_counts_over_a_restart() {
    let (mut scene, source, destination) = deleting("by-jobs", async |scene| {
        // No pod ever runs here: what is deleted is deleted by the operator.
        let _port = Box::leak(Box::new(with_jobs(scene, "by-jobs").await));
        patch(scene, json!({"spec": {"execution": {"mode": "InProcess"}}})).await;
        allow_deletions(scene).await;
    })
    .await;
    patch(&scene, json!({"spec": {"execution": {"mode": "Job"}}})).await;
    source.pusher().delete_manifest("app", "v3").await;
    left(&scene, &destination, &["v0", "v1", "v2"]).await;
    scene.kill_operator();
    scene.start_operator().await;
    source.pusher().delete_manifest("app", "v2").await;
    let message = held(&scene, "DeletionLimit").await;
    assert!(message.starts_with("1 deletions"), "{message}");
    assert_eq!(destination.pusher().tags("app").await.len(), 3, "the day has had its deletion");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_a_repository_of_which_a_deletion_is_notified() {
    let (scene, source, destination) = notified("notified-deletion").await;
    change_rule(&scene, json!({"deleteReplication": {"enabled": true}})).await;
    allow_deletions(&scene).await;
    for seed in 1..4 {
        source.pusher().push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000)).await;
        scene.image_becomes(&format!("destination/app:v{seed}"), ReplicationState::Complete, LATER).await;
    }
    let lists = || source.access_log().iter().filter(|access| access.path.contains("/app/tags/list")).count();
    let before = lists();
    assert_eq!(source.pusher().delete_manifest("app", "v2").await, 202);
    eventually(LATER, "the repository is listed, long before the interval of a day", async || lists() > before).await;
    assert_eq!(destination.pusher().tags("app").await.len(), 3, "one list proves nothing");
    assert_eq!(scene.images().await.len(), 3);
}
