//! Everything at once, for a while: faults, pushes, a dead leader each minute, policies that come and go, garbage
//! collection. No invariant is ever broken, and then it is quiet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use transship::api::{RegistryPermissionPolicy, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::operator::Operator;
use super::pushes::{REPOSITORIES, repositories, tags};
use super::scene::{NOTIFY_TOKEN, Scene, to, to_other};
use crate::support::chaos::ChaosProxy;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::memory::resident;
use crate::support::scripted::{Login, PASSWORD, Personality, ScriptedRegistry, USER};
use crate::support::tls::client_builder;

const TAGS: u64 = 60;
/// Of a thousand requests to each registry.
const FAULTS: u64 = 50;
const PUSH_EVERY: Duration = Duration::from_millis(150);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const COLLECT_EVERY: Duration = Duration::from_secs(10);
const KILL_EVERY: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// For so long a policy is there, and then is not.
const POLICY_LASTS: Duration = Duration::from_secs(25);
/// Consent that was withdrawn ends within 10 s; a request may then be late in the proxy, and the machine busy.
const CONSENT_ENDS: Duration = Duration::from_secs(18);
const QUIET: Duration = Duration::from_secs(15);
const SETTLED: Duration = Duration::from_secs(180);
/// The password as a registry is sent it.
const CANARY: &str = "dHJhbnNzaGlwOnNlY3JldA";

