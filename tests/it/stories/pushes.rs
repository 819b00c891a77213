//! Tags are pushed all the time while the source is compared: no tag of the destination ever goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::support::turns::turn;
use crate::tag_filters::registry;

pub(super) const REPOSITORIES: u64 = 4;
const TAGS: u64 = 200;
const PUSH_EVERY: Duration = Duration::from_millis(10);
/// A request stops the comparison before it.
const COMPARE_EVERY: Duration = Duration::from_millis(1_500);
const LATE: Duration = Duration::from_millis(400);
const SETTLED: Duration = Duration::from_secs(60);

/// Returns the time for which tags are pushed: in seconds, `TRANSSHIP_PUSH_SECONDS` or 15.
fn duration() -> Duration {
    let seconds = std::env::var("TRANSSHIP_PUSH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tag_goes_back_while_pushes_and_comparisons_cross() {
    let _turn = turn().await;
    let (source, destination) = (Arc::new(registry()), registry());
    let mut scene = Scene::new("pushes").await;
    scene.open_registry("source", &source).await;
    scene.open_registry("destination", &destination).await;
    scene.take_notifications("source").await;
    scene.configure("all", "source", &[to("destination")], None, "10s").await;
    scene.start_operator().await;
    let namespace = scene.namespace.name.clone();
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SETTLED).await;
    // Every second answer about some of the tags is overtaken by later ones.
    for (method, number) in
        ["HEAD", "GET"].into_iter().flat_map(|method| (1..1_000).step_by(2).map(move |n| (method, n)))
    {
        source.fault(When::asked(method, "/manifests/v7").nth(number), ScriptedFault::AnswerLate(LATE));
    }
    let before = cpu_seconds(&mut scene);
    let scene = Arc::new(scene);
    let comparisons = tokio::spawn(compare_again_and_again(scene.clone()));
    let began = Instant::now();
    let pushes = push(&scene, &source).await;
    let pushed_for = began.elapsed();
    comparisons.abort();
    let _ = comparisons.await;

    let wanted = tags(&source);
    eventually(SETTLED, "the destination has the newest image of every tag", async || {
        let behind = tags(&destination).iter().filter(|(tag, digest)| wanted[*tag] != **digest).count();
        let missing = wanted.len() - tags(&destination).len();
        if behind + missing == 0 { Ok(()) } else { Err(format!("{missing} are missing, {behind} are behind")) }
    })
    .await;
    let settled_after = began.elapsed() - pushed_for;
    eventually(SETTLED, "the statuses say COMPLETE with the newest digests", async || {
        let images = scene.images().await;
        let is_newest = |(tag, digest): &(&String, &String)| {
            images
                .get(&format!("destination/{tag}"))
                .is_some_and(|image| image.status == ReplicationState::Complete && image.digest == **digest)
        };
        let complete = wanted.iter().filter(is_newest).count();
        if (complete, images.len()) == (wanted.len(), wanted.len()) { Ok(()) } else { Err(format!("{complete}")) }
    })
    .await;
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SETTLED).await;

    let (copies, went_back) = moves(&source, &destination);
    let mut scene = Arc::into_inner(scene).expect("the comparisons have ended");
    let cpu = cpu_seconds(&mut scene) - before;
    let comparisons = scene.operator.counter("transship_comparisons_total").await;
    println!(
        "{pushes} pushes, {:.0}/s, {comparisons} comparisons, {copies} tags written, {} went back, settled {settled_after:?} later, {:.2} ms CPU a push",
        pushes as f64 / pushed_for.as_secs_f64(),
        went_back.len(),
        cpu * 1e3 / pushes as f64,
    );
    assert!(comparisons > 2, "{comparisons} comparisons came to an end");
    assert!(went_back.is_empty(), "{went_back:#?}");
}

/// Pushes to random tags, and notifies each push: before it, after it, twice, or later than the next ones. Returns the
/// number of pushes.
async fn push(scene: &Arc<Scene>, source: &Arc<ScriptedRegistry>) -> u64 {
    let mut ticks = tokio::time::interval(PUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut pushes, mut notifications, mut random) = (Instant::now(), 0, JoinSet::new(), 7_u64);
    while began.elapsed() < duration() {
        ticks.tick().await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (random >> 33) % TAGS;
        let (repository, tag) = (format!("app-{}", number % REPOSITORIES), format!("v{number}"));
        let image = Image::single(1_000_000 + 10 * pushes, 1, 200);
        let digest = image.digest();
        let notify = |delay: u64| {
            let (scene, repository, tag, digest) = (scene.clone(), repository.clone(), tag.clone(), digest.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                scene.notify("source", &repository, &tag, &digest).await;
            }
        };
        match (random >> 20) % 8 {
            0 => {
                notify(0).await;
                source.push(&repository, &tag, &image);
            }
            way => {
                source.push(&repository, &tag, &image);
                let late = (random >> 40) % 1_000;
                notifications.spawn(notify(if way == 1 { late } else { 0 }));
                if way == 2 {
                    notifications.spawn(notify(late));
                }
            }
        }
        pushes += 1;
        while notifications.try_join_next().is_some() {}
    }
    notifications.join_all().await;
    pushes
}

async fn compare_again_and_again(scene: Arc<Scene>) {
    for number in 0.. {
        scene.request_comparison("all", &format!("comparison-{number}")).await;
        tokio::time::sleep(COMPARE_EVERY).await;
    }
}

pub(super) fn repositories() -> impl Iterator<Item = String> {
    (0..REPOSITORIES).map(|number| format!("app-{number}"))
}

/// Returns the digest of each `repository:tag`.
pub(super) fn tags(registry: &ScriptedRegistry) -> BTreeMap<String, String> {
    let tags = repositories().flat_map(|repository| {
        registry.tags(&repository).into_iter().map(move |(tag, digest)| (format!("{repository}:{tag}"), digest))
    });
    tags.collect()
}

/// Counts the tags that were written, and names those of which a write was older than an earlier one.
fn moves(source: &ScriptedRegistry, destination: &ScriptedRegistry) -> (usize, Vec<String>) {
    let (mut copies, mut went_back) = (0, Vec::new());
    for repository in repositories() {
        let pushed = source.moves(&repository);
        for (tag, written) in destination.moves(&repository) {
            copies += written.len();
            let order = written.iter().map(|digest| pushed[&tag].iter().position(|pushed| pushed == digest));
            let order: Vec<Option<usize>> = order.collect();
            if !order.is_sorted() {
                went_back.push(format!("{repository}:{tag}: {order:?}"));
            }
        }
    }
    (copies, went_back)
}

/// Returns the CPU time that the operator has taken.
fn cpu_seconds(scene: &mut Scene) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", scene.operator.process().running().id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..=12].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
