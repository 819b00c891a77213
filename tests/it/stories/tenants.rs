//! Tenants beside each other: the noise of one costs another neither its destination nor its time.
//!
//! The full load of the noisy tenant is that of `TRANSSHIP_TENANTS=full`; a smaller one holds every bound as well.

use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::execution::with_jobs;
use super::scene::{PASSWORD, Scene, to, to_other};
use crate::measured::limits::run_worker;
use crate::support::control_plane::AuditEvent;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::TestRegistry;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);
/// A push may take that long under load although it takes less than half of it alone: the load of the machine that
/// operator, API server, etcd and all registries share, on two cores.
const FLOOR: Duration = Duration::from_millis(400);
/// For so long a policy changes again and again.
const NOISY_FOR: Duration = Duration::from_secs(12);

/// The numbers of things that the noisy tenant has.
struct Noise {
    drips: usize,
    stalled: usize,
    lanes: usize,
    hanging: usize,
}

impl Noise {
    fn of_environment() -> Self {
        match std::env::var("TRANSSHIP_TENANTS").as_deref() {
            Ok("full") => Self { drips: 16, stalled: 200, lanes: 25, hanging: 200 },
            _ => Self { drips: 16, stalled: 24, lanes: 25, hanging: 40 },
        }
    }
}

async fn create<K>(scene: &Scene, namespace: &str, object: Value)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize,
{
    let api: Api<K> = scene.api(namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn open(scene: &Scene, namespace: &str, name: &str, host: &str) {
    let spec = json!({"url": format!("http://{host}"), "allowHTTP": true});
    scene.registry_object(namespace, name, spec).await;
}

/// A configuration that copies one repository.
async fn configure(scene: &Scene, namespace: &str, name: &str, ends: (&str, Value), repository: &str, mode: &str) {
    let filters = json!([{"filter": repository, "filterType": "EXACT_MATCH"}]);
    let rule = json!({"name": "all", "destinations": [ends.1], "repositoryFilters": filters});
    let object = json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": name},
        "spec": {"source": {"registryRef": {"name": ends.0}}, "rules": [rule], "interval": "10m",
            "execution": {"mode": mode}},
    });
    create::<ReplicationConfiguration>(scene, namespace, object).await;
}

/// A tenant that takes all it can, and its registries.
struct Noisy {
    namespace: String,
    drip: FaultProxy,
    stalled: ScriptedRegistry,
    hanging: ScriptedRegistry,
    _quick: ScriptedRegistry,
    _slow: ScriptedRegistry,
    _sink: ScriptedRegistry,
}

impl Noisy {
    /// Starts its registries, and lets the operator reach them; nothing of it is at the API server yet.
    fn new(scene: &mut Scene, namespace: &str, noise: &Noise) -> Self {
        let (slow, quick, sink, stalled, hanging) = (registry(), registry(), registry(), registry(), registry());
        for n in 0..noise.drips as u64 {
            let large = Image::with_layers(100 + n, "linux/amd64", vec![Blob::layer(100 + n, 8 << 20)]);
            slow.push(&format!("drip-{n}"), "v1", &large);
        }
        for n in 0..noise.stalled.max(noise.lanes) as u64 {
            quick.push(&format!("app-{n}"), "v1", &Image::single(1_000 + n, 1, 1_000));
        }
        stalled.fault(When::asked("POST", "/blobs/uploads/").always(), ScriptedFault::Hold);
        hanging.fault(When::asked("GET", "/v2/").always(), ScriptedFault::Hold);
        let drip = FaultProxy::start(slow.address());
        for host in [drip.host(), quick.host(), sink.host(), stalled.host(), hanging.host()] {
            scene.allow(&host);
        }
        let namespace = namespace.to_owned();
        Self { namespace, drip, stalled, hanging, _quick: quick, _slow: slow, _sink: sink }
    }

