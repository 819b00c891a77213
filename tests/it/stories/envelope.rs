//! Bounds on the statuses that a source makes the operator write.

use std::time::Duration;

use transship::api::ReplicationConfiguration;

use super::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_many_repositories_makes_few_objects_and_all_arrives() {
    let (source, destination) = (registry(), registry());
    for repository in 0..12 {
        source.push(&format!("app-{repository}"), "v1", &Image::single(repository, 1, 100));
    }
    let mut scene = Scene::new("envelope").await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("source", &source).await;
    scene.open_registry("destination", &destination).await;
    scene.configure("all", "source", &[to("destination")], None, "24h").await;
    let bounds = ["--max-statuses-per-configuration", "5"].map(str::to_owned);
    scene.operator.process().arguments.extend(bounds);
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SOON).await;
    let (kind, reason) = ("EnvelopeExceeded", "TooManyPairs");
    let message = scene.condition::<ReplicationConfiguration>(&namespace, "all", kind, "True", reason, SOON).await;
    assert!(message.contains("5 of a configuration"), "{message}");
    assert_eq!(scene.statuses().await.len(), 5);
    assert!((0..12).all(|n| destination.tags(&format!("app-{n}")).contains_key("v1")));
    let status = scene.configurations().get("all").await.unwrap().status.unwrap_or_default();
    assert_eq!(status.summary.map(|summary| summary.complete), Some(12), "the summary counts all");
    // A tag that moves is replicated with or without a status.
    for repository in 0..12 {
        source.push(&format!("app-{repository}"), "v1", &Image::single(100 + repository, 1, 100));
    }
    scene.compared_again("all", "again").await;
    eventually(SOON, "every tag has moved", async || {
        (0..12).all(|n| destination.tags(&format!("app-{n}")) == source.tags(&format!("app-{n}")))
    })
    .await;
    assert_eq!(scene.statuses().await.len(), 5);

    // A bound that is lowered takes away what would be out of date.
    scene.end_operator().await;
    *scene.operator.process().arguments.last_mut().unwrap() = "2".to_owned();
    scene.start_operator().await;
    for repository in 0..12 {
        source.push(&format!("app-{repository}"), "v2", &Image::single(200 + repository, 1, 100));
    }
    scene.compared_again("all", "lower").await;
    eventually(SOON, "two statuses are left, and show the push", async || {
        let left = scene.statuses().await;
        let counts: Vec<_> =
            left.iter().map(|object| object.status.as_ref().map(|status| status.summary.images)).collect();
        if counts == [Some(2), Some(2)] { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    let status = scene.configurations().get("all").await.unwrap().status.unwrap_or_default();
    assert_eq!(status.summary.map(|summary| summary.images), Some(24), "the summary counts all");
}
