//! What only a real node shows: workers that are stopped, killed or cannot run, an operator that is away, and the life of a release.
//! These stories play inside of `tests/node/run.sh`.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use transship::api::{ReplicationConfiguration, ReplicationState};

use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::registry::{Access, TestRegistry};
use crate::support::run_folder::new_folder;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);
/// What a large layer has, and so slow is its source that it takes about 30 s.
const LARGE: usize = 8 << 20;
pub const SLOW: Fault = Fault::Delay { to_upstream: Duration::ZERO, to_client: Duration::from_millis(60) };

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
    let spec = json!({"url": format!("http://{}", proxy.host()), "allowHttp": true});
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

    fn tag_writes(&self) -> Vec<Access> {
        let is_write = |access: &Access| access.method == "PUT" && access.path.contains("/manifests/");
        self.destination.access_log().into_iter().filter(is_write).collect()
    }

    pub async fn kubectl(&mut self, arguments: &[&str]) -> String {
        let plane = self.scene.plane;
        let chart = self.scene.operator.chart();
        let mut all = vec!["-n", chart.namespace.as_str()];
        all.extend(arguments);
        plane.kubectl(&all).await.expect_success("kubectl")
    }

    async fn workers(&mut self) -> Vec<Value> {
        self.scene.operator.chart().pods("worker").await
    }
}

