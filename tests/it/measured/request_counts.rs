//! Requests of a copy stay close to the least that it takes: a guard on requests and bytes, not on time.
//!
//! Each check runs with `sync` here, and with an operator in `operator_requests`.

use std::time::Duration;

use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;

use crate::standalone::{Files, text};
use crate::stories::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::fixtures::{
    ExpectedContents, Fixture, FixtureRepository, KIB, MIB, aliases, changed_platform_image, multi_platform, plain_tar,
    shared_bases, signed, small_tags,
};
use crate::support::image::Image;
use crate::support::registry::{AccessLine, TestRegistry};
use crate::support::requests::{Requests, Traffic};
use crate::tag_filters;

/// The program that replicates.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// `transship sync`.
    Sync,
    /// An operator on the shared API server, whose execution is InProcess.
    Operator,
}

/// A program that replicates, with the objects that configure it.
enum Replicator {
    Sync(Files),
    Operator { scene: Box<Scene>, runs: u32 },
}

/// A source with a fixture, destinations, and a replicator between them.
struct CountedReplication {
    source: TestRegistry,
    destinations: Vec<TestRegistry>,
    replicator: Replicator,
    contents: ExpectedContents,
}

impl CountedReplication {
    async fn of(by: By, name: &str, fixture: &Fixture, destinations: usize) -> Self {
        let source = TestRegistry::distribution(&format!("{name}-source")).start().await;
        fixture.push(&source.pusher()).await;
        let mut started = Vec::new();
        for number in 0..destinations {
            started.push(TestRegistry::distribution(&format!("{name}-destination-{number}")).start().await);
        }
        let names = fixture.repositories.iter().map(|repository| &repository.name);
        let filters = names.map(|name| json!({"filter": name, "filterType": "EXACT_MATCH"})).collect();
        let replicator = match by {
            By::Sync => Replicator::Sync(files(name, &source, &started, filters)),
            By::Operator => {
                Replicator::Operator { scene: Box::new(scene(name, &source, &started, filters).await), runs: 0 }
            }
        };
        Self { source, destinations: started, replicator, contents: fixture.contents() }
    }

    /// Replicates once, sees that everything has arrived, and counts the requests to both sides.
    async fn replicate(&mut self) -> Traffic {
        let seen = settled(&self.source).await.len();
        let mut seen_there = Vec::new();
        for destination in &self.destinations {
            seen_there.push(settled(destination).await.len());
        }
        self.replicator.run().await;
        let source = self.replicator.counted(settled(&self.source).await.split_off(seen));
        let mut there = Vec::new();
        for (destination, seen) in self.destinations.iter().zip(seen_there) {
            there.push(self.replicator.counted(settled(destination).await.split_off(seen)));
            self.contents.verify(&destination.pusher()).await.unwrap();
        }
        Traffic::of(&source, &there, &self.contents)
    }

    /// The first run, into empty registries: no more than a twentieth over the least, each blob once over the line, and
    /// each thing looked at once to read it back.
    async fn cold(&mut self) -> Traffic {
        let mut least = Traffic::least_cold(&self.contents, self.destinations.len());
        // Whether the repository is absent decides whether consent to create it is needed.
        least.destination.get += self.contents.repositories.len() * self.destinations.len();
        // What a list of referrers holds is read before it is replaced.
        least.destination.get += self.contents.lists() * self.destinations.len();
        let traffic = self.replicate().await;
        let checks = Traffic::most_checks(&self.contents, self.destinations.len());
        assert!(
            traffic.source.is_within(&least.source) && traffic.destination.is_within(&least.destination),
            "{traffic:#?}\nshould be close to {least:#?}"
        );
        assert!(traffic.verification.total() <= checks, "{checks} looks are enough: {traffic:#?}");
        assert_eq!((traffic.uploaded, traffic.mounts), (least.uploaded, least.mounts), "each blob arrives once");
        traffic
    }

    /// Does the same, from a source that sends each blob once.
    async fn cold_read_once(&mut self) -> Traffic {
        let traffic = self.cold().await;
        assert_eq!(traffic.moved, self.contents.unique_bytes(), "the source sends each blob once");
        traffic
    }
}

