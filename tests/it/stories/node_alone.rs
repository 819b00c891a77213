//! Stories that need the node alone: its container runtime stops, many images are counted, and the rights that were
//! used are checked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use transship::api::RegistryPermissionPolicy;
use transship::terms::ReplicationState;

use super::node::{SLOW, story};
use super::scene::{PASSWORD, Scene, to, to_other};
use crate::support::control_plane::ControlPlane;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::proxy::LineFault;
use crate::support::registry::TestRegistry;
use crate::support::stage;

/// Returns the time for which containerd is stopped: in seconds, `TRANSSHIP_STOPPED` or 30.
fn stopped() -> Duration {
    let seconds = std::env::var("TRANSSHIP_STOPPED").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_may_stop_for_half_a_minute() {
    let mut story = story("containerd").await;
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("v1", 91).await;
    story.in_the_middle().await;
    let folder = stage::node().expect("a node");
    let id = std::fs::read_to_string(folder.join("pids/containerd.pid")).expect("containerd runs");
    let containerd = Pid::from_raw(id.trim().parse().unwrap()).unwrap();
    kill_process(containerd, Signal::STOP).unwrap();
    story.scene.operator.chart().signal("worker", Signal::KILL);
    story.proxy.set(LineFault::None);
    tokio::time::sleep(stopped()).await;
    kill_process(containerd, Signal::CONT).unwrap();
    let began = Instant::now();
    story.complete("app:v1").await;
    println!("containerd stopped for {:?}, worker killed: complete {:?} after it goes on", stopped(), began.elapsed());
}

/// Tags in each repository: `TRANSSHIP_TAGS` or 2.
fn tags() -> u64 {
    std::env::var("TRANSSHIP_TAGS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tags_go_to_three_destinations_of_two_owners() {
    const REPOSITORIES: u64 = 50;
    let source = TestRegistry::distribution("many-source").start().await;
    let pusher = source.pusher();
    for repository in 0..REPOSITORIES {
        for tag in 0..tags() {
            let image = Image::single(repository * 1_000 + tag, 2, 5_000);
            pusher.push(&format!("app-{repository}"), &format!("v{tag}"), &image).await;
        }
    }
    let mut scene = Scene::new("thousand").await;
    let (namespace, other) = (scene.namespace.name.clone(), scene.other_namespace("thousand-other").await);
    scene.registry(&namespace, "source", &source, None).await;
    let mut destinations = Vec::new();
    for (owner, name) in [(&namespace, "one"), (&namespace, "two"), (&other, "three")] {
        let registry = TestRegistry::distribution(&format!("thousand-{name}")).user("writer", PASSWORD).start().await;
        scene.registry(owner, name, &registry, Some("writer")).await;
        destinations.push(registry);
    }
    let statement = json!({"sid": "s", "effect": "Allow", "principals": [{"namespace": namespace}],
        "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"]});
    let policy = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy",
        "metadata": {"name": "p"}, "spec": {"registryRef": {"name": "three"}, "statements": [statement]}});
    let policies = scene.api::<RegistryPermissionPolicy>(&other);
    policies.create(&Default::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let before = storage(&scene).await;
    scene.start_operator().await;
    let began = Instant::now();
    scene.configure("all", "source", &[to("one"), to("two"), to_other(&other, "three")], None, "10m").await;
    let wanted = 3 * REPOSITORIES * tags();
    let mut most_jobs = 0;
    eventually(Duration::from_secs(580), "all are complete", async || {
        most_jobs = most_jobs.max(scene.operator.chart().processes("worker").len());
        let statuses = scene.statuses().await.into_iter().filter_map(|status| status.status);
        let complete: u64 = statuses.map(|status| status.summary.complete).sum();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if complete == wanted { Ok(()) } else { Err(format!("{complete} of {wanted}")) }
    })
    .await;
    let took = began.elapsed();
    assert!(most_jobs <= 20, "{most_jobs} Jobs at a time");
    let writes = scene.writes(None).len();
    let operator = scene.operator.chart().processes("operator")[0];
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.as_raw_nonzero())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!(
        "{wanted} images: {took:?}, at most {most_jobs} workers at a time, {writes} writes to the API server ({:.2} an image), \
         etcd grew by {} kB, operator {peak}",
        writes as f64 / wanted as f64,
        (storage(&scene).await - before) / 1024,
    );
    // At most 2 an image over many images; each pair costs a few by itself.
    let pairs = 3 * REPOSITORIES;
    assert!(writes as u64 <= wanted + 5 * pairs, "{writes} writes for {wanted} images of {pairs} pairs");
    let failed = scene.images().await.values().filter(|image| image.status == ReplicationState::Failed).count();
    assert_eq!(failed, 0);
}