fn names(objects: &[Value]) -> Vec<String> {
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
    story.proxy.set(Fault::None);
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
async fn a_worker_its_job_its_secret_its_pod_or_both_processes_may_go_and_the_image_arrives() {
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
        story.proxy.set(Fault::None);
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
    assert_eq!(names(&story.workers().await), before, "the same worker finished it");
    let again = story.proxy.bytes_to_client() - read;
    assert!(again < LARGE as u64, "the layer was read once: {again} bytes came after the kill");
}

/// How long the operator is away: in seconds, `TRANSSHIP_AWAY` or 30.
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
    assert_eq!(story.tag_writes().len(), written, "no tag is written while nobody gives grants");
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

/// How a lane's pods are kept from running, how that is mended, and what the condition says.
struct Pending {
    name: &'static str,
    value: &'static str,
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_is_not_running_and_says_why() {
    let mut story = story("pending").await;
    story.scene.start_operator().await;
    let cases = [
        Pending { name: "no image", value: "image", says: "localhost/none:never" },
        Pending { name: "no node", value: "node", says: "Unschedulable" },
        Pending { name: "no quota", value: "quota", says: "exceeded quota" },
        Pending { name: "no admission", value: "admission", says: "maximum memory usage per Container is 16Mi" },
        Pending { name: "wrong authority", value: "authority", says: "OperatorUnreachable" },
    ];
    for (seed, case) in cases.iter().enumerate() {
        story.break_workers(case.value).await;
        let tag = format!("v{seed}");
        story.push_small("app", &tag, 40 + seed as u64).await;
        let began = Instant::now();
        let (namespace, scene) = (story.namespace.clone(), &story.scene);
        let message = eventually(SOON, &format!("{} is told", case.name), async || {
            let message = scene
                .condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "False", "WorkerPending", SOON)
                .await;
            if message.contains(case.says) { Ok(message) } else { Err(message) }
        })
        .await;
        println!("{}: told after {:?}: {message}", case.name, began.elapsed());
        let image = &scene.images().await[&format!("destination/app:{tag}")];
        assert_eq!(image.status, ReplicationState::Pending, "{}", case.name);
        story.mend_workers(case.value).await;
        let mended = Instant::now();
        story.complete(&format!("app:{tag}")).await;
        println!("{}: arrived {:?} after it was mended", case.name, mended.elapsed());
        story.end_workers().await;
    }
}

impl Story {
    /// Ends the lingering worker, so that the next push needs a new pod.
    async fn end_workers(&mut self) {
        self.kubectl(&["delete", "jobs", "-l", "app.kubernetes.io/component=worker"]).await;
        eventually(SOON, "the workers are gone", async || {
            let pods = self.workers().await;
            if pods.is_empty() { Ok(()) } else { Err(format!("{:?}", names(&pods))) }
        })
        .await;
    }

    async fn set_worker(&mut self, variable: &str) {
        self.kubectl(&["set", "env", "deployment/transship", variable]).await;
        self.kubectl(&["rollout", "status", "deployment/transship", "--timeout=60s"]).await;
    }

    async fn break_workers(&mut self, how: &str) {
        match how {
            "image" => self.set_worker("TRANSSHIP_WORKER_IMAGE=localhost/none:never").await,
            "node" => drop(self.kubectl(&["cordon", "node-1"]).await),
            "quota" => drop(self.kubectl(&["create", "quota", "none", "--hard=count/pods=0,pods=1"]).await),
            // Our pods satisfy Pod Security `restricted`: another admission plugin refuses them in the same way.
            "admission" => {
                let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "none"},
                    "spec": {"limits": [{"type": "Container", "max": {"memory": "16Mi"}}]}});
                let file = new_folder("range").join("range.json");
                std::fs::write(&file, range.to_string()).unwrap();
                self.kubectl(&["create", "-f", &file.display().to_string()]).await;
            }
            _ => self.set_worker("TRANSSHIP_CHANNEL_URL=https://kubernetes.default.svc").await,
        }
    }

    async fn mend_workers(&mut self, how: &str) {
        let chart = self.scene.operator.chart().namespace.clone();
        match how {
            "image" => self.set_worker("TRANSSHIP_WORKER_IMAGE=localhost/transship:test").await,
            "node" => drop(self.kubectl(&["uncordon", "node-1"]).await),
            "quota" => drop(self.kubectl(&["delete", "quota", "none"]).await),
            "admission" => drop(self.kubectl(&["delete", "limitrange", "none"]).await),
            _ => self.set_worker(&format!("TRANSSHIP_CHANNEL_URL=https://transship-channel.{chart}.svc:8443")).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pushes_by_cold_pods_and_by_a_lingering_worker() {
    let mut story = story("pods").await;
    story.scene.start_operator().await;
    let (mut cold, mut lingering) = (Vec::new(), Vec::new());
    for push in 0..10 {
        let began = Instant::now();
        story.push_small("app", &format!("cold-{push}"), 500 + push).await;
        story.complete(&format!("app:cold-{push}")).await;
        cold.push(began.elapsed());
        if push == 9 {
            break;
        }
        story.end_workers().await;
    }
    for push in 0..50 {
        let began = Instant::now();
        // Over ten repositories, since one status is written once in 5 s.
        story.push_small(&format!("app-{}", push % 10), &format!("v{push}"), 600 + push).await;
        story.complete(&format!("app-{}:v{push}", push % 10)).await;
        lingering.push(began.elapsed());
    }
    cold.sort();
    lingering.sort();
    println!("push to COMPLETE by a cold pod over 10: p50 {:?}, longest {:?}", cold[5], cold[9]);
    println!("push to COMPLETE by a lingering worker over 50: p50 {:?}, p99 {:?}", lingering[25], lingering[49]);
    assert!(cold[5] < Duration::from_secs(6), "{cold:?}");
    assert!(lingering[25] < Duration::from_millis(1_500), "{lingering:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_upgraded_while_jobs_run_and_uninstalled_without_losing_what_is_the_users() {
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

#[tokio::test(flavor = "multi_thread")]
async fn stolen_credentials_of_the_operator_or_of_a_worker_open_nothing_else() {
    let mut story = story("stolen").await;
    story.scene.start_operator().await;
    let (system, tenant) = (story.scene.operator.chart().namespace.clone(), story.namespace.clone());
    let plane = story.scene.plane;
    let may = async |account: &str, namespace: &str, verb: &str, resource: &str| {
        let user = format!("--as=system:serviceaccount:{system}:{account}");
        plane.kubectl(&["auth", "can-i", verb, resource, "-n", namespace, &user]).await.stdout.trim() == "yes"
    };
    for account in ["transship", "transship-worker"] {
        for (namespace, verb, resource) in [
            (&tenant, "list", "secrets"),
            (&tenant, "watch", "secrets"),
            (&tenant, "create", "pods"),
            (&tenant, "create", "jobs.batch"),
            (&tenant, "update", "registrypermissionpolicies.transship.dev"),
            (&tenant, "create", "registries.transship.dev"),
            (&system, "list", "secrets"),
            (&system, "create", "pods"),
            (&system, "create", "pods/exec"),
            (&system, "create", "rolebindings.rbac.authorization.k8s.io"),
        ] {
            assert!(!may(account, namespace, verb, resource).await, "{account} may {verb} {resource} in {namespace}");
        }
    }
    assert!(!may("transship-worker", &tenant, "get", "secrets").await);
    // A tenant with every right in its namespace writes no status, whatever roles say.
    story.push_small("app", "v1", 80).await;
    story.complete("app:v1").await;
    let name = story.scene.statuses().await[0].metadata.name.clone().unwrap();
    let patch = [
        "-n",
        &tenant,
        "patch",
        "replicationstatus",
        &name,
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"source":"forged"}}"#,
        "--as=somebody",
        "--as-group=system:masters",
    ];
    let refused = plane.kubectl(&patch).await;
    assert!(!refused.success && refused.stderr.contains("only the Transship operator"), "{}", refused.stderr);
}