impl Replicator {
    /// A first run, or one more comparison, to its end.
    async fn run(&mut self) {
        match self {
            Self::Sync(files) => {
                let output = files.run("sync", &["--state", &files.state()]).await;
                assert!(output.status.success(), "{}", text(&output));
            }
            Self::Operator { scene, runs: 0 } => scene.start_operator().await,
            Self::Operator { scene, runs } => scene.compared_again(CONFIGURATION, &format!("run-{runs}")).await,
        }
        if let Self::Operator { scene, runs } = self {
            let namespace = &scene.namespace.name;
            scene
                .condition::<ReplicationConfiguration>(namespace, CONFIGURATION, "Ready", "True", "Replicated", WHOLE)
                .await;
            *runs += 1;
        }
    }

    /// Leaves out the requests by which an operator checks every Registry once a minute.
    fn counted(&self, mut log: Vec<AccessLine>) -> Vec<AccessLine> {
        if matches!(self, Self::Operator { .. }) {
            log.retain(|access| (access.method.as_str(), access.path.as_str()) != ("GET", "/v2/"));
        }
        log
    }
}

fn files(name: &str, source: &TestRegistry, destinations: &[TestRegistry], filters: Vec<Value>) -> Files {
    let mut files = Files::new(name);
    let registry = |registry: &TestRegistry| json!({"url": registry.url(), "allowHTTP": true});
    files.add("Registry", json!({"namespace": "team-a", "name": "source"}), registry(source));
    let mut references = Vec::new();
    for (number, destination) in destinations.iter().enumerate() {
        let to = format!("destination-{number}");
        files.add("Registry", json!({"namespace": "team-a", "name": to}), registry(destination));
        references.push(json!({"registryRef": {"name": to}}));
    }
    let rules = json!([{"name": "all", "repositoryFilters": filters, "destinations": references}]);
    let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
    files.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": CONFIGURATION}), spec);
    files
}

async fn scene(name: &str, source: &TestRegistry, destinations: &[TestRegistry], filters: Vec<Value>) -> Scene {
    let mut scene = Scene::new(name).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", source, None).await;
    let mut references = Vec::new();
    for (number, destination) in destinations.iter().enumerate() {
        let name = format!("destination-{number}");
        scene.registry(&namespace, &name, destination, None).await;
        references.push(to(&name));
    }
    scene.configure(CONFIGURATION, "source", &references, Some(filters.into()), "24h").await;
    scene
}

const CONFIGURATION: &str = "all";
/// The most time that a fixture takes.
const WHOLE: Duration = Duration::from_secs(60);

/// Returns the log once nothing is added to it any more: a line is written just after its answer.
async fn settled(registry: &TestRegistry) -> Vec<AccessLine> {
    let mut last = registry.access_log();
    eventually(Duration::from_secs(10), "the log is written", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = std::mem::replace(&mut last, registry.access_log());
        before.len() == last.len()
    })
    .await;
    last
}

impl Requests {
    /// Checks that this is at most a twentieth more than the least, in reads and in each method that writes.
    fn is_within(&self, least: &Self) -> bool {
        let within = |found: usize, least: usize| found <= least + least.div_ceil(20);
        within(self.get + self.head, least.get + least.head)
            && within(self.post, least.post)
            && within(self.put, least.put)
            && self.patch + self.delete + self.errors == 0
    }
}

/// Images of several platforms; then nothing changes; then a tag moves to an image of which one platform changed.
pub async fn images_of_several_platforms(by: By, name: &str) {
    let (layer, tags) = (MIB + KIB, 8);
    let fixture = multi_platform(tags, layer);
    let mut ground = CountedReplication::of(by, name, &fixture, 1).await;
    ground.cold_read_once().await;
    let warm = Traffic::least_warm(&ground.contents);
    assert_eq!(ground.replicate().await, warm, "nothing changed: a page of tags and one look at each");

    let before = ground.contents.clone();
    let changed = changed_platform_image(&fixture, 3, layer);
    let pushed = Fixture { repositories: vec![of_one_tag("v3", changed)] };
    pushed.push(&ground.source.pusher()).await;
    ground.contents.repositories.get_mut("app").unwrap().take(&pushed.contents().repositories["app"]);
    let (one, least) = (ground.replicate().await, Traffic::least_changed(&before, &ground.contents));
    assert_eq!((one.moved, one.uploaded), (least.moved, least.uploaded), "only what is new crosses: {one:#?}");
    let (source, destination) = (least.source.total(), least.destination.total());
    assert!(one.source.total() <= source + EXTRA_AT_SOURCE, "{source} are the least: {one:#?}");
    assert!(one.destination.total() <= destination + EXTRA_AT_DESTINATION, "{destination} are the least: {one:#?}");
    assert!(one.verification.total() <= Traffic::most_checks(&pushed.contents(), 1), "{one:#?}");
}

