//! Copy Jobs at the API server, with their workers as processes beside the tests: no node is needed.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use transship::api::Registry;
use transship::terms::{ReplicationState, Side};

use super::consent::SlowLayer;
use super::core::between;
use super::execution::{ask_for, with_jobs};
use crate::measured::limits::run_workers;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{ScriptedFault, When};
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);
/// Of the cluster's own, as the operator's Services are; nothing listens there.
const OWN_ADDRESS: &str = "10.96.0.27";

#[derive(Clone, Copy)]
enum Change {
    Deleted(Side),
    Replaced(Side),
    OtherSource,
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_jobs_stop_with_their_registries_and_their_source() {
    use Change::{Deleted, OtherSource, Replaced};
    let changes = [
        Deleted(Side::Source),
        Deleted(Side::Destination),
        Replaced(Side::Source),
        Replaced(Side::Destination),
        OtherSource,
    ];
    let stopped = changes.map(async |change| {
        let mut layer = SlowLayer::new("stopped-jobs").await;
        let (system, _channel) = with_jobs(&mut layer.scene, "stopped-jobs").await;
        layer.begin("Job", Duration::from_millis(200)).await;
        let _worker = run_workers(&layer.scene, &system, 1).await;
        layer.moves().await;
        match change {
            Deleted(side) => layer.is_stopped_by_the_end_of(side).await,
            Replaced(side) => layer.is_stopped_by_another(side).await,
            OtherSource => layer.is_stopped_by_another_source().await,
        }
    });
    join_all(stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_gets_on_is_given_more_time_at_the_api_server() {
    let mut layer = SlowLayer::of("longer", 24 << 20).await;
    let (system, _channel) = with_jobs(&mut layer.scene, "longer").await;
    // The layer takes longer than the minute after which it is known to get on.
    layer.begin("Job", Duration::from_millis(400)).await;
    let _worker = run_workers(&layer.scene, &system, 1).await;
    layer.moves().await;
    layer.scene.kill_operator();
    let jobs = layer.scene.api::<Job>(&system);
    let job = jobs.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let nearly_over = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 240}}));
    jobs.patch(&job, &PatchParams::default(), &nearly_over).await.unwrap();
    // The next operator takes the Job over with the time that it has left.
    layer.scene.start_operator().await;
    eventually(Duration::from_secs(150), "the Job lives longer", async || {
        let deadline = jobs.get(&job).await.unwrap().spec.unwrap().active_deadline_seconds;
        if deadline == Some(240 + 1_800) { Ok(()) } else { Err(format!("{deadline:?}")) }
    })
    .await;
    layer.lets_through();
    layer.scene.image_becomes("eu-west-1/app:v1", ReplicationState::Complete, Duration::from_secs(150)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_to_no_address_that_the_operator_refuses() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 5_000));
    let place = format!("http://{OWN_ADDRESS}:5000/blob");
    let redirect = ScriptedFault::Answer { status: 307, headers: vec![("location", place)], body: "".into() };
    source.fault(When::asked("GET", "/v2/app/blobs/").always(), redirect);
    let mut scene = between("refused-worker", &source, &destination, None).await;
    // It is refused neither for being private nor for want of trust.
    let place = format!("{OWN_ADDRESS}:5000");
    scene.allow(&place);
    let trusting = Patch::Merge(json!({"spec": {"trustedHosts": [place]}}));
    let registries = scene.api::<Registry>(&scene.namespace.name);
    registries.patch("source", &PatchParams::default(), &trusting).await.unwrap();
    ask_for(&scene, json!({"mode": "Job"})).await;
    let (system, _channel) = with_jobs(&mut scene, "refused-worker").await;
    let labels = json!({"app.kubernetes.io/name": "transship"});
    let service = json!({"metadata": {"name": "own", "labels": labels},
        "spec": {"clusterIP": OWN_ADDRESS, "ports": [{"port": 5000}]}});
    let services = scene.api::<Service>(&system);
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    scene.start_operator().await;
    let workers = run_workers(&scene, &system, 1).await;
    let failed = scene.image_becomes("destination/app:v1", ReplicationState::Failed, SOON).await;
    let message = failed.message.unwrap_or_default();
    assert!(message.contains("an address of the cluster"), "{message}; {}", workers[0].log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_with_its_image_over_a_restart_of_the_operator() {
    let mut layer = SlowLayer::of("kept-image", 8 << 20).await;
    let (system, _channel) = with_jobs(&mut layer.scene, "kept-image").await;
    layer.begin("Job", Duration::from_millis(300)).await;
    let _worker = run_workers(&layer.scene, &system, 1).await;
    layer.moves().await;
    layer.scene.kill_operator();
    layer.scene.start_operator().await;
    layer.lets_through();
    layer.scene.image_becomes("eu-west-1/app:v1", ReplicationState::Complete, Duration::from_secs(150)).await;
    assert_eq!(layer.read_again(), Vec::<String>::new(), "no layer begins anew");
}
