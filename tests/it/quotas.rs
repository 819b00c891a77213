//! Quotas that a registry states in its answers: work slows down before they are used up.

use std::time::Duration;

use transship::api::Registry;

use crate::stories::core::between;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{Login, Personality, ScriptedRegistry};
use crate::tag_filters::{files, registry, sync};

const IMAGES: u64 = 30;

/// Returns a registry that takes ten GETs of manifests in two seconds, as Docker Hub takes a hundred in six hours, with
/// more images than that.
fn small_hub() -> ScriptedRegistry {
    let personality =
        Personality { manifest_gets: Some(10), quota_window: 2, login: Login::Anonymous, ..Personality::plain() };
    let source = ScriptedRegistry::start(personality);
    (0..IMAGES).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
    source
}

fn was_never_overrun(source: &ScriptedRegistry) {
    let statuses: Vec<_> = source.log().iter().map(|seen| seen.status).filter(|status| *status == 429).collect();
    assert_eq!(statuses.len(), 0, "of {} GETs of manifests", source.count("GET", "/manifests/"));
    assert!(source.count("GET", "/manifests/") as u64 >= IMAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_from_a_small_docker_hub_never_meets_a_429() {
    let (source, destination) = (small_hub(), registry());
    sync(&files("small-hub", &source, &[&destination]), 0).await;
    was_never_overrun(&source);
    assert_eq!(destination.tags("app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_shows_the_quota_of_a_small_docker_hub_and_keeps_to_it() {
    let (source, destination) = (small_hub(), registry());
    let mut scene = between("small-hub", &source, &destination, None).await;
    scene.start_operator().await;
    eventually(Duration::from_secs(60), "all images arrive", async || {
        let arrived = destination.tags("app").len() as u64;
        if arrived == IMAGES { Ok(()) } else { Err(arrived) }
    })
    .await;
    was_never_overrun(&source);
    let registries = scene.api::<Registry>(&scene.namespace.name);
    eventually(Duration::from_secs(90), "the status shows the quota", async || {
        let quota = registries.get("source").await.unwrap().status.unwrap_or_default().quota;
        match quota {
            Some(quota) if (quota.limit, quota.window_seconds) == (10, 2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
