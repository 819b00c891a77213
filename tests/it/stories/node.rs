//! Stories of a real node: workers that are stopped, killed or cannot run, an operator that is away, and the life of a
//! release. These stories play inside of `tests/node/run.sh`.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use transship::terms::ReplicationState;

use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::{AccessLine, TestRegistry};

pub const SOON: Duration = Duration::from_secs(30);
pub const LONG: Duration = Duration::from_secs(120);
/// The size of a large layer, whose source is so slow that it takes about 30 s.
const LARGE: usize = 8 << 20;
pub const SLOW: LineFault = LineFault::Delay { to_upstream: Duration::ZERO, to_client: Duration::from_millis(60) };

/// A configuration whose source can be slowed down.
pub struct Story {
    pub scene: Scene,
    pub source: TestRegistry,
    pub proxy: FaultProxy,
    pub destination: TestRegistry,
    pub namespace: String,
}

pub async fn story(name: &str) -> Story {
    let mut scene = Scene::new(name).await;
    let bearer = format!("Bearer {NOTIFY_TOKEN}");
    let source = TestRegistry::distribution(&format!("{name}-source"));
    let source = source.notify(&scene.notify_url("source"), &[("Authorization", &bearer)]).start().await;
    let destination = TestRegistry::distribution(&format!("{name}-to")).user("writer", PASSWORD).start().await;
    let proxy = FaultProxy::start(source.address());
    let namespace = scene.namespace.name.clone();
    let spec = json!({"url": format!("http://{}", proxy.host()), "allowHTTP": true});
    scene.registry_object(&namespace, "source", spec).await;
    scene.take_notifications("source").await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "10s").await;
    Story { scene, source, proxy, destination, namespace }
}

impl Story {
    pub async fn push_large(&self, tag: &str, seed: u64) -> String {
        let image = Image::with_layers(seed, "linux/amd64", vec![Blob::layer(seed, LARGE)]);
        self.source.pusher().push("app", tag, &image).await
    }

    pub async fn push_small(&self, repository: &str, tag: &str, seed: u64) -> String {
        self.source.pusher().push(repository, tag, &Image::single(seed, 2, 5_000)).await
    }

    /// Waits until a worker is in the middle of the large layer.
    pub async fn in_the_middle(&self) {
        let before = self.proxy.bytes_to_client();
        eventually(SOON, "a worker is in the middle of a layer", async || {
            let read = self.proxy.bytes_to_client() - before;
            if read > LARGE as u64 / 16 { Ok(()) } else { Err(format!("{read} bytes")) }
        })
        .await;
    }

    pub async fn complete(&self, image: &str) {
        self.scene.image_becomes(&format!("destination/{image}"), ReplicationState::Complete, LONG).await;
    }

    pub fn tag_writes(&self) -> Vec<AccessLine> {
        let is_write = |access: &AccessLine| access.method == "PUT" && access.path.contains("/manifests/");
        self.destination.access_log().into_iter().filter(is_write).collect()
    }

    pub async fn kubectl(&mut self, arguments: &[&str]) -> String {
        let plane = self.scene.plane;
        let chart = self.scene.operator.chart();
        let mut all = vec!["-n", chart.namespace.as_str()];
        all.extend(arguments);
        plane.kubectl(&all).await.expect_success("kubectl")
    }

    /// Ends the lingering worker, so that the next push needs a new pod.
    pub async fn end_workers(&mut self) {
        self.kubectl(&["delete", "jobs", "-l", "app.kubernetes.io/component=worker"]).await;
        eventually(SOON, "the workers are gone", async || {
            let pods = self.workers().await;
            if pods.is_empty() { Ok(()) } else { Err(format!("{:?}", names(&pods))) }
        })
        .await;
    }

    pub async fn workers(&mut self) -> Vec<Value> {
        self.scene.operator.chart().pods("worker").await
    }
}

