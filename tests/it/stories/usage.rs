//! The bytes that a pair moves and keeps show in its status, in that of its configuration and in metrics, whichever
//! process copies, and survive a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use transship::terms::ReplicationState;

use super::core::{between, is_ready};
use super::execution::{ask_for, with_jobs};
use super::scene::Scene;
use crate::measured::limits::run_workers;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(90);

fn image(seed: u64) -> Image {
    Image::with_layers(seed, "linux/amd64", vec![Blob::layer(1, 40_000), Blob::layer(seed, 3_000)])
}

/// Returns the bytes of the blobs of some images, and of the blobs and manifests; what they share counts once.
fn bytes_of(images: &[Image]) -> (u64, u64) {
    let blobs = images.iter().flat_map(|image| &image.blobs).map(|blob| (&blob.digest, blob.bytes.len() as u64));
    let blobs: u64 = blobs.collect::<BTreeMap<_, _>>().into_values().sum();
    (blobs, blobs + images.iter().map(|image| image.bytes.len() as u64).sum::<u64>())
}

/// Waits until the status of the only pair, of the configuration, and the metrics say so many bytes.
async fn shows(scene: &Scene, (moved, stored): (u64, u64)) {
    eventually(SOON, &format!("{moved} bytes moved and {stored} stored are shown"), async || {
        let pair = scene.statuses().await.remove(0).status.unwrap_or_default().summary;
        let configuration = scene.configurations().get("all").await.unwrap().status.unwrap_or_default();
        let destination = configuration.destinations.first().ok_or("no destination")?;
        let summary = configuration.summary.as_ref().ok_or("no summary")?;
        let metrics = scene.operator.metrics().await;
        let labels = format!(
            "{{namespace=\"{}\",name=\"all\",repository=\"app\",destination=\"destination/app\"}}",
            scene.namespace.name
        );
        let metric =
            |name: &str, value: u64| metrics.contains(&format!("transship_pair_{name}_bytes{labels} {value}\n"));
        let seen = [
            (pair.bytes_moved, pair.bytes_stored),
            (destination.bytes_moved, destination.bytes_stored),
            (summary.bytes_moved, summary.bytes_stored),
        ];
        let are_right = seen == [(moved, stored); 3] && metric("moved", moved) && metric("stored", stored);
        if are_right { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

async fn is_counted_and_kept(story: &str, by_job: bool) {
    let (source, destination) = (registry(), registry());
    let images = [image(10), image(20)];
    images.iter().enumerate().for_each(|(number, image)| drop(source.push("app", &format!("v{number}"), image)));
    let mut scene = between(story, &source, &destination, None).await;
    let mut workers = Vec::new();
    let mut channel = None;
    if by_job {
        ask_for(&scene, json!({"mode": "Job"})).await;
        let (system, port) = with_jobs(&mut scene, story).await;
        channel = Some(port);
        scene.start_operator().await;
        workers = run_workers(&scene, &system, 1).await;
    } else {
        scene.start_operator().await;
    }
    is_ready(&scene).await;
    let expected = bytes_of(&images);
    shows(&scene, expected).await;
    drop((workers, channel));

    scene.kill_operator();
    scene.start_operator().await;
    ask_for(&scene, json!({"mode": "InProcess"})).await;
    shows(&scene, expected).await;
    let third = image(30);
    let digest = source.push("app", "v2", &third);
    scene.notify("source", "app", "v2", &digest).await;
    scene.image_becomes("destination/app:v2", ReplicationState::Complete, SOON).await;
    let moved = bytes_of(&[images[0].clone(), images[1].clone(), third]).0;
    // The contents of before are forgotten, their sum is not.
    shows(&scene, (moved, expected.1 + moved - expected.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_once_and_kept_over_a_restart() {
    is_counted_and_kept("usage", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_once_also_where_jobs_copy() {
    is_counted_and_kept("usage-jobs", true).await;
}