/// Returns the time that it lasts: in seconds, `TRANSSHIP_SOAK_SECONDS` or 120.
fn duration() -> Duration {
    let seconds = std::env::var("TRANSSHIP_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// Three registries, each behind a proxy; the one called `far` belongs to another owner.
struct Site {
    scene: Scene,
    other: String,
    source: ScriptedRegistry,
    near: ScriptedRegistry,
    far: ScriptedRegistry,
    proxies: [ChaosProxy; 3],
    ended: AtomicBool,
    pushes: AtomicU64,
    looks: AtomicU64,
}

fn registry() -> ScriptedRegistry {
    ScriptedRegistry::start(Personality { login: Login::Basic, ..Personality::plain() })
}

impl Site {
    async fn new() -> Self {
        let (source, near, far) = (registry(), registry(), registry());
        let mut scene = Scene::new("soak").await;
        let other = scene.other_namespace("soak-other").await;
        let own = scene.namespace.name.clone();
        let proxies = [&source, &near, &far].map(|registry| ChaosProxy::start(registry.address(), FAULTS));
        for (proxy, (namespace, name)) in proxies.iter().zip([(&own, "source"), (&own, "near"), (&other, "far")]) {
            scene.allow(&proxy.host());
            scene.secret(namespace, name, &proxy.host(), USER, PASSWORD).await;
            let url = format!("http://{}", proxy.host());
            let spec = json!({"url": url, "allowHTTP": true, "credentials": {"secretRef": {"name": name}}});
            scene.registry_object(namespace, name, spec).await;
        }
        scene.take_notifications("source").await;
        let destinations = [to("near"), to_other(&other, "far")];
        scene.configure("all", "source", &destinations, None, "20s").await;
        let (ended, pushes, looks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        Self { scene, other, source, near, far, proxies, ended, pushes, looks }
    }

    fn is_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Pushes images that share a layer to random tags, and notifies most of it to one of the replicas.
    async fn push(&self, urls: &[String]) {
        let client = client_builder().timeout(Duration::from_secs(5)).build().unwrap();
        let (shared, mut random) = (Blob::layer(1, 5_000), 11_u64);
        while self.is_on() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let tag = (random >> 33) % TAGS;
            let (repository, tag) = (format!("app-{}", tag % REPOSITORIES), format!("v{tag}"));
            let number = self.pushes.fetch_add(1, Ordering::Relaxed);
            let layers = vec![shared.clone(), Blob::layer(1_000_000 + number, 2_000)];
            let digest = self.source.push(&repository, &tag, &Image::with_layers(number, "linux/amd64", layers));
            if (random >> 20) % 4 > 0 {
                let url = format!("{}/v1/notify/{}/source", urls[number as usize % 2], self.scene.namespace.name);
                let target = json!({"repository": repository, "tag": tag, "digest": digest});
                let event = json!({"events": [{"action": "push", "target": target}]}).to_string();
                let _ = client.post(&url).bearer_auth(NOTIFY_TOKEN).body(event).send().await; // It may be dead.
            }
            tokio::time::sleep(PUSH_EVERY).await;
        }
    }

    /// Looks at everything below every tag of both destinations, again and again; panics where something is missing.
    async fn watch_closures(&self) {
        while self.is_on() {
            for registry in [&self.near, &self.far] {
                for repository in repositories() {
                    for digest in registry.tags(&repository).values() {
                        registry.tree(&repository, digest);
                    }
                }
            }
            self.looks.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn collect_garbage(&self) {
        while self.is_on() {
            tokio::time::sleep(COLLECT_EVERY).await;
            self.near.collect_garbage();
            self.far.collect_garbage();
        }
    }

    async fn allow(&self) {
        let policy = json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "allow"},
            "spec": {"registryRef": {"name": "far"}, "statements": [{
                "sid": "soak", "effect": "Allow", "principals": [{"namespace": self.scene.namespace.name}],
                "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"],
            }]},
        });
        let policies = self.scene.api::<RegistryPermissionPolicy>(&self.other);
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    }

    /// Gives consent and withdraws it. Without it nothing is written. It is given in the end.
    async fn toggle_policy(&self) {
        while self.is_on() {
            tokio::time::sleep(POLICY_LASTS).await;
            let policies = self.scene.api::<RegistryPermissionPolicy>(&self.other);
            policies.delete("allow", &DeleteParams::default()).await.unwrap();
            tokio::time::sleep(CONSENT_ENDS).await;
            let before = writes(&self.far);
            tokio::time::sleep(POLICY_LASTS.saturating_sub(CONSENT_ENDS)).await;
            assert_eq!(writes(&self.far), before, "something was written without consent");
            self.allow().await;
        }
    }

    /// Starts a replica with an identity of its own, as each pod has one.
    async fn start(&self, replica: &mut Operator, life: u32) {
        let identity = format!("life-{life}");
        let lease = ["--lease", "soak", "--identity", &identity, "--namespace", &self.scene.namespace.name];
        replica.process().arguments = lease.map(str::to_owned).to_vec();
        replica.start(&self.scene.namespaces, &self.scene.hosts).await;
    }

    /// Kills the leader each minute and starts it again; samples the memory of both replicas.
    async fn kill_leaders(&self, replicas: &mut [Operator; 2]) -> (Vec<Sample>, u32, String) {
        let (mut samples, mut kills, mut logs, mut life) = (Vec::new(), 0, String::new(), [0, 1]);
        let (began, mut killed_at) = (Instant::now(), Instant::now());
        while self.is_on() {
            tokio::time::sleep(SAMPLE_EVERY).await;
            for (replica, life) in replicas.iter_mut().zip(&mut life) {
                if replica.process().has_ended() {
                    // It could not renew its Lease in time on a busy machine; Kubernetes would start it again.
                    logs += &replica.log().await;
                    *life += 1_000;
                    self.start(replica, *life).await;
                }
                samples.push((*life, began.elapsed().as_secs_f64(), resident(replica.process().running().id())));
            }
            if killed_at.elapsed() < KILL_EVERY {
                continue;
            }
            let mut leader = 0;
            for (index, replica) in replicas.iter().enumerate() {
                if replica.counter("transship_leader").await == 1 {
                    leader = index;
                }
            }
            logs += &replicas[leader].log().await;
            replicas[leader].kill();
            (killed_at, kills) = (Instant::now(), kills + 1);
            life[leader] = 1 + kills;
            tokio::time::sleep(Duration::from_secs(2)).await;
            self.start(&mut replicas[leader], life[leader]).await;
        }
        (samples, kills, logs)
    }

    /// Waits until both destinations have what the source has, and the statuses say so.
    async fn settle(&self) {
        let wanted = tags(&self.source);
        eventually(SETTLED, "both destinations have the newest image of every tag", async || {
            let behind = [&self.near, &self.far].map(|registry| {
                let there = tags(registry);
                wanted.iter().filter(|(tag, digest)| there.get(*tag) != Some(digest)).count()
            });
            if behind == [0, 0] { Ok(()) } else { Err(format!("{behind:?} of {}", wanted.len())) }
        })
        .await;
        eventually(SETTLED, "the statuses say so", async || {
            let images = self.scene.images().await;
            let is_newest = |(tag, digest): &(&String, &String)| {
                ["near", "far"].iter().all(|registry| {
                    images
                        .get(&format!("{registry}/{tag}"))
                        .is_some_and(|image| image.status == ReplicationState::Complete && image.digest == **digest)
                })
            };
            let complete = wanted.iter().filter(is_newest).count();
            if complete == wanted.len() { Ok(()) } else { Err(format!("{complete} of {}", wanted.len())) }
        })
        .await;
        let namespace = &self.scene.namespace.name;
        self.scene
            .condition::<ReplicationConfiguration>(namespace, "all", "Ready", "True", "Replicated", SETTLED)
            .await;
    }

    /// Waits until nothing has been written anywhere for a while.
    async fn is_quiet(&self, users: &[String; 2]) {
        let began = Instant::now();
        loop {
            let (position, before) = (self.scene.plane.audit_position(), [writes(&self.near), writes(&self.far)]);
            tokio::time::sleep(QUIET).await;
            let events = users.iter().flat_map(|user| self.scene.plane.audit_log_of(user, position));
            let written: Vec<String> = events
                .filter(|event| !matches!(event.verb.as_str(), "get" | "list" | "watch"))
                .filter(|event| !event.request_uri.contains("/leases"))
                .map(|event| format!("{} {}", event.verb, event.request_uri))
                .collect();
            if written.is_empty() && before == [writes(&self.near), writes(&self.far)] {
                return;
            }
            assert!(began.elapsed() < SETTLED, "it is not quiet: {written:?}");
        }
    }

    /// Returns the writes of tags, and those that went back to an earlier image of the source.
    fn moves(&self) -> (usize, Vec<String>) {
        let (mut copies, mut went_back) = (0, Vec::new());
        for repository in repositories() {
            let pushed = self.source.moves(&repository);
            for (tag, written) in [&self.near, &self.far].into_iter().flat_map(|it| it.moves(&repository)) {
                copies += written.len();
                let order = written.iter().map(|digest| pushed[&tag].iter().position(|pushed| pushed == digest));
                let order: Vec<Option<usize>> = order.collect();
                if !order.is_sorted() || order.contains(&None) {
                    went_back.push(format!("{repository}:{tag}: {order:?}"));
                }
            }
        }
        (copies, went_back)
    }
}

