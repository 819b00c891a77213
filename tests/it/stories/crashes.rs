//! The operator is killed at every write, to the API server and to the destination, whose garbage is collected then; the
//! next operator ends where an undisturbed one does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use transship::api::{ReplicationConfiguration, ReplicationRecord};

use super::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::gate::{Closing, Gate, GateProxy};
use crate::support::image::{Blob, Image};
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

/// For a start, a wait for the authority of the process before it, and all copies, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// Operators that run side by side; most of them wait.
const SIDE_BY_SIDE: usize = 5;

/// Tags of a pair that outgrows its status.
const MANY: usize = 300;

/// Returns the distance of the writes at which the operator is killed: `TRANSSHIP_CRASH_STEP`, or 10. With 1 it is killed
/// at every one.
fn step() -> usize {
    std::env::var("TRANSSHIP_CRASH_STEP").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// The images that there are to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// An index of two platforms, and two artifacts that refer to it.
    Signed,
    /// More tags than a status shows.
    Many,
}

/// The places that the operator writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Cluster,
    Destination,
}

/// One write at which an operator is killed.
type Point = (Place, Closing);

/// Two registries, an operator, and the ways to the places where it writes.
struct Site {
    content: Content,
    scene: Scene,
    _source: ScriptedRegistry,
    destination: ScriptedRegistry,
    to_cluster: GateProxy,
    to_destination: GateProxy,
}

/// Everything that a run leaves, without times and random names.
#[derive(Debug, PartialEq)]
struct EndState {
    trees: BTreeMap<String, BTreeSet<String>>,
    contents: BTreeSet<String>,
    /// The digests that each tag ever had.
    moves: BTreeMap<String, BTreeSet<String>>,
    statuses: Vec<Value>,
    recorded: BTreeSet<String>,
    configuration: Value,
}

fn push(source: &ScriptedRegistry, content: Content) {
    match content {
        Content::Signed => {
            let shared = Blob::layer(1, 3_000);
            let platforms = [("linux/amd64", 2), ("linux/arm64", 3)].map(|(platform, seed)| {
                Image::with_layers(seed, platform, vec![shared.clone(), Blob::layer(seed, 2_000)])
            });
            let image = Image::index(platforms.to_vec());
            source.push("app", "v1", &image);
            source.push_untagged("app", &Image::artifact(4, "application/vnd.example.signature", 300, Some(&image)));
            source.push_untagged("app", &Image::artifact(5, "application/spdx+json", 900, Some(&image)));
        }
        Content::Many => {
            let digest = source.push("app", "v0", &Image::single(1, 1, 100));
            (1..MANY).for_each(|tag| source.tag("app", &format!("v{tag}"), &digest));
        }
    }
}

impl Site {
    async fn new(content: Content) -> Self {
        let (source, destination) = (registry(), registry());
        push(&source, content);
        let mut scene = Scene::new("crash").await;
        let to_destination = GateProxy::start(destination.address());
        let to_cluster = GateProxy::in_front_of(scene.plane.server());
        scene.open_registry("source", &source).await;
        scene.allow(&to_destination.host());
        let spec = json!({"url": format!("http://{}", to_destination.host()), "allowHTTP": true});
        scene.registry_object(&scene.namespace.name, "destination", spec).await;
        scene.configure("all", "source", &[to("destination")], None, "24h").await;
        scene.operator.process().api_url = Some(format!("http://{}", to_cluster.host()));
        Self { content, scene, _source: source, destination, to_cluster, to_destination }
    }

    fn spawn(&mut self) {
        let Scene { operator, namespaces, hosts, .. } = &mut self.scene;
        operator.process().spawn(namespaces, hosts);
    }