/// The manifest of the other platform, which did not change, and once a process whether there is a referrers API.
const EXTRA_AT_SOURCE: usize = 2;
/// Requests of a new process about an image that may share blobs with those that are there: the tag, the other
/// platform's manifest, and its ten blobs.
const EXTRA_AT_DESTINATION: usize = 13;

fn of_one_tag(tag: &str, image: Image) -> FixtureRepository {
    FixtureRepository { name: "app".to_owned(), tags: vec![(tag.to_owned(), image)], referrers: Vec::new() }
}

/// Small images, once.
pub async fn small_images(by: By, name: &str) {
    CountedReplication::of(by, name, &small_tags(20, 16 * KIB), 1).await.cold_read_once().await;
}

/// Repositories that share a base; then nothing changes.
pub async fn repositories_that_share_a_base(by: By, name: &str) {
    cold_then_warm(by, name, &shared_bases(5, 3, 1, MIB + KIB, MIB + KIB)).await;
}

/// Signed images; then nothing changes.
pub async fn signatures(by: By, name: &str) {
    cold_then_warm(by, name, &signed(multi_platform(8, 16 * KIB))).await;
}

/// Tags of few images; then nothing changes.
pub async fn tags_of_one_image(by: By, name: &str) {
    cold_then_warm(by, name, &aliases(100, 6, 16 * KIB)).await;
}

/// Layers that are plain archives, once.
pub async fn plain_layers(by: By, name: &str) {
    CountedReplication::of(by, name, &plain_tar(6, 64 * KIB), 1).await.cold_read_once().await;
}

/// Small images to two destinations, once.
pub async fn two_destinations(by: By, name: &str) {
    let mut ground = CountedReplication::of(by, name, &small_tags(20, 16 * KIB), 2).await;
    let traffic = ground.cold().await;
    assert_eq!(traffic.moved, READS * ground.contents.unique_bytes(), "{traffic:#?}");
}

/// Counts how often the source sends a blob that goes to two destinations.
const READS: u64 = 1;

async fn cold_then_warm(by: By, name: &str, fixture: &Fixture) {
    let mut ground = CountedReplication::of(by, name, fixture, 1).await;
    ground.cold_read_once().await;
    assert_eq!(ground.replicate().await, Traffic::least_warm(&ground.contents), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_take_few_requests_more_than_the_least_then_one_a_tag() {
    images_of_several_platforms(By::Sync, "counts-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_images_take_few_requests_more_than_the_least() {
    small_images(By::Sync, "counts-b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_share_a_base_get_it_once_and_mount_it() {
    repositories_that_share_a_base(By::Sync, "counts-c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_take_few_requests_more_than_the_least_and_then_one_a_list() {
    signatures(By::Sync, "counts-f").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_one_image_take_one_request_each_on_either_side() {
    tags_of_one_image(By::Sync, "counts-g").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_compressed_arrive_as_they_are_by_few_requests() {
    plain_layers(By::Sync, "counts-i").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_cost_no_more_than_twice_one() {
    two_destinations(By::Sync, "counts-j").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_each_request_that_may_be_under_way() {
    let (source, destination) = (tag_filters::registry(), tag_filters::registry());
    for seed in 0..200 {
        source.push("app", &format!("v{seed}"), &Image::single(seed, 2, 1_000));
    }
    let files = tag_filters::files("kept-connections", &source, &[&destination]);
    let output = files.run("sync", &["--state", &files.state()]).await;
    assert!(output.status.success(), "{}", text(&output));
    let made = [source.connections(), destination.connections()];
    // Eight requests of each of two loads at the source, and as many again at the destination, where there are two
    // kinds of them.
    assert!(made[0] <= 16 && made[1] <= 32, "{made:?} connections");
}
