//! Courses of events that an operator goes through, and the figures of them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{Config, Event, watcher};
use transship::api::ReplicationStatus;
use transship::terms::ReplicationState;

use super::operator::{Mark, ScaleGround, Taken, configuration_object, registry_object};
use super::{ConfigurationCourse, ImageCourse};
use crate::support::image::{Blob, Image};

/// One line of the result.
#[derive(Debug, Clone)]
pub struct CourseFigure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
}

impl fmt::Display for CourseFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit } = self;
        let digits = if value.fract() == 0.0 { 0 } else { 3 };
        write!(f, "| {name} | {value:.digits$} {unit} |")
    }
}

struct Figures(Vec<CourseFigure>);

impl Figures {
    /// Prints a figure at once: a course may take long.
    fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        let figure = CourseFigure { name, value, unit };
        println!("{figure}");
        self.0.push(figure);
    }
}

/// A first fill, a comparison in the process that filled, a restart, a push right after one more restart, and a
/// comparison in a fresh process.
pub async fn images(course: ImageCourse) -> Vec<CourseFigure> {
    let (mut figures, images) = (Figures(Vec::new()), course.images() as f64);
    let mut ground = ScaleGround::new("scale", course.destinations).await;
    fill(&ground, course);
    ground.start();
    ground.is_ready().await;
    let names: Vec<String> = (0..course.destinations).map(|number| format!("d{number}")).collect();
    let mut objects: Vec<_> = ground.notifying("source").into();
    objects.extend(names.iter().zip(&ground.destinations).map(|(name, to)| registry_object(name, &to.url())));
    objects.push(configuration_object("all", ("app-", "PREFIX_MATCH"), &names));

    let filled = filled(&ground, &objects, course.images()).await;
    figures.add("backfill: images a second", images / filled.seconds, "");
    figures.add("backfill: seconds", filled.seconds, "s");
    figures.add("backfill: operator CPU an image", 1e3 * filled.cpu / images, "ms");
    figures.add("backfill: API writes an image", filled.writes as f64 / images, "");
    figures.add("backfill: API writes", filled.writes as f64, "");
    figures.add("backfill: API writes a second", filled.writes as f64 / filled.seconds, "");
    figures.add("backfill: API writes in the busiest second", filled.peak_writes as f64, "");
    figures.add("backfill: requests to the source an image", filled.source as f64 / images, "");
    figures.add("backfill: requests to destinations an image", filled.destination as f64 / images, "");
    figures.add("backfill: memory at its peak", ground.memory().1, "MiB");
    ground.is_quiet().await;
    figures.add("at rest: memory", ground.memory().0, "MiB");

    let mark = ground.mark();
    ground.compare("all").await;
    let warm = ground.since(&mark);
    figures.add("warm comparison: CPU, in the process that filled", warm.cpu, "s");
    figures.add("warm comparison: seconds", warm.seconds, "s");
    figures.add("warm comparison: requests to the source", warm.source as f64, "");
    figures.add("warm comparison: requests to destinations", warm.destination as f64, "");

    if course.images() >= AT_SIZE {
        let taken = ground.compare_by_interval("all").await;
        figures.add("a minute at an interval of 30s: CPU", taken.cpu, "s");
        figures.add("a minute at an interval of 30s: requests to the source", taken.source as f64, "");
    }

    let mark = restarted(&mut ground, &mut figures).await;
    for write in ground.writes(&mark).iter().take(5) {
        eprintln!("a write after the restart: {} {}", write.verb, write.request_uri);
    }

    let mark = ground.mark();
    ground.compare("all").await;
    figures.add("warm comparison: CPU, in a fresh process", ground.since(&mark).cpu, "s");
    ground.is_quiet().await;

    let (arrived, shown) = pushed(&mut ground).await;
    figures.add("restart: first push is at the destination", arrived, "s");
    figures.add("restart: first push is COMPLETE in the status", shown, "s");
    figures.0
}