    /// Declares all of it, and waits until it has taken what it can.
    async fn begin(&self, scene: &Scene, jobs: &Api<Job>, noise: &Noise) {
        let (own, name) = (self.namespace.as_str(), |kind: &str, n: usize| format!("{kind}-{n}"));
        self.drip.set(LineFault::Delay { to_upstream: Duration::ZERO, to_client: Duration::from_secs(1) });
        for (registry, host) in
            [("quick", self._quick.host()), ("sink", self._sink.host()), ("stalled", self.stalled.host())]
        {
            open(scene, own, registry, &host).await;
        }
        join_all((0..noise.hanging).map(async |n| open(scene, own, &name("hanging", n), &self.hanging.host()).await))
            .await;
        join_all((0..noise.drips).map(async |n| {
            open(scene, own, &name("drip", n), &self.drip.host()).await;
            configure(scene, own, &name("drip", n), (&name("drip", n), to("sink")), &name("drip", n), "InProcess")
                .await;
        }))
        .await;
        join_all((0..noise.stalled).map(async |n| {
            configure(scene, own, &name("stalled", n), ("quick", to("stalled")), &name("app", n), "InProcess").await;
        }))
        .await;
        join_all((0..noise.lanes).map(async |n| {
            open(scene, own, &name("lane", n), &self._sink.host()).await;
            configure(scene, own, &name("lane", n), ("quick", to(&name("lane", n))), &name("app", n), "Job").await;
        }))
        .await;
        eventually(LONG, "it has the Jobs that it may have", async || {
            let found = jobs_of(jobs, own).await;
            if found >= 15 { Ok(()) } else { Err(format!("{found} Jobs")) }
        })
        .await;
        eventually(LONG, "its copies stand still and its layers drip", async || {
            let (held, drips) = (self.stalled.count("POST", "/blobs/uploads/"), self.drip.bytes_to_client());
            if held + noise.drips >= 16 && drips > 50_000 { Ok(()) } else { Err(format!("{held} held, {drips} bytes")) }
        })
        .await;
    }
}

async fn jobs_of(jobs: &Api<Job>, namespace: &str) -> usize {
    let labels = format!("transship.dev/namespace={namespace}");
    jobs.list(&ListParams::default().labels(&labels)).await.unwrap().items.len()
}