async fn storage(scene: &Scene) -> i64 {
    let metrics = scene.plane.kubectl(&["get", "--raw", "/metrics"]).await.stdout;
    let line = metrics.lines().find(|line| line.starts_with("apiserver_storage_size_bytes"));
    line.and_then(|line| line.split(' ').next_back()?.parse::<f64>().ok()).map_or(0, |bytes| bytes as i64)
}

/// Runs last: it looks at what every operator of this run has asked the API server for.
#[tokio::test(flavor = "multi_thread")]
async fn what_operators_asked_for_is_what_the_chart_grants() {
    let plane = ControlPlane::shared().await;
    // One story asks with a stolen token for what it is refused.
    let is_operator =
        |user: &str| user.contains("-system-") && user.ends_with(":transship") && !user.contains(":stolen-system-");
    let mut used = BTreeSet::new();
    let mut refused = Vec::new();
    for event in plane.audit_log().into_iter().filter(|event| is_operator(&event.user.username)) {
        // One story uninstalls its release: the last requests of that operator are refused.
        if event.response_status.code == 403 && !event.user.username.contains(":release-system-") {
            refused.push(format!("{} {}", event.verb, event.request_uri));
        }
        let object = &event.object_ref;
        let resource = [object.resource.as_str(), object.subresource.as_str()].join("/");
        used.insert(format!("{} {} {}", object.api_group, resource.trim_end_matches('/'), event.verb));
    }
    assert!(refused.is_empty(), "{refused:?}");
    let system = plane.kubectl(&["get", "clusterroles", "-l", "app.kubernetes.io/name=transship", "-o", "json"]).await;
    let own = plane.kubectl(&["get", "roles", "-A", "-l", "app.kubernetes.io/name=transship", "-o", "json"]).await;
    let mut unused = BTreeSet::new();
    for list in [system, own] {
        let list: Value = serde_json::from_str(&list.expect_success("kubectl get")).unwrap();
        for role in list["items"].as_array().into_iter().flatten() {
            let name = role["metadata"]["name"].as_str().unwrap_or_default();
            if name.ends_with("-view") || name.ends_with("-edit") {
                continue; // Of tenants.
            }
            assert!(!role.to_string().contains("\"*\""), "no wildcards: {role}");
            for rule in role["rules"].as_array().into_iter().flatten() {
                let of = |key: &str| rule[key].as_array().cloned().unwrap_or_default();
                for (group, resource, verb) in of("apiGroups").iter().flat_map(|group| {
                    of("resources").into_iter().flat_map(move |resource| {
                        of("verbs").into_iter().map(move |verb| (group.clone(), resource.clone(), verb))
                    })
                }) {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let right = format!("{} {} {}", text(&group), text(&resource), text(&verb));
                    if !used.contains(&right) {
                        unused.insert(right);
                    }
                }
            }
        }
    }
    println!("{} kinds of requests; rights that were not used: {unused:?}", used.len());
    // A year passes between two renewals of the authorities, an Event is repeated when one comes back within minutes,
    // and the images of these stories fit into statuses. To apply an object that is absent takes the right to create.
    let seldom = [
        " secrets update",
        "events.k8s.io events patch",
        "transship.dev replicationstatuses get",
        "transship.dev replicationrecords create",
        "transship.dev replicationrecords patch",
        "batch jobs get",
    ];
    unused.retain(|right| !seldom.contains(&right.as_str()));
    assert!(unused.is_empty(), "{unused:?}");
}