/// Kills the operator when it is quiet and starts it again: adds what that costs until it is quiet, though the source is
/// swept on. Returns the mark of the start.
async fn restarted(ground: &mut ScaleGround, figures: &mut Figures) -> Mark {
    ground.is_quiet().await;
    let before = statuses(ground).await;
    ground.kill();
    let mark = ground.mark();
    ground.start();
    ground.is_ready().await;
    figures.add("restart: seconds until it is ready", ground.since(&mark).seconds, "s");
    ground.is_quiet().await;
    let taken = ground.since(&mark);
    figures.add("restart: seconds of the figures below", taken.seconds, "s");
    figures.add("restart: CPU", taken.cpu, "s");
    figures.add("restart: API writes", taken.writes as f64, "");
    figures.add("restart: requests to the source", taken.source as f64, "");
    figures.add("restart: requests to destinations", taken.destination as f64, "");
    let changed = statuses(ground).await.iter().filter(|(name, version)| before.get(*name) != Some(version)).count();
    figures.add("restart: statuses that changed", changed as f64, "");
    let (now, peak) = ground.memory();
    figures.add("restart: memory", now, "MiB");
    figures.add("restart: memory at its peak", peak, "MiB");
    mark
}

/// Kills the operator, pushes, starts it, and returns the seconds after which the push is at the first destination and
/// in the status.
async fn pushed(ground: &mut ScaleGround) -> (f64, f64) {
    let api: Api<ReplicationStatus> = Api::namespaced(ground.namespace.client.clone(), &ground.namespace.name);
    let name = status_of(&api, FIRST).await;
    ground.kill();
    let digest = ground.source.push(FIRST, "pushed", &Image::single(u64::MAX, 1, 100));
    let began = Instant::now();
    ground.start();
    ground.notify("source", FIRST, "pushed", &digest).await;
    let to = &ground.destinations[0];
    let arrived = async {
        ground.until("the push is there", async || to.digest(FIRST, "pushed").is_some()).await;
        began.elapsed().as_secs_f64()
    };
    let shown = async {
        ground
            .until("the status shows the push", async || {
                let status = api.get(&name).await.ok().and_then(|object| object.status).unwrap_or_default();
                status.images.iter().any(|image| image.tag == "pushed" && image.status == ReplicationState::Complete)
            })
            .await;
        began.elapsed().as_secs_f64()
    };
    tokio::join!(arrived, shown)
}

async fn status_of(api: &Api<ReplicationStatus>, repository: &str) -> String {
    let found = api.list(&ListParams::default()).await.expect("statuses").items;
    let of = found.iter().find(|object| object.spec.source.repository == repository);
    of.expect("a status of the repository").name_any()
}

/// Many configurations that have little to do.
pub async fn configurations(course: ConfigurationCourse) -> Vec<CourseFigure> {
    let mut figures = Figures(Vec::new());
    let mut ground = ScaleGround::new("scale-idle", 1).await;
    for number in 0..course.configurations {
        ground.source.push(&format!("app-{number:05}"), "v0", &Image::single(number as u64, 1, 100));
    }
    let url = ground.destinations[0].url();
    let mut objects: Vec<_> = ground.notifying("source").into();
    objects.extend((0..course.registries).map(|number| registry_object(&format!("d{number}"), &url)));
    ground.start();
    ground.is_ready().await;
    ground.create(&objects).await;
    let mark = ground.mark();
    let objects: Vec<_> = (0..course.configurations)
        .map(|number| {
            let (name, to) = (format!("app-{number:05}"), format!("d{}", number % course.registries));
            configuration_object(&name, (&name, "EXACT_MATCH"), &[to])
        })
        .collect();
    ground.create(&objects).await;
    figures.add("configurations: seconds to create them", ground.since(&mark).seconds, "s");
    are_ready(&ground, course.configurations).await;
    let ready = ground.since(&mark);
    figures.add("configurations: seconds until all are Ready", ready.seconds, "s");
    figures.add("configurations: CPU of one", 1e3 * ready.cpu / course.configurations as f64, "ms");
    figures.add("configurations: API writes of one", ready.writes as f64 / course.configurations as f64, "");
    figures.add("configurations: memory at its peak", ground.memory().1, "MiB");
    tokio::time::sleep(SETTLING).await;
    let mark = ground.mark();
    tokio::time::sleep(IDLE).await;
    let idle = ground.since(&mark);
    figures.add("idle: cores", idle.cpu / idle.seconds, "");
    figures.add("idle: API writes", idle.writes as f64, "");
    figures.add("idle: memory", ground.memory().0, "MiB");
    let digest = ground.source.push(FIRST_ALONE, "pushed", &Image::single(u64::MAX, 1, 100));
    let began = Instant::now();
    ground.notify("source", FIRST_ALONE, "pushed", &digest).await;
    let to = &ground.destinations[0];
    ground.until("the push is there", async || to.digest(FIRST_ALONE, "pushed").is_some()).await;
    figures.add("one push: seconds", began.elapsed().as_secs_f64(), "s");
    restarted(&mut ground, &mut figures).await;
    figures.0
}

