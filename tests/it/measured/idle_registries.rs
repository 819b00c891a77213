//! Many Registries cost an idle operator next to nothing.
//!
//! `TRANSSHIP_REGISTRIES=1000` measures with so many; a hundred show the same. `TRANSSHIP_PROGRAM` names another build.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use transship::api::Registry;

use crate::stories::scene::Scene;
use crate::support::eventually::eventually;
use crate::support::memory::processor_time;
use crate::tag_filters::registry;

const LONG: Duration = Duration::from_secs(240);
/// For so long the time of the processor is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// The part of a core of an operator that is built without optimization and checks a hundred Registries in turn.
const MOST: f64 = 0.05;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_many_registries_is_idle() {
    let count = std::env::var("TRANSSHIP_REGISTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let (destination, mut scene) = (registry(), Scene::new("idle-registries").await);
    scene.allow(&destination.host());
    let namespace = scene.namespace.name.clone();
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(20) {
        let make = async |number: &usize| {
            let spec = json!({"url": destination.url(), "allowHTTP": true});
            scene.registry_object(&namespace, &format!("r-{number}"), spec).await;
        };
        join_all(numbers.iter().map(make)).await;
    }
    scene.start_operator().await;
    eventually(LONG, "all are checked", async || {
        let found = scene.api::<Registry>(&namespace).list(&Default::default()).await.unwrap().items;
        let conditions = found.iter().filter_map(|it| it.status.as_ref()).flat_map(|status| &status.conditions);
        let ready = conditions.filter(|it| it.type_ == "Ready" && it.status == "True").count();
        if ready == count { Ok(()) } else { Err(format!("{ready} of {count}")) }
    })
    .await;
    let id = scene.operator.process().running().id();
    let before = processor_time(id);
    tokio::time::sleep(WINDOW).await;
    let used = (processor_time(id) - before) / WINDOW.as_secs_f64();
    println!("{count} Registries: {used:.4} of a core");
    assert!(used <= MOST * (count as f64 / 100.0), "{used} of a core");
}
