//! Work that is refused for a cause that many images share is tried by one of them, and nothing is written again.

use std::time::{Duration, Instant};

use kube::api::{Api, PostParams};
use serde_json::json;
use transship::api::{ReplicationConfiguration, ReplicationStatus};

use crate::stories::scene::{Scene, to, to_other};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::memory::processor_time;
use crate::support::scripted::{Login, Personality, ScriptedRegistry};
use crate::tag_filters::registry;

const LONG: Duration = Duration::from_secs(120);
/// For so long requests, lines and writes are counted.
const WINDOW: Duration = Duration::from_secs(31);
/// Once a cause has not been tried for so long, the pause between attempts no longer grows.
const STEADY: Duration = Duration::from_secs(12);
/// The part of a core of an operator that is built without optimization, its watches and checks included.
const LITTLE: f64 = 0.05;
/// One in 15 s, and the one with which the window begins.
const MOST: usize = 3;

async fn failed(statuses: &Api<ReplicationStatus>) -> u64 {
    let statuses = statuses.list(&Default::default()).await.unwrap().items;
    statuses.into_iter().filter_map(|status| status.status).map(|status| status.summary.failed).sum()
}

/// Returns the lines of the log about images that failed for want of consent.
async fn denials(scene: &Scene) -> usize {
    let log = scene.operator_log().await;
    log.lines().filter(|line| line.contains("an image failed") && line.contains("RegistryPermissionDenied")).count()
}

/// Waits until the pause between attempts no longer grows.
async fn steady(scene: &Scene) {
    let (began, mut known, mut since) = (Instant::now(), denials(scene).await, Instant::now());
    while since.elapsed() < STEADY {
        assert!(began.elapsed() < LONG, "denied images are tried again and again");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = denials(scene).await;
        if now != known {
            (known, since) = (now, Instant::now());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attempt_in_fifteen_seconds_tries_for_all_that_are_refused() {
    let source = registry();
    for repository in 0..10 {
        for tag in 0..50 {
            let image = Image::single(100 * repository + tag, 1, 100);
            source.push(&format!("app-{repository}"), &format!("v{tag}"), &image);
        }
    }
    let locked = ScriptedRegistry::start(Personality { login: Login::Basic, ..Personality::plain() });
    let mut scene = Scene::new("refusals").await;
    let (own, owner) = (scene.namespace.name.clone(), scene.other_namespace("refusals-owner").await);
    scene.open_registry("source", &source).await;
    scene.allow(&locked.host());
    scene.secret(&own, "locked", &locked.host(), "transship", "a wrong password").await;
    let spec = json!({"url": locked.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": "locked"}}});
    scene.registry_object(&own, "locked", spec).await;
    scene.registry_object(&owner, "theirs", json!({"url": registry().url(), "allowHTTP": true})).await;
    for (name, destination) in [("locked", to("locked")), ("theirs", to_other(&owner, "theirs"))] {
        let object: ReplicationConfiguration = serde_json::from_value(json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": name},
            "spec": {"source": {"registryRef": {"name": "source"}}, "interval": "10m",
                "rules": [{"name": "all", "destinations": [destination]}], "execution": {"mode": "InProcess"}},
        }))
        .unwrap();
        scene.configurations().create(&PostParams::default(), &object).await.unwrap();
    }
    scene.start_operator().await;
    let statuses = scene.api::<ReplicationStatus>(&own);
    // Images that were not tried yet may wait because the first fill is stopped.
    eventually(LONG, "images are refused", async || {
        let failed = failed(&statuses).await;
        if failed >= 100 { Ok(()) } else { Err(format!("{failed} failed")) }
    })
    .await;
    steady(&scene).await;
    let logins = || locked.log().iter().filter(|request| request.authorized).count();
    let (position, before) = (scene.plane.audit_position(), (denials(&scene).await, logins()));
    let id = scene.operator.process().running().id();
    let worked = processor_time(id);
    tokio::time::sleep(WINDOW).await;
    let worked = (processor_time(id) - worked) / WINDOW.as_secs_f64();
    let events = scene.plane.audit_log_of(&scene.operator_user, position);
    let secrets = events.iter().filter(|event| event.object_ref.resource == "secrets").count();
    let writes = scene.writes(Some(position));
    let (lines, logins) = (denials(&scene).await - before.0, logins() - before.1);
    println!(
        "in {WINDOW:?}: {lines} lines, {logins} logins, {secrets} Secret reads, {} writes, {worked:.4} of a core",
        writes.len()
    );
    assert!(lines <= MOST, "{lines} lines about denied images");
    assert!(logins <= MOST, "{logins} logins with a wrong password");
    assert!(secrets <= MOST, "{secrets} reads of the Secret");
    assert!(writes.is_empty(), "{writes:?}");
    assert!(worked <= LITTLE, "{worked} of a core");
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_are_refused_for_one_cause_take_turns() {
    let source = registry();
    for tag in 0..5 {
        source.push("app", &format!("v{tag}"), &Image::single(tag, 1, 100));
    }
    let mut scene = Scene::new("turns").await;
    let owner = scene.other_namespace("turns-owner").await;
    scene.allow(&source.host());
    scene.registry_object(&owner, "theirs", json!({"url": registry().url(), "allowHTTP": true})).await;
    let mut teams = vec![scene.namespace.name.clone()];
    for team in 0..3 {
        teams.push(scene.other_namespace(&format!("turns-{team}")).await);
    }
    for team in &teams {
        scene.registry_object(team, "source", json!({"url": source.url(), "allowHTTP": true})).await;
    }
    for number in 0..200 {
        let object: ReplicationConfiguration = serde_json::from_value(json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration",
            "metadata": {"name": format!("c-{number}")},
            "spec": {"source": {"registryRef": {"name": "source"}}, "interval": "24h",
                "rules": [{"name": "all", "destinations": [to_other(&owner, "theirs")]}],
                "execution": {"mode": "InProcess"}},
        }))
        .unwrap();
        let configurations = scene.api::<ReplicationConfiguration>(&teams[number % teams.len()]);
        configurations.create(&PostParams::default(), &object).await.unwrap();
    }
    scene.start_operator().await;
    eventually(LONG, "every configuration is refused", async || {
        let mut refused = 0;
        for team in &teams {
            refused += failed(&scene.api::<ReplicationStatus>(team)).await;
        }
        if refused == 1_000 { Ok(()) } else { Err(format!("{refused} of 1,000 images")) }
    })
    .await;
    steady(&scene).await;
    let (position, before) = (scene.plane.audit_position(), denials(&scene).await);
    tokio::time::sleep(WINDOW).await;
    let (lines, writes) = (denials(&scene).await - before, scene.writes(Some(position)));
    println!("in {WINDOW:?}, 200 configurations of 4 namespaces: {lines} attempts, {} writes", writes.len());
    assert!(lines <= MOST, "{lines} attempts of all together");
    assert!(writes.is_empty(), "{writes:?}");
}