/// Returns the time until `is_there`, looked at every few milliseconds.
async fn time_until(what: &str, since: Instant, is_there: impl AsyncFn() -> bool) -> Duration {
    while !is_there().await {
        assert!(since.elapsed() < SOON, "{what} takes more than {SOON:?}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    since.elapsed()
}

/// A tenant that pushes an image now and then.
struct Quiet {
    source: ScriptedRegistry,
    destination: ScriptedRegistry,
}

impl Quiet {
    /// Returns the median time from the notification of a push until the tag is at the destination.
    async fn push(&self, scene: &Scene, seeds: std::ops::Range<u64>) -> Duration {
        let mut times = Vec::new();
        for seed in seeds {
            // A tag that moves again within a second waits for its record to be taken back.
            let tag = format!("v{seed}");
            let digest = self.source.push("app", &tag, &Image::single(seed, 1, 1_000));
            let began = Instant::now();
            scene.notify("source", "app", &tag, &digest).await;
            let is_there = async || self.destination.tags("app").get(&tag) == Some(&digest);
            times.push(time_until("the push", began, is_there).await);
        }
        times.sort();
        times[times.len() / 2]
    }

    /// Returns the time from the notification of a push until there is a Job for it.
    async fn push_by_job(&self, scene: &Scene, jobs: &Api<Job>, (namespace, seed): (&str, u64)) -> Duration {
        let digest = self.source.push(&format!("jobs-{seed}"), "v1", &Image::single(seed, 1, 1_000));
        let began = Instant::now();
        scene.notify("source", &format!("jobs-{seed}"), "v1", &digest).await;
        time_until("a Job for the push", began, async || jobs_of(jobs, namespace).await > 0).await
    }

    /// Returns the time from the notification of a push until its image is COMPLETE, copied by the worker of a new Job:
    /// it starts as soon as the Job may run.
    async fn complete_by_job(&self, scene: &Scene, system: &str, (to, seed): (&str, u64)) -> Duration {
        let jobs = scene.api::<Job>(system);
        let labels = format!("transship.dev/namespace={}", scene.namespace.name);
        let own = async || jobs.list(&ListParams::default().labels(&labels)).await.unwrap().items;
        let known: Vec<String> = own().await.iter().map(ResourceExt::name_any).collect();
        let repository = format!("jobs-{seed}");
        let digest = self.source.push(&repository, "v1", &Image::single(seed, 1, 1_000));
        let began = Instant::now();
        scene.notify("source", &repository, "v1", &digest).await;
        let is_new = |job: &Job| {
            let runs = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(false));
            runs && !known.contains(&job.name_any())
        };
        let job = eventually(LONG, "a Job for the push", async || own().await.into_iter().find(is_new)).await;
        let _worker = run_worker(scene, system, job).await;
        let image = format!("{to}/{repository}:v1");
        scene.image_becomes(&image, ReplicationState::Complete, LONG).await;
        began.elapsed()
    }

    /// Returns the time until a new Registry is checked.
    async fn check(&self, scene: &Scene, name: &str) -> Duration {
        let (namespace, began) = (&scene.namespace.name, Instant::now());
        open(scene, namespace, name, &self.destination.host()).await;
        let registries = scene.api::<Registry>(namespace);
        let is_ready = async || {
            let status = registries.get(name).await.unwrap().status.unwrap_or_default();
            status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        time_until("a check", began, is_ready).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_takes_no_longer_while_another_tenant_holds_what_it_can() {
    let noise = Noise::of_environment();
    let mut scene = Scene::new("tenants").await;
    let (own, other) = (scene.namespace.name.clone(), scene.other_namespace("tenants-noisy").await);
    let quiet = Quiet { source: registry(), destination: registry() };
    quiet.source.push("app", "latest", &Image::single(1, 1, 1_000));
    scene.open_registry("source", &quiet.source).await;
    scene.open_registry("destination", &quiet.destination).await;
    scene.take_notifications("source").await;
    configure(&scene, &own, "all", ("source", to("destination")), "app", "InProcess").await;
    configure(&scene, &own, "jobs", ("source", to("destination")), "jobs-90", "Job").await;
    // Each of a lane of its own, so that no worker is there yet.
    for (seed, lane) in [(91, "early-lane"), (92, "late-lane")] {
        scene.open_registry(lane, &quiet.destination).await;
        configure(&scene, &own, lane, ("source", to(lane)), &format!("jobs-{seed}"), "Job").await;
    }
    let noisy = Noisy::new(&mut scene, &other, &noise);
    let (system, _channel) = with_jobs(&mut scene, "tenants").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&own, "all", "Ready", "True", "Replicated", SOON).await;
    let jobs = scene.api::<Job>(&system);
    let by_job_alone = quiet.complete_by_job(&scene, &system, ("early-lane", 91)).await;
    let alone = (quiet.push(&scene, 10..21).await, quiet.check(&scene, "early").await);
    noisy.begin(&scene, &jobs, &noise).await;
    let by_job = quiet.complete_by_job(&scene, &system, ("late-lane", 92)).await;
    let job = quiet.push_by_job(&scene, &jobs, (&own, 90)).await;
    let loaded = (quiet.push(&scene, 30..41).await, quiet.check(&scene, "late").await);
    println!(
        "alone: push {:?}, check {:?}; beside {} drips, {} stalled, {} lanes, {} hanging: push {:?}, check {:?}, Job {job:?}",
        alone.0, alone.1, noise.drips, noise.stalled, noise.lanes, noise.hanging, loaded.0, loaded.1
    );
    println!("by Job to COMPLETE, with its worker as a process: alone {by_job_alone:?}, loaded {by_job:?}");
    assert!(by_job <= (2 * by_job_alone).max(5 * FLOOR), "by Job: {by_job:?} of {by_job_alone:?}");
    assert!(loaded.0 <= (2 * alone.0).max(FLOOR), "a push: {loaded:?} of {alone:?}");
    assert!(loaded.1 <= (2 * alone.1).max(FLOOR), "a check: {loaded:?} of {alone:?}");
    assert!(job <= 2 * FLOOR, "a Job: {job:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_configuration_without_consent_keeps_no_destination_from_others() {
    let source = TestRegistry::distribution("consent-claims-source").start().await;
    let destination = TestRegistry::distribution("consent-claims-to").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(31, 1, 5_000)).await;
    let mut scene = Scene::new("claims").await;
    let namespace = scene.namespace.name.clone();
    let (owner, evil) = (scene.other_namespace("claims-owner").await, scene.other_namespace("claims-evil").await);
    scene.registry(&owner, "eu-west-1", &destination, Some("writer")).await;
    scene.registry(&namespace, "source", &source, None).await;
    scene.registry(&evil, "source", &source, None).await;
    // An object of its own that only names the URL of the other's registry.
    scene.registry(&evil, "theirs", &destination, None).await;
    configure(&scene, &evil, "foreign", ("source", to_other(&owner, "eu-west-1")), "app", "InProcess").await;
    configure(&scene, &evil, "own", ("source", to("theirs")), "app", "InProcess").await;
    scene.start_operator().await;
    let refused = async |name: &str| {
        eventually(SOON, "it is refused", async || {
            let status = scene.api::<ReplicationConfiguration>(&evil).get(name).await.unwrap().status;
            let conditions = status.unwrap_or_default().conditions;
            let ready = conditions.into_iter().find(|c| c.type_ == "Ready");
            let is_refused = |reason: &str| !matches!(reason, "Replicated" | "Progressing");
            let refused = ready.filter(|c| c.status == "False" && is_refused(&c.reason));
            refused.map(|condition| (condition.reason, condition.message))
        })
        .await
    };
    let before = refused("foreign").await;
    refused("own").await;
    let policy = json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "allow"},
        "spec": {"registryRef": {"name": "eu-west-1"}, "statements": [{
            "sid": "All", "effect": "Allow", "principals": [{"namespace": namespace}],
            "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"],
        }]},
    });
    create::<RegistryPermissionPolicy>(&scene, &owner, policy).await;
    configure(&scene, &namespace, "good", ("source", to_other(&owner, "eu-west-1")), "app", "InProcess").await;
    scene.condition::<ReplicationConfiguration>(&namespace, "good", "Ready", "True", "Replicated", SOON).await;
    assert!(destination.pusher().digest_of("app", "v1").await.is_some());
    assert_eq!(refused("foreign").await, before, "one without consent learns nothing of others");
    assert!(!refused("own").await.1.contains("another"), "the reason of the other is that of its credentials");
}