/// The number of a process, the seconds since the start, and its memory in kB.
type Sample = (u32, f64, u64);

/// Counts the requests that begin or end an upload, or write a manifest.
fn writes(registry: &ScriptedRegistry) -> usize {
    registry.log().iter().filter(|seen| matches!(seen.method.as_str(), "POST" | "PUT" | "PATCH")).count()
}

/// Returns the slope of the memory of each process that lived for at least 40 s after its first 20 s, in kB a minute.
fn slopes(samples: &[Sample]) -> Vec<String> {
    let mut lives: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for (life, second, kilobytes) in samples {
        lives.entry(*life).or_default().push((*second, *kilobytes as f64));
    }
    let slope = |points: Vec<(f64, f64)>| {
        let begin = points[0].0 + 20.0;
        let points: Vec<_> = points.into_iter().filter(|(second, _)| *second >= begin).collect();
        let count = points.len() as f64;
        if count < 8.0 {
            return None;
        }
        let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let (upper, lower) =
            points.iter().fold((0.0, 0.0), |(u, l), (s, k)| (u + (s - x) * (k - y), l + (s - x) * (s - x)));
        Some(format!("{:.0} kB/min over {:.0} s", 60.0 * upper / lower, count * SAMPLE_EVERY.as_secs_f64()))
    };
    lives.into_values().filter_map(slope).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_invariant_breaks_while_everything_fails_now_and_then() {
    let site = Site::new().await;
    let mut replicas = [Operator::new(site.scene.plane, "soak").await, Operator::new(site.scene.plane, "soak").await];
    for (replica, life) in replicas.iter_mut().zip([0, 1]) {
        site.start(replica, life).await;
    }
    let (urls, users) =
        ([replicas[0].notify_url(), replicas[1].notify_url()], [replicas[0].user(), replicas[1].user()]);
    site.allow().await;
    let (_, (), (), (), (), (samples, kills, mut logs)) = futures::join!(
        async {
            tokio::time::sleep(duration()).await;
            site.ended.store(true, Ordering::Relaxed);
        },
        site.push(&urls),
        site.watch_closures(),
        site.collect_garbage(),
        site.toggle_policy(),
        site.kill_leaders(&mut replicas),
    );
    site.proxies.iter().for_each(|proxy| proxy.spoil(0));
    let ended = Instant::now();
    site.settle().await;
    let settled = ended.elapsed();
    site.is_quiet(&users).await;
    let (copies, went_back) = site.moves();
    let (requests, spoilt) = site.proxies.iter().map(ChaosProxy::counts).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!(
        "{:?}: {} pushes, {copies} tags written, {} went back, {} looks at every closure, {spoilt} of {requests} requests spoilt, {kills} leaders killed, settled {settled:?} after the last fault",
        duration(),
        site.pushes.load(Ordering::Relaxed),
        went_back.len(),
        site.looks.load(Ordering::Relaxed),
    );
    let most = samples.iter().map(|(_, _, kilobytes)| kilobytes).max().unwrap();
    println!("memory: at most {} MiB; slopes: {:?}", most / 1024, slopes(&samples));
    assert!(went_back.is_empty(), "{went_back:#?}");
    for replica in &replicas {
        logs += &replica.log().await;
        logs += &replica.metrics().await;
    }
    logs += &json!(site.scene.statuses().await).to_string();
    let secrets = [CANARY, NOTIFY_TOKEN].map(|secret| logs.contains(secret));
    assert_eq!(secrets, [false, false], "no secret reaches an output");
}