    /// Waits until the configuration is Ready with all of its images, and the counts of it are published.
    async fn is_done(&self) {
        let images = if self.content == Content::Many { MANY } else { 1 };
        eventually(LONG, "the configuration is Ready with all images", async || {
            let configuration = self.scene.configurations().get("all").await.map_err(|error| error.to_string())?;
            let seen = json!(configuration.status);
            let is_ready = |found: &Value| found["type"] == "Ready" && found["status"] == "True";
            let ready = seen["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(is_ready));
            let complete = seen["summary"]["complete"] == json!(images) && seen["summary"]["images"] == json!(images);
            let shown = self.scene.statuses().await;
            let shown = shown
                .iter()
                .all(|status| status.status.as_ref().is_some_and(|status| status.summary.complete == images as u64))
                && shown.len() == 1;
            let failed = self.scene.images().await.into_values().find_map(|image| image.message);
            if ready && complete && shown { Ok(()) } else { Err(format!("{failed:?}; {seen}")) }
        })
        .await;
    }

    async fn end_state(&self) -> EndState {
        let tags = self.destination.tags("app");
        let conditions = |status: &Value| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.map(|found| json!([found["type"], found["status"], found["reason"]])).collect::<Vec<_>>()
        };
        let shown = |status: &Value| {
            let images = status["images"].as_array().into_iter().flatten();
            let images: BTreeMap<String, Value> = images
                .map(|image| {
                    let kept = ["digest", "status", "bytes", "referrersHash", "failureCode"].map(|field| &image[field]);
                    (image["tag"].to_string(), json!(kept))
                })
                .collect();
            let counts = ["status", "images", "complete", "failed", "skipped", "bytes", "bytesStored"];
            let counts = counts.map(|field| status["summary"][field].clone());
            // Which of many images are shown is not said: all of them are of one second.
            let images = if self.content == Content::Many { json!(images.len() > 100) } else { json!(images) };
            json!({"conditions": conditions(status), "images": images, "summary": counts})
        };
        let statuses = self.scene.statuses().await;
        let records = self.scene.api::<ReplicationRecord>(&self.scene.namespace.name);
        let records = records.list(&ListParams::default()).await.unwrap();
        let rows = records.items.iter().flat_map(|record| &record.spec.rows);
        let configuration: ReplicationConfiguration = self.scene.configurations().get("all").await.unwrap();
        let configuration = json!(configuration.status);
        let counts = ["images", "complete", "failed", "pending", "inProgress", "repositories"];
        // Known from the first copy: another comparison finds nothing new.
        let images = statuses.iter().filter_map(|status| status.status.as_ref()).flat_map(|status| &status.images);
        images.for_each(|image| assert_eq!(image.referrers_hash.is_some(), self.content == Content::Signed));
        EndState {
            trees: tags.keys().map(|tag| (tag.clone(), self.destination.tree("app", tag))).collect(),
            contents: self.destination.contents("app"),
            moves: self
                .destination
                .moves("app")
                .into_iter()
                .map(|(t, moves)| (t, moves.into_iter().collect()))
                .collect(),
            statuses: statuses.iter().map(|status| shown(&json!(status.status))).collect(),
            recorded: rows.map(|row| row.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect(),
            configuration: json!({
                "conditions": conditions(&configuration),
                "summary": counts.map(|field| configuration["summary"][field].clone()),
            }),
        }
    }

    /// A run without a crash. Returns its end, and the numbers of writes to both places.
    async fn undisturbed(mut self) -> (EndState, [usize; 2]) {
        let gates = [Gate::new(Closing::Never), Gate::new(Closing::Never)];
        self.to_cluster.set(&gates[0]);
        self.to_destination.set(&gates[1]);
        self.spawn();
        self.is_done().await;
        (self.end_state().await, gates.map(|gate| gate.writes()))
    }

    /// Kills an operator at each of these writes, one after the other, and lets another one finish. Returns the end, and
    /// how many were killed before all was done.
    async fn killed_at(mut self, points: &[Point]) -> (EndState, usize) {
        let mut killed = 0;
        for (place, closing) in points {
            let (gate, open) = (Gate::new(*closing), Gate::new(Closing::Never));
            let gates = if *place == Place::Cluster { [&gate, &open] } else { [&open, &gate] };
            self.to_cluster.set(gates[0]);
            self.to_destination.set(gates[1]);
            self.spawn();
            tokio::select! {
                () = gate.closed() => killed += 1,
                () = self.is_done() => {}
            }
            self.scene.kill_operator();
            for tag in self.destination.tags("app").keys() {
                self.destination.tree("app", tag); // Whole, whenever it is looked at.
            }
            self.destination.collect_garbage();
        }
        let open = Gate::new(Closing::Never);
        self.to_cluster.set(&open);
        self.to_destination.set(&open);
        self.spawn();
        self.is_done().await;
        (self.end_state().await, killed)
    }
}

/// Kills operators at every `steps`th write to the API server and to the destination.
async fn crash(content: Content, steps: [usize; 2]) {
    let (expected, writes) = Site::new(content).await.undisturbed().await;
    let expected = &expected;
    let places = [(Place::Cluster, steps[0], writes[0]), (Place::Destination, steps[1], writes[1])];
    let points = places.into_iter().flat_map(|(place, step, writes)| {
        let numbers = (1..=writes).step_by(step);
        numbers.flat_map(move |n| [(place, Closing::BeforeWrite(n)), (place, Closing::AfterWrite(n))])
    });
    let points: Vec<Vec<Point>> = points.map(|point| vec![point]).collect();
    println!("{content:?}: {} writes to the cluster, {} to the destination", writes[0], writes[1]);
    end_alike(content, &points, expected).await;
}

/// Every run with these points ends as expected.
async fn end_alike(content: Content, runs: &[Vec<Point>], expected: &EndState) {
    let killed = futures::stream::iter(runs).map(|points| async move {
        let (end, killed) = Site::new(content).await.killed_at(points).await;
        assert_eq!(end.statuses, expected.statuses, "{content:?}, {points:?}");
        assert_eq!(end.configuration, expected.configuration, "{content:?}, {points:?}");
        assert!(end == *expected, "{content:?}, {points:?}: {end:?}");
        killed
    });
    let killed: usize = killed.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await.into_iter().sum();
    let all = runs.iter().map(Vec::len).sum::<usize>();
    println!("{content:?}: killed at {killed} of {all} points in {} runs", runs.len());
    assert!(killed * 2 > all, "{killed} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_at_any_write_of_an_index_ends_the_same() {
    crash(Content::Signed, [step(), step()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_again_while_it_recovers_ends_the_same() {
    let (expected, writes) = Site::new(Content::Signed).await.undisturbed().await;
    let firsts = (1..=writes[1]).step_by(step()).map(|n| (Place::Destination, Closing::AfterWrite(n)));
    let seconds = [(Place::Destination, Closing::AfterWrite(1)), (Place::Cluster, Closing::BeforeWrite(2))];
    let runs = firsts.flat_map(|first| seconds.map(|second| vec![first, second]));
    end_alike(Content::Signed, &runs.collect::<Vec<_>>(), &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_while_a_pair_outgrows_its_status_ends_the_same() {
    crash(Content::Many, [step(), 25 * step()]).await;
}