fn consent(sid: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "allow"},
        "spec": {"registryRef": {"name": "theirs"}, "statements": [{
            "sid": sid, "effect": "Allow", "principals": [{"namespace": namespace}],
            "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"],
        }]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_all_the_time_costs_other_namespaces_no_read() {
    let quiet = Quiet { source: registry(), destination: registry() };
    quiet.source.push("app", "latest", &Image::single(1, 1, 1_000));
    let mut scene = Scene::new("policies").await;
    let namespace = scene.namespace.name.clone();
    let (calm, busy) = (scene.other_namespace("policies-calm").await, scene.other_namespace("policies-busy").await);
    scene.open_registry("source", &quiet.source).await;
    scene.take_notifications("source").await;
    scene.allow(&quiet.destination.host());
    open(&scene, &calm, "theirs", &quiet.destination.host()).await;
    for owner in [&calm, &busy] {
        create::<RegistryPermissionPolicy>(&scene, owner, consent("All", &namespace)).await;
    }
    configure(&scene, &namespace, "all", ("source", to_other(&calm, "theirs")), "app", "InProcess").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SOON).await;
    let (began, position) = (Instant::now(), scene.plane.audit_position());
    let policies = scene.api::<RegistryPermissionPolicy>(&busy);
    let (mut changes, mut pushes) = (0, 0);
    while began.elapsed() < NOISY_FOR {
        for _ in 0..5 {
            let change = Patch::Merge(json!({"spec": consent(&format!("All{changes}"), &namespace)["spec"]}));
            policies.patch("allow", &PatchParams::default(), &change).await.unwrap();
            changes += 1;
        }
        quiet.push(&scene, 100 + pushes..101 + pushes).await;
        pushes += 1;
    }
    let took = began.elapsed().as_secs();
    let events = scene.plane.audit_log_of(&scene.operator_user, position);
    let of_calm = |event: &&AuditEvent| {
        event.object_ref.namespace == calm && event.object_ref.resource == "registrypermissionpolicies"
    };
    let reads = events.iter().filter(of_calm).filter(|event| event.verb == "list").count();
    println!(
        "{changes} changes of a policy, {pushes} pushes into another namespace in {took} s: {reads} reads of its policies"
    );
    assert!(changes > 20 && pushes > 4, "{changes} changes, {pushes} pushes");
    assert!(reads as u64 <= took / 4 + 2, "{reads} reads in {took} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_bound_to_others_reads_like_one_that_does_not_exist() {
    let destination = registry();
    let mut scene = Scene::new("bound").await;
    let (namespace, other) = (scene.namespace.name.clone(), scene.other_namespace("bound-other").await);
    scene.allow(&destination.host());
    open(&scene, &namespace, "mine", &destination.host()).await;
    open(&scene, &other, "theirs", &destination.host()).await;
    open(&scene, &other, "absent", "nowhere.invalid").await;
    let binding = ["--bind-host".to_owned(), format!("127.0.0.1:*={namespace}")];
    scene.operator.process().arguments.extend(binding);
    scene.start_operator().await;
    scene.condition::<Registry>(&namespace, "mine", "Ready", "True", "Reachable", SOON).await;
    let seen = async |name: &str, host: &str| {
        let message = scene.condition::<Registry>(&other, name, "Ready", "False", "HostUnknown", SOON).await;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        message.replace(host, "HOST").replace(name, "HOST")
    };
    assert_eq!(seen("theirs", &destination.host()).await, seen("absent", "nowhere.invalid").await);
}
