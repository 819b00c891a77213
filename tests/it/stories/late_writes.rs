//! Writes that take effect after the operator has given them up: the destination has the newest image in the end.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::core::{SOON, between, is_ready};
use super::operator::Operator;
use super::scene::{Scene, to};
use crate::support::eventually::{eventually, throughout};
use crate::support::image::Image;
use crate::support::process::Signal;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::registry;

/// An image is read back a minute after a copy of the same process was stopped, and two minutes after a restart.
const CORRECTED: Duration = Duration::from_secs(140);

/// No authority of a process that was stopped lasts for so long.
const AUTHORITY: Duration = Duration::from_secs(9);

/// Waits until the write of a tag has begun that the destination carries out after `late`.
async fn writes_late(destination: &ScriptedRegistry, repository: &str) {
    let path = format!("/v2/{repository}/manifests/latest");
    let before = destination.moves(repository).get("latest").map_or(0, Vec::len);
    eventually(SOON, "the tag is being written", async || destination.count("PUT", &path) > before).await;
}

fn late(destination: &ScriptedRegistry, repository: &str, late: Duration) {
    let path = format!("/v2/{repository}/manifests/latest");
    destination.fault(When::asked("PUT", path), ScriptedFault::EffectLate(late));
}

/// Waits until the destination has had these images, in this order and before any others.
async fn has_had(destination: &ScriptedRegistry, repository: &str, order: &[&String], within: Duration) {
    eventually(within, &format!("{repository} has had {order:?}"), async || {
        let moves = destination.moves(repository).remove("latest").unwrap_or_default();
        if moves.iter().take(order.len()).eq(order.iter().copied()) { Ok(()) } else { Err(format!("{moves:?}")) }
    })
    .await;
}

/// Waits until a late write has replaced the newest image, and until that is corrected, at the destination and in the
/// status.
async fn is_corrected(scene: &Scene, destination: &ScriptedRegistry, repository: &str, order: &[&String]) {
    has_had(destination, repository, &order[..order.len() - 1], SOON).await;
    has_had(destination, repository, order, CORRECTED).await;
    let image = format!("destination/{repository}:latest");
    let image = scene.image_becomes(&image, ReplicationState::Complete, SOON).await;
    assert_eq!(&&image.digest, order.last().unwrap());
    assert_eq!(destination.moves(repository)["latest"].len(), order.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_a_killed_operator_that_lands_late_is_corrected() {
    let (source, destination) = (registry(), registry());
    let exact = |name: &str| Some(json!([{"filter": name, "filterType": "EXACT_MATCH"}]));
    let mut scene = between("killed-writer", &source, &destination, exact("known")).await;
    let first = source.push("known", "latest", &Image::single(1, 1, 1_000));
    scene.start_operator().await;
    is_ready(&scene).await;
    // One tag was replicated before; of another repository, and its configuration, nothing is known yet.
    for repository in ["known", "new"] {
        late(&destination, repository, Duration::from_secs(20));
    }
    let known = source.push("known", "latest", &Image::single(10, 1, 1_000));
    let new = source.push("new", "latest", &Image::single(20, 1, 1_000));
    scene.configure("new", "source", &[to("destination")], exact("new"), "24h").await;
    scene.notify("source", "known", "latest", &known).await;
    writes_late(&destination, "new").await;
    writes_late(&destination, "known").await;
    scene.kill_operator();
    let newest = source.push("known", "latest", &Image::single(30, 1, 1_000));
    assert_eq!(source.push("new", "latest", &Image::single(30, 1, 1_000)), newest);
    scene.start_operator().await;
    is_corrected(&scene, &destination, "known", &[&first, &newest, &known, &newest]).await;
    is_corrected(&scene, &destination, "new", &[&newest, &new, &newest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_a_copy_that_was_stopped_and_lands_late_is_corrected() {
    let (source, destination) = (registry(), registry());
    let mut scene = between("stopped-writer", &source, &destination, None).await;
    let old = source.push("app", "latest", &Image::single(1, 1, 1_000));
    late(&destination, "app", Duration::from_secs(16));
    scene.start_operator().await;
    writes_late(&destination, "app").await;
    let suspend = |value: bool| Patch::Merge(json!({"spec": {"suspend": value}}));
    scene.configurations().patch("all", &PatchParams::default(), &suspend(true)).await.unwrap();
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, "all", "Suspended", "True", "Suspended", SOON).await;
    let newest = source.push("app", "latest", &Image::single(10, 1, 1_000));
    scene.configurations().patch("all", &PatchParams::default(), &suspend(false)).await.unwrap();
    is_corrected(&scene, &destination, "app", &[&newest, &old, &newest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_frozen_does_not_undo_what_its_successor_wrote() {
    let (source, destination) = (registry(), registry());
    let mut scene = between("frozen", &source, &destination, None).await;
    let mut successor = Operator::new(scene.plane, "frozen").await;
    let first = source.push("app", "latest", &Image::single(1, 1, 1_000));
    scene.start_operator().await;
    is_ready(&scene).await;

    // It is stopped in the middle of a copy: the source's answer is on its way.
    source.fault(When::asked("GET", "/blobs/"), ScriptedFault::AnswerLate(Duration::from_secs(1)));
    let blobs = source.count("GET", "/blobs/");
    let old = source.push("app", "latest", &Image::single(10, 1, 1_000));
    scene.notify("source", "app", "latest", &old).await;
    eventually(SOON, "a layer is being read", async || source.count("GET", "/blobs/") > blobs).await;
    scene.operator.process().running().signal(Signal::STOP);
    let stopped_at = Instant::now();
    source.clear_faults();

    let newest = source.push("app", "latest", &Image::single(20, 1, 1_000));
    successor.start(&scene.namespaces, &[source.host(), destination.host()]).await;
    eventually(SOON, "the successor writes", async || destination.tags("app")["latest"] == newest).await;
    scene.image_becomes("destination/app:latest", ReplicationState::Complete, SOON).await;
    tokio::time::sleep(AUTHORITY.saturating_sub(stopped_at.elapsed())).await;
    scene.operator.process().running().signal(Signal::CONT);
    throughout(Duration::from_secs(5), "the newest image stays", async || {
        let tags = destination.tags("app");
        if tags["latest"] == newest { Ok(()) } else { Err(format!("{tags:?}")) }
    })
    .await;
    let image = scene.image_becomes("destination/app:latest", ReplicationState::Complete, SOON).await;
    assert_eq!(image.digest, newest);
    assert_eq!(destination.moves("app")["latest"], [first, newest], "{old} was never written");
    is_ready(&scene).await;
    successor.end().await;
}