pub fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_stopped_while_another_wrote_a_newer_tag_writes_nothing() {
    let mut story = story("stopped").await;
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("latest", 1).await;
    story.in_the_middle().await;
    let stopped = story.scene.operator.chart().processes("worker");
    assert_eq!(stopped.len(), 1);
    kill_process(stopped[0], Signal::STOP).unwrap();
    let began = Instant::now();
    story.proxy.set(LineFault::None);
    let newer = story.push_large("latest", 2).await;
    let digest_there = async || story.destination.pusher().digest_of("app", "latest").await;
    eventually(LONG, "another worker has written the newer tag", async || {
        digest_there().await.as_ref() == Some(&newer)
    })
    .await;
    println!("another worker took over after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(60).saturating_sub(began.elapsed())).await;
    let before = story.destination.access_log();
    // Its pod was deleted meanwhile, and Kubernetes may have ended it: then it cannot write either.
    let _ = kill_process(stopped[0], Signal::CONT);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = story.destination.access_log().split_off(before.len());
    let writes: Vec<_> = after.iter().filter(|access| !matches!(access.method.as_str(), "GET" | "HEAD")).collect();
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(digest_there().await, Some(newer));
    story.complete("app:latest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_arrives_though_job_secret_pod_or_both_processes_go() {
    let mut story = story("losses").await;
    story.scene.start_operator().await;
    for (seed, loss) in ["process", "job", "secret", "pod", "both"].into_iter().enumerate() {
        story.proxy.set(SLOW);
        story.push_large(loss, 10 + seed as u64).await;
        story.in_the_middle().await;
        let mut pods = story.workers().await;
        pods.retain(|pod| pod["status"]["phase"] == "Running");
        let job =
            pods.last().unwrap()["metadata"]["labels"]["batch.kubernetes.io/job-name"].as_str().unwrap().to_owned();
        let began = Instant::now();
        match loss {
            "process" => assert!(story.scene.operator.chart().signal("worker", Signal::KILL) > 0),
            "pod" => drop(
                story.kubectl(&["delete", "pod", "--grace-period=0", "--force", names(&pods).last().unwrap()]).await,
            ),
            "both" => {
                story.scene.kill_operator();
                assert!(story.scene.operator.chart().signal("worker", Signal::KILL) > 0);
            }
            kind => drop(story.kubectl(&["delete", kind, &job]).await),
        }
        story.proxy.set(LineFault::None);
        story.complete(&format!("app:{loss}")).await;
        println!("{loss} lost: complete after {:?}", began.elapsed());
    }
    let writes = story.tag_writes();
    for tag in ["process", "job", "secret", "pod", "both"] {
        let count = writes.iter().filter(|access| access.path.ends_with(tag) && access.status == 201).count();
        assert_eq!(count, 1, "{tag} was written once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_outlives_the_operator_is_taken_up_and_not_doubled() {
    let mut story = story("outlived").await;
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("v1", 21).await;
    story.in_the_middle().await;
    let before = names(&story.workers().await);
    let read = story.proxy.bytes_to_client();
    story.scene.kill_operator();
    story.scene.start_operator().await;
    story.complete("app:v1").await;
    let after = names(&story.workers().await);
    assert_eq!(after, before, "the same worker finished it; {}", story.scene.operator_log().await);
    let again = story.proxy.bytes_to_client() - read;
    assert!(again < LARGE as u64, "the layer was read once: {again} bytes came after the kill");
}

/// Returns the time for which the operator is away: in seconds, `TRANSSHIP_AWAY` or 30.
fn away() -> Duration {
    let seconds = std::env::var("TRANSSHIP_AWAY").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_no_tag_is_written_and_with_one_all_arrive() {
    let mut story = story("away").await;
    story.scene.start_operator().await;
    story.push_small("app", "v0", 30).await;
    story.complete("app:v0").await;
    story.scene.end_operator().await;
    let written = story.tag_writes().len();
    let (began, mut tag) = (Instant::now(), 0);
    while began.elapsed() < away() {
        tag += 1;
        story.push_small("app", &format!("v{tag}"), 30 + tag).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(story.tag_writes().len(), written, "no tag is written without grants");
    let back = Instant::now();
    story.scene.start_operator().await;
    eventually(Duration::from_secs(20), "all have arrived", async || {
        let images = story.scene.images().await;
        let complete = images.values().filter(|image| image.status == ReplicationState::Complete).count() as u64;
        if complete == tag + 1 { Ok(()) } else { Err(format!("{complete} of {}", tag + 1)) }
    })
    .await;
    println!(
        "{tag} pushes while the operator was away for {:?}: all there {:?} after its return",
        away(),
        back.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_upgraded_under_jobs_and_uninstalled_without_user_loss() {
    let mut story = story("release").await;
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("v1", 71).await;
    story.in_the_middle().await;
    let namespaces = story.scene.namespaces.clone();
    let chart = story.scene.operator.chart();
    chart.values.push("operator.copies=17".to_owned());
    chart.helm("upgrade", &namespaces).await.expect_success("helm upgrade");
    story.complete("app:v1").await;
    let upgraded = story.tag_writes();
    assert_eq!(upgraded.iter().filter(|access| access.status == 201).count(), 1, "{upgraded:?}");

    let system = story.scene.operator.chart().namespace.clone();
    let uninstalled = story.scene.operator.chart().uninstall().await;
    uninstalled.expect_success("helm uninstall");
    eventually(Duration::from_secs(60), "pods, Jobs and Secrets are gone", async || {
        let left = story.kubectl(&["get", "pods,jobs,secrets", "-o", "name"]).await;
        if left.trim().is_empty() { Ok(()) } else { Err(format!("{system}: {left}")) }
    })
    .await;
    assert_eq!(
        story.scene.images().await["destination/app:v1"].status,
        ReplicationState::Complete,
        "statuses are kept"
    );
    assert!(story.destination.pusher().digest_of("app", "v1").await.is_some(), "images are kept");
    story.scene.configurations().get("all").await.expect("configurations and their definitions are kept");
}
