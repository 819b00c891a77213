//! Known tags are looked at within the budget of their host, whatever the interval is.

use std::time::{Duration, Instant};

use serde_json::json;
use transship::terms::ReplicationState;

use crate::stories::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::fixtures::aliases;
use crate::support::image::Image;
use crate::support::registry::{AccessLine, TestRegistry};
use crate::support::turns::turn;

const TAGS: usize = 400;
const LOOKS_A_SECOND: usize = 10;
/// The looks that a pause saves up.
const SAVED: usize = 10 * LOOKS_A_SECOND;
const LONG: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn known_tags_cost_their_budget_and_one_that_moves_arrives() {
    let _turn = turn().await;
    let source = TestRegistry::distribution("sweeps-source").start().await;
    let destination = TestRegistry::distribution("sweeps-destination").start().await;
    aliases(TAGS, 1, 2_000).push(&source.pusher()).await;
    let mut scene = Scene::new("sweeps").await;
    scene.allow(&source.host());
    let namespace = scene.namespace.name.clone();
    let limits = json!({"sweepRequestsPerSecond": LOOKS_A_SECOND});
    let spec = json!({"url": source.url(), "allowHTTP": true, "limits": limits});
    scene.registry_object(&namespace, "source", spec).await;
    scene.registry(&namespace, "d", &destination, None).await;
    let filter = json!([{"filter": "app", "filterType": "EXACT_MATCH"}]);
    scene.configure("all", "source", &[to("d")], Some(filter), "10s").await;
    scene.start_operator().await;
    eventually(LONG, "every tag arrives", async || destination.pusher().tags("app").await.len() == TAGS).await;

    let (began, seen) = (Instant::now(), source.access_log().len());
    eventually(LONG, "comparisons go on", async || count(&source, seen, is_list) >= 4).await;
    let (looks, lists) = (count(&source, seen, is_look), count(&source, seen, is_list));
    // The comparison of the first copies may still have looked at its last tags.
    let most = SAVED + LOOKS_A_SECOND * (began.elapsed().as_secs() as usize + 2);
    println!("{looks} looks at {TAGS} tags in {lists} comparisons, {:?}", began.elapsed());
    assert!(looks <= most, "{looks} looks, of {most}");

    let image = |seed| Image::single(seed, 1, 2_000);
    let moved = source.pusher().push("app", "v7", &image(901)).await;
    let new = source.pusher().push("app", "new", &image(902)).await;
    let pusher = destination.pusher();
    let began = Instant::now();
    eventually(LONG, "the new tag arrives", async || pusher.digest_of("app", "new").await == Some(new.clone())).await;
    println!("the new tag arrives after {:?}", began.elapsed());
    eventually(LONG, "the moved tag arrives", async || pusher.digest_of("app", "v7").await == Some(moved.clone()))
        .await;
    println!("the moved tag arrives after {:?}", began.elapsed());
    source.pusher().push("app", "newer", &image(903)).await;
    eventually(LONG, "the status shows how long a sweep takes", async || {
        let status = scene.configurations().get_status("all").await.unwrap().status.unwrap_or_default();
        status.summary.and_then(|summary| summary.sweep).ok_or("it shows none")
    })
    .await;
    scene.image_becomes("d/app:newer", ReplicationState::Complete, LONG).await;
}

fn count(registry: &TestRegistry, seen: usize, is_meant: fn(&AccessLine) -> bool) -> usize {
    registry.access_log().split_off(seen).iter().filter(|line| is_meant(line)).count()
}

fn is_look(line: &AccessLine) -> bool {
    line.method == "HEAD" && line.path.contains("/manifests/")
}

fn is_list(line: &AccessLine) -> bool {
    line.path.contains("/tags/list")
}
