//! Dates of images cost requests once: a later comparison asks for no more than one without dates.

use serde_json::json;
use transship::api::ReplicationConfiguration;

use crate::stories::core::between;
use crate::stories::scene::Scene;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

use std::time::Duration;

use kube::api::{Patch, PatchParams};

const SOON: Duration = Duration::from_secs(60);
const TAGS: u64 = 20;

async fn replicating(story: &str, newest: bool) -> (Scene, ScriptedRegistry) {
    let (source, destination) = (registry(), registry());
    for seed in 0..TAGS {
        let image = Image::single(seed, 1, 1_000).created_at(&format!("2024-01-{:02}T00:00:00Z", seed + 1));
        source.push("app", &format!("v{seed}"), &image);
    }
    let mut scene = between(story, &source, &destination, None).await;
    if newest {
        let configurations = scene.configurations();
        let mut rules = serde_json::to_value(configurations.get("all").await.unwrap().spec.rules.clone()).unwrap();
        rules[0]["newest"] = json!({"count": TAGS / 2, "by": "Created"});
        let patch = Patch::Merge(json!({"spec": {"rules": rules}}));
        configurations.patch("all", &PatchParams::default(), &patch).await.unwrap();
    }
    scene.start_operator().await;
    let namespace = scene.namespace.name.clone();
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SOON).await;
    eventually(SOON, "all is copied", async || destination.tags("app").len() as u64 >= TAGS / 2).await;
    (scene, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_cost_nothing_after_the_first_comparison() {
    let mut requests = Vec::new();
    for newest in [false, true] {
        let (scene, source) = replicating(&format!("dates-{newest}"), newest).await;
        scene.compared_again("all", "once").await;
        let before = source.log().len();
        scene.compared_again("all", "twice").await;
        requests.push(source.log().len() - before);
    }
    println!("a warm comparison of {TAGS} tags: {} requests, with newest by Created {}", requests[0], requests[1]);
    assert!(requests[1] <= requests[0], "{requests:?}");
}