async fn are_ready(ground: &ScaleGround, configurations: usize) {
    let api = ground.configurations();
    ground
        .until("all are Ready", async || {
            let mut ready = 0;
            let mut page = ListParams::default().limit(500);
            loop {
                let found = api.list(&page).await.expect("configurations");
                let conditions = found.items.iter().filter_map(|object| object.status.as_ref());
                ready += conditions
                    .flat_map(|status| &status.conditions)
                    .filter(|it| it.type_ == "Ready" && it.status == "True")
                    .count();
                match found.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = ListParams::default().limit(500).continue_token(&token),
                    None => break,
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            ready == configurations
        })
        .await;
}

/// Returns the version of each status.
async fn statuses(ground: &ScaleGround) -> BTreeMap<String, String> {
    let api: Api<ReplicationStatus> = Api::namespaced(ground.namespace.client.clone(), &ground.namespace.name);
    let mut versions = BTreeMap::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let found = api.list_metadata(&page).await.expect("statuses");
        versions.extend(found.items.iter().map(|it| (it.name_any(), it.resource_version().unwrap_or_default())));
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(500).continue_token(&token),
            None => return versions,
        }
    }
}

/// Applies objects, and waits until so many images are COMPLETE in the statuses.
async fn filled(ground: &ScaleGround, objects: &[serde_json::Value], images: usize) -> Taken {
    let statuses: Api<ReplicationStatus> = Api::namespaced(ground.namespace.client.clone(), &ground.namespace.name);
    // An event for each pair that comes to rest, and none for what is under way.
    let mut events = pin!(watcher(statuses, Config::default().fields("status.summary.status=COMPLETE")));
    while !matches!(events.try_next().await.expect("a watch"), Some(Event::InitDone)) {}
    let mut complete: BTreeMap<String, u64> = BTreeMap::new();
    let mark = ground.mark();
    ground.create(objects).await;
    let all = async {
        while complete.values().sum::<u64>() < images as u64 {
            if let Some(Event::Apply(status) | Event::InitApply(status)) = events.try_next().await.expect("a watch") {
                let counted = status.status.as_ref().map_or(0, |status| status.summary.complete);
                complete.insert(status.name_any(), counted);
            }
        }
    };
    tokio::time::timeout(FILLING, all).await.expect("all images are COMPLETE in time");
    ground.since(&mark)
}

fn fill(ground: &ScaleGround, course: ImageCourse) {
    for repository in 0..course.repositories {
        for tag in 0..course.tags {
            let seed = (repository * course.tags + tag) as u64;
            let image = Image::with_layers(seed, "linux/amd64", vec![Blob::layer(seed, 100)]);
            ground.source.push(&format!("app-{repository:04}"), &format!("v{tag}"), &image);
        }
    }
}

const FIRST: &str = "app-0000";
const FIRST_ALONE: &str = "app-00000";
const SETTLING: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(20);
/// The images from which on comparisons by the interval are measured: they take a minute.
const AT_SIZE: usize = 10_000;
const FILLING: Duration = Duration::from_secs(1_800);
