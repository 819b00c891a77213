//! Copy Jobs at the API server, with their workers as processes beside the tests: no node is needed.

use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use transship::api::Registry;
use transship::terms::{ReplicationState, Side};

use super::consent::SlowLayer;
use super::core::between;
use super::execution::{ask_for, with_jobs};
use super::scene::Scene;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::ChildProcess;
use crate::support::run_folder::new_folder;
use crate::support::scripted::{ScriptedFault, When};
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);
/// Of the cluster's own, as the operator's Services are; nothing listens there.
const OWN_ADDRESS: &str = "10.96.0.27";

/// Waits for the only Job in the operator's namespace, and runs its worker as the pod would.
async fn work(scene: &Scene, system: &str) -> (String, ChildProcess) {
    let job = eventually(SOON, "there is a Job", async || {
        let jobs = scene.api::<Job>(system).list(&ListParams::default()).await.unwrap().items;
        jobs.into_iter().find(|job| job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(false)))
    })
    .await;
    let name = job.name_any();
    let secret = scene.api::<Secret>(system).get(&name).await.unwrap();
    let channel = new_folder("channel");
    for (key, value) in secret.data.unwrap_or_default() {
        std::fs::write(channel.join(key), value.0).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
    command.arg("worker").arg("--channel").arg(&channel);
    let container = job.spec.unwrap().template.spec.unwrap().containers.remove(0);
    command.envs(container.env.unwrap_or_default().into_iter().filter_map(|it| Some((it.name, it.value?))));
    let log = channel.join("worker.log");
    (name, ChildProcess::start("worker", command, &log))
}

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
        let _worker = work(&layer.scene, &system).await;
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
    let mut layer = SlowLayer::new("longer").await;
    let (system, _channel) = with_jobs(&mut layer.scene, "longer").await;
    // The layer takes longer than the minute after which it is known to get on.
    layer.begin("Job", Duration::from_millis(800)).await;
    let (job, _worker) = work(&layer.scene, &system).await;
    layer.moves().await;
    layer.scene.kill_operator();
    let jobs = layer.scene.api::<Job>(&system);
    let nearly_over = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 240}}));
    jobs.patch(&job, &PatchParams::default(), &nearly_over).await.unwrap();
    // The next operator takes the Job over with the time that it has left.
    layer.scene.start_operator().await;
    eventually(Duration::from_secs(150), "the Job lives longer", async || {
        let deadline = jobs.get(&job).await.unwrap().spec.unwrap().active_deadline_seconds;
        if deadline == Some(240 + 1_800) { Ok(()) } else { Err(format!("{deadline:?}")) }
    })
    .await;
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
    let (_job, worker) = work(&scene, &system).await;
    let failed = scene.image_becomes("destination/app:v1", ReplicationState::Failed, SOON).await;
    let message = failed.message.unwrap_or_default();
    assert!(message.contains("an address of the cluster"), "{message}; {}", worker.log_tail());
}
