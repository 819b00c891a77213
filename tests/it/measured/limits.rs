//! The limits of a Registry hold for all that uses it: within a tenth of the limit, also where four workers share it.
//!
//! `TRANSSHIP_MEASURE_SECONDS=60` measures for a minute; a few seconds show the same.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::stories::execution::with_jobs;
use crate::stories::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::ChildProcess;
use crate::support::run_folder::new_folder;
use crate::support::scripted::ScriptedRegistry;
use crate::support::turns::in_three_tries;
use crate::tag_filters::{files, registry};

const SOON: Duration = Duration::from_secs(120);
const REQUESTS_PER_SECOND: u32 = 40;
const BYTES_PER_SECOND: u64 = 1 << 20;
const LAYER: usize = 64 << 10;

/// Returns the duration of a measurement.
fn period() -> Duration {
    let seconds = std::env::var("TRANSSHIP_MEASURE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Returns the growth of `count` per second, from the moment at which `has_begun`.
async fn rate_of(count: impl Fn() -> u64, has_begun: impl Fn() -> bool) -> f64 {
    eventually(SOON, "the work has begun", async || has_begun()).await;
    let (before, began) = (count(), Instant::now());
    tokio::time::sleep(period()).await;
    let (after, took) = (count(), began.elapsed());
    (after - before) as f64 / took.as_secs_f64()
}

fn is_within_a_tenth(rate: f64, limit: f64) {
    println!("{rate:.1} a second at a limit of {limit}");
    assert!((0.9 * limit..=1.1 * limit).contains(&rate), "{rate} a second at a limit of {limit}");
}

fn requests(source: &ScriptedRegistry) -> u64 {
    source.log().len() as u64
}

fn bytes(source: &ScriptedRegistry) -> u64 {
    source.log().iter().map(|seen| seen.sent).sum()
}

/// Fills `source` with repositories `app-0` and so on, of as many images as a measurement takes.
fn fill(source: &ScriptedRegistry, repositories: u64, images: u64, layer: usize) {
    for seed in 0..repositories * images {
        source.push(&format!("app-{}", seed % repositories), &format!("v{seed}"), &Image::single(seed, 1, layer));
    }
}

/// Returns the images of which each takes `cost` of `rate`, for a measurement and the time before and after it.
fn enough(rate: f64, cost: f64) -> u64 {
    (rate * (period().as_secs_f64() + 10.0) / cost) as u64
}

/// Runs a sync from a source with `limits`, and returns the rate of what `count` counts there.
async fn rate_of_a_sync(
    name: &str,
    limits: Value,
    layer: usize,
    images: u64,
    count: fn(&ScriptedRegistry) -> u64,
) -> f64 {
    let (source, destination) = (registry(), registry());
    fill(&source, 1, images, layer);
    let mut files = files(name, &source, &[&destination]);
    crate::tag_filters::rule(&mut files)["repositoryFilters"] =
        json!([{"filter": "app-0", "filterType": "EXACT_MATCH"}]);
    let from = files.documents.iter_mut().find(|document| document["metadata"]["name"] == "source").unwrap();
    from["spec"]["limits"] = limits;
    let mut sync = files.command("sync", &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let rate = rate_of(|| count(&source), || destination.count("PUT", "/manifests/") > 2).await;
    assert!(sync.try_wait().unwrap().is_none(), "there was work for all of the time");
    rate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_keeps_to_the_requests_a_second_of_its_source() {
    in_three_tries(async || {
        let limits = json!({"requestsPerSecond": REQUESTS_PER_SECOND});
        let rate = f64::from(REQUESTS_PER_SECOND);
        is_within_a_tenth(rate_of_a_sync("rate", limits, 500, enough(rate, 3.0), requests).await, rate);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_keeps_to_the_bandwidth_of_its_source() {
    in_three_tries(async || {
        let limits = json!({"bandwidth": BYTES_PER_SECOND});
        let (rate, cost) = (BYTES_PER_SECOND as f64, LAYER as f64);
        is_within_a_tenth(rate_of_a_sync("bandwidth", limits, LAYER, enough(rate, cost), bytes).await, rate);
    })
    .await;
}

/// An operator whose Jobs copy from one source to four destinations, and the workers of these Jobs, run as processes
/// here: this control plane has no nodes.
struct FourWorkers {
    scene: Scene,
    source: ScriptedRegistry,
    destinations: Vec<ScriptedRegistry>,
    _workers: Vec<ChildProcess>,
}

impl FourWorkers {
    async fn start(story: &str, limits: Value, images: u64, layer: usize) -> Self {
        let source = registry();
        fill(&source, 4, images, layer);
        let destinations: Vec<_> = (0..4).map(|_| registry()).collect();
        let mut scene = Scene::new(story).await;
        scene.allow(&source.host());
        let namespace = scene.namespace.name.clone();
        let spec = json!({"url": source.url(), "allowHTTP": true, "limits": limits});
        scene.registry_object(&namespace, "source", spec).await;
        for (number, destination) in destinations.iter().enumerate() {
            scene.open_registry(&format!("d{number}"), destination).await;
        }
        let (system, _channel) = with_jobs(&mut scene, story).await;
        scene.start_operator().await;
        for number in 0..4 {
            let filter = json!([{"filter": format!("app-{number}"), "filterType": "EXACT_MATCH"}]);
            let destination = [to(&format!("d{number}"))];
            scene.configure(&format!("c{number}"), "source", &destination, Some(filter), "24h").await;
            let execution = json!({"spec": {"execution": {"mode": "Job", "class": "default"}}});
            let patch = kube::api::Patch::Merge(execution);
            scene.configurations().patch(&format!("c{number}"), &Default::default(), &patch).await.unwrap();
        }
        let workers = run_workers(&scene, &system, 4).await;
        Self { scene, source, destinations, _workers: workers }
    }

    async fn rate(&self, count: fn(&ScriptedRegistry) -> u64) -> f64 {
        let has_begun = || self.destinations.iter().all(|to| to.count("PUT", "/manifests/") > 2);
        rate_of(|| count(&self.source), has_begun).await
    }
}

/// Waits for so many Jobs in the namespace `system`, and runs the worker of each with its Secret and environment.
pub async fn run_workers(scene: &Scene, system: &str, jobs: usize) -> Vec<ChildProcess> {
    let found = eventually(SOON, "the Jobs are there", async || {
        let found = scene.api::<Job>(system).list(&ListParams::default()).await.unwrap().items;
        let is_running = |job: &&Job| job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(false));
        let running = found.iter().filter(is_running).count();
        if running == jobs { Ok(found) } else { Err(running) }
    })
    .await;
    let mut workers = Vec::new();
    for job in found {
        workers.push(run_worker(scene, system, job).await);
    }
    workers
}

/// Runs the worker of a Job with its Secret and environment.
pub async fn run_worker(scene: &Scene, system: &str, job: Job) -> ChildProcess {
    let name = job.name_any();
    let secret = scene.api::<Secret>(system).get(&name).await.unwrap();
    let folder = new_folder(&name);
    for (file, content) in secret.data.unwrap() {
        std::fs::write(folder.join(file), content.0).unwrap();
    }
    let pod = job.spec.unwrap().template.spec.unwrap();
    let environment: BTreeMap<String, String> = pod.containers[0]
        .env
        .iter()
        .flatten()
        .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
    command.args(["worker", "--channel"]).arg(&folder).envs(environment);
    ChildProcess::start(&name, command, &folder.join("log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_keep_to_the_requests_a_second_of_one_registry() {
    in_three_tries(async || {
        let limits = json!({"requestsPerSecond": REQUESTS_PER_SECOND, "concurrency": 16});
        let rate = f64::from(REQUESTS_PER_SECOND);
        let four = FourWorkers::start("four-rate", limits, enough(rate, 12.0), 500).await;
        is_within_a_tenth(four.rate(requests).await, rate);
        assert!(four.scene.images().await.len() > 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_keep_to_the_bandwidth_of_one_registry() {
    in_three_tries(async || {
        let limits = json!({"bandwidth": BYTES_PER_SECOND, "concurrency": 16});
        let (rate, cost) = (BYTES_PER_SECOND as f64, 4.0 * LAYER as f64);
        let four = FourWorkers::start("four-bandwidth", limits, enough(rate, cost), LAYER).await;
        is_within_a_tenth(four.rate(bytes).await, rate);
    })
    .await;
}
