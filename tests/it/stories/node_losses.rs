//! Pods that Kubernetes takes away: for memory that they do not have, and for a node that is to be emptied.

use std::time::{Duration, Instant};

use serde_json::json;
use transship::terms::{FailureCode, ReplicationState};

use super::node::{LONG, SLOW, names, story};
use crate::support::image::Image;
use crate::support::proxy::LineFault;
use crate::support::run_folder::new_folder;

/// The manifests of one image, 3.5 MB each: a copy holds them all, and they are more than the memory of the class.
const MANIFESTS: u64 = 8;
const MANIFEST: usize = 3_500_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_memory_is_tried_thrice_and_shown_until_it_has_more() {
    let mut story = story("memory").await;
    let limit = |memory: &str| format!("execution.classes.default.resources.limits.memory={memory}");
    story.scene.operator.chart().values =
        vec![limit("20Mi"), "execution.classes.default.resources.requests.memory=8Mi".into()];
    let large = |number: u64| {
        let mut image = Image::single(900 + number, 1, 5_000);
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.bytes).unwrap();
        manifest["annotations"] = json!({"padding": "x".repeat(MANIFEST)});
        image.bytes = manifest.to_string().into_bytes();
        image
    };
    let image = Image::index((0..MANIFESTS).map(large).collect());
    story.source.pusher().push("app", "v0", &image).await;
    let began = Instant::now();
    story.scene.start_operator().await;
    let failed = story.scene.image_becomes("destination/app:v0", ReplicationState::Failed, LONG).await;
    println!("reported after {:?}: {:?}", began.elapsed(), failed.message);
    assert_eq!(failed.failure_code, Some(FailureCode::WorkerFailed));
    let message = failed.message.unwrap_or_default();
    assert!(message.contains("3 workers ended") && message.contains("OOMKilled"), "{message}");
    let is_job = |write: &crate::support::control_plane::AuditEvent| {
        write.verb == "create" && write.object_ref.resource == "jobs" && write.response_status.code == 201
    };
    let jobs = story.scene.writes(None).into_iter().filter(is_job).count();
    assert!((3..=6).contains(&jobs), "{jobs} Jobs until it was reported");

    let namespaces = story.scene.namespaces.clone();
    let chart = story.scene.operator.chart();
    chart.values = vec![limit("256Mi")];
    let resolved = Instant::now();
    chart.helm("upgrade", &namespaces).await.expect_success("helm upgrade");
    story.complete("app:v0").await;
    println!("with more memory: it is there after {:?}", resolved.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_evicted_is_replaced() {
    let mut story = story("evicted").await;
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("v1", 95).await;
    story.in_the_middle().await;
    let before = names(&story.workers().await);
    let namespace = story.scene.operator.chart().namespace.clone();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": before[0], "namespace": namespace}});
    let file = new_folder("eviction").join("eviction.json");
    std::fs::write(&file, eviction.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}/eviction", before[0]);
    let began = Instant::now();
    story.kubectl(&["create", "--raw", &path, "-f", &file.display().to_string()]).await;
    story.proxy.set(LineFault::None);
    story.complete("app:v1").await;
    println!("evicted: complete after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60));
    let after = names(&story.workers().await);
    assert!(after.iter().any(|pod| !before.contains(pod)), "another pod has copied it: {before:?}, {after:?}");
    let written = story.tag_writes().into_iter().filter(|access| access.status == 201).count();
    assert_eq!(written, 1, "the tag was written once");
}
