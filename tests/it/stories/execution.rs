//! Configurations that this operator cannot carry out, and Jobs that an earlier operator has left.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::{FailureCode, ReplicationState};

use super::core::between;
use super::scene::{PASSWORD, Scene, to};
use crate::bad_tags::{GOOD, add_bad, source};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Port;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;
use crate::support::scripted::ScriptedFault;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(30);

/// Returns a configuration that asks for `execution`; its operator does not run yet.
async fn asking_for(story: &str, execution: Value) -> (Scene, [TestRegistry; 2]) {
    let source = TestRegistry::distribution(&format!("{story}-source")).start().await;
    let destination = TestRegistry::distribution(&format!("{story}-to")).user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(61, 2, 5_000)).await;
    let mut scene = Scene::new(story).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, None).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "10s").await;
    ask_for(&scene, execution).await;
    (scene, [source, destination])
}

/// Has the configuration executed in another way.
pub async fn ask_for(scene: &Scene, execution: Value) {
    let patch = Patch::Merge(json!({"spec": {"execution": execution}}));
    scene.configurations().patch("all", &PatchParams::default(), &patch).await.unwrap();
}

/// The condition says why the configuration stands still; it goes on as soon as it asks for something else.
async fn is_reported_and_resolved(scene: &Scene, reason: &str, words: &str) {
    let namespace = &scene.namespace.name;
    let message = scene.condition::<ReplicationConfiguration>(namespace, "all", "Stalled", "True", reason, SOON).await;
    assert!(message.contains(words), "{message}");
    assert!(scene.images().await.is_empty(), "nothing begins");
    ask_for(scene, json!({"mode": "InProcess", "class": "default"})).await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
}

/// Returns an operator that can start Jobs in a namespace of its own.
pub async fn with_jobs(scene: &mut Scene, story: &str) -> (String, Port) {
    let (system, channel) = (scene.plane.namespace(&format!("{story}-system")).await.name, Port::claim());
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    scene.api::<ServiceAccount>(&system).create(&PostParams::default(), &account).await.unwrap();
    let address = format!("127.0.0.1:{}", channel.number());
    let url = format!("https://{address}");
    let more = ["--namespace", &system, "--worker-image", "none", "--channel-url", &url, "--channel-address", &address];
    scene.operator.process().arguments.extend(more.map(str::to_owned));
    (system, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_asked_for_of_an_operator_that_can_start_none() {
    let (mut scene, _registries) = asking_for("no-jobs", json!({"mode": "Job"})).await;
    scene.start_operator().await;
    is_reported_and_resolved(&scene, "JobsUnavailable", "--worker-image").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_others_and_one_that_does_not_exist_read_the_same() {
    let (mut scene, _registries) = asking_for("class", json!({"mode": "Job", "class": "large"})).await;
    let _channel = with_jobs(&mut scene, "class").await;
    let classes = new_folder("classes").join("classes.yaml");
    std::fs::write(&classes, "large: {copies: 16, namespaces: [others]}").unwrap();
    let file = classes.display().to_string();
    scene.operator.process().arguments.extend(["--execution-classes".to_owned(), file]);
    scene.start_operator().await;
    let namespace = scene.namespace.name.clone();
    let reported = async |class: &str| {
        ask_for(&scene, json!({"class": class})).await;
        eventually(SOON, &format!("class {class} is refused"), async || {
            let message = scene
                .condition::<ReplicationConfiguration>(
                    &namespace,
                    "all",
                    "Stalled",
                    "True",
                    "ExecutionClassNotAllowed",
                    SOON,
                )
                .await;
            if message.contains(class) { Ok(message.replace(class, "CLASS")) } else { Err(message) }
        })
        .await
    };
    assert_eq!(reported("large").await, reported("none").await);
    is_reported_and_resolved(&scene, "ExecutionClassNotAllowed", "none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_jobs_are_deleted_at_the_start_and_a_silent_worker_soon_after() {
    let (mut scene, _registries) = asking_for("orphans", json!({"mode": "InProcess"})).await;
    let (system, _channel) = with_jobs(&mut scene, "orphans").await;
    let jobs = scene.api::<Job>(&system);
    for (name, ours, suspend) in [("half-made", true, true), ("silent", true, false), ("theirs", false, true)] {
        let mut labels = json!({"app.kubernetes.io/name": "transship", "app.kubernetes.io/component": "worker",
            "transship.dev/namespace": "n", "transship.dev/source-uid": "s", "transship.dev/destination-uid": "d",
            "transship.dev/class": "default"});
        if !ours {
            labels = json!({"app.kubernetes.io/name": "another"});
        }
        let job = json!({"metadata": {"name": name, "labels": labels, "annotations": {"transship.dev/token-sha256": "00"}},
            "spec": {"suspend": suspend, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "none"}]}}}});
        jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    }
    scene.start_operator().await;
    assert!(jobs.get_opt("half-made").await.unwrap().is_none(), "an operator that is ready has none that is half made");
    assert!(jobs.get_opt("silent").await.unwrap().is_some(), "a worker is given the time of its authority to call");
    eventually(SOON, "the silent worker's Job is gone", async || jobs.get_opt("silent").await.unwrap().is_none()).await;
    assert!(jobs.get_opt("theirs").await.unwrap().is_some(), "Jobs of others are left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_without_a_manifest_fails_alone_also_where_jobs_copy() {
    let (source, destination) = (source(), registry());
    add_bad(&source, "gone", ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
    let mut scene = between("bad-tags-job", &source, &destination, None).await;
    ask_for(&scene, json!({"mode": "Job", "class": "default"})).await;
    let _channel = with_jobs(&mut scene, "bad-tags-job").await;
    scene.start_operator().await;
    let failed = scene.image_becomes("destination/app:gone", ReplicationState::Failed, SOON).await;
    assert_eq!((failed.failure_code, failed.digest.as_str()), (Some(FailureCode::ImageNotFound), ""), "{failed:?}");
    for tag in GOOD {
        // No pod runs here: they wait for one.
        scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Pending, SOON).await;
    }
}
