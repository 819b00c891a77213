//! What copying asks of registries stays close to the least that it takes: a guard on requests and bytes, not on time.

use std::time::Duration;

use serde_json::json;

use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::fixtures::{
    Contents, Fixture, KIB, MIB, Repository, aliases, changed_platform_image, multi_platform, plain_tar, shared_bases,
    signed, small_tags,
};
use crate::support::image::Image;
use crate::support::registry::{Access, TestRegistry};
use crate::support::requests::{Requests, Traffic};
use crate::tag_filters;

/// A source with a fixture, destinations, and the files of a sync between them.
struct Ground {
    source: TestRegistry,
    destinations: Vec<TestRegistry>,
    files: Files,
    contents: Contents,
}

impl Ground {
    async fn of(name: &str, fixture: &Fixture, destinations: usize) -> Self {
        let source = TestRegistry::distribution(&format!("{name}-source")).start().await;
        fixture.push(&source.pusher()).await;
        let mut files = Files::new(name);
        let registry = |registry: &TestRegistry| json!({"url": registry.url(), "allowHttp": true});
        files.add("Registry", json!({"namespace": "team-a", "name": "source"}), registry(&source));
        let (mut started, mut references) = (Vec::new(), Vec::new());
        for number in 0..destinations {
            let to = format!("destination-{number}");
            let destination = TestRegistry::distribution(&format!("{name}-{to}")).start().await;
            files.add("Registry", json!({"namespace": "team-a", "name": to}), registry(&destination));
            references.push(json!({"registryRef": {"name": to}}));
            started.push(destination);
        }
        let names = fixture.repositories.iter().map(|repository| &repository.name);
        let filters: Vec<_> = names.map(|name| json!({"filter": name, "filterType": "EXACT_MATCH"})).collect();
        let rules = json!([{"name": "all", "repositoryFilters": filters, "destinations": references}]);
        let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
        files.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": "all"}), spec);
        Self { source, destinations: started, files, contents: fixture.contents() }
    }

    /// Runs a sync, sees that everything has arrived, and tells what was asked of both sides.
    async fn sync(&self) -> Traffic {
        let seen = settled(&self.source).await.len();
        let mut seen_there = Vec::new();
        for destination in &self.destinations {
            seen_there.push(settled(destination).await.len());
        }
        let output = self.files.run("sync", &["--state", &self.files.state()]).await;
        assert!(output.status.success(), "{}", text(&output));
        let source = settled(&self.source).await.split_off(seen);
        let mut there = Vec::new();
        for (destination, seen) in self.destinations.iter().zip(seen_there) {
            there.push(settled(destination).await.split_off(seen));
            self.contents.verify(&destination.pusher()).await.unwrap();
        }
        Traffic::of(&source, &there, &self.contents)
    }

    /// The first sync, into empty registries: no more than a twentieth over the least, each blob once over the line, and each
    /// thing looked at once to read it back.
    async fn cold(&self) -> Traffic {
        let mut least = Traffic::least_cold(&self.contents, self.destinations.len());
        // Whether the repository is absent decides whether consent to create it is needed.
        least.destination.get += self.contents.repositories.len() * self.destinations.len();
        // What a list of referrers holds is read before it is replaced.
        least.destination.get += self.contents.lists() * self.destinations.len();
        let traffic = self.sync().await;
        let checks = Traffic::most_checks(&self.contents, self.destinations.len());
        assert!(
            traffic.source.is_within(&least.source) && traffic.destination.is_within(&least.destination),
            "{traffic:#?}\nshould be close to {least:#?}"
        );
        assert!(traffic.verification.total() <= checks, "{checks} looks are enough: {traffic:#?}");
        assert_eq!((traffic.uploaded, traffic.mounts), (least.uploaded, least.mounts), "each blob arrives once");
        traffic
    }

    /// The same, from a source that sends each blob once.
    async fn cold_read_once(&self) -> Traffic {
        let traffic = self.cold().await;
        assert_eq!(traffic.moved, self.contents.unique_bytes(), "the source sends each blob once");
        traffic
    }
}

/// The log once nothing is added to it any more: a line is written just after its answer.
async fn settled(registry: &TestRegistry) -> Vec<Access> {
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
    /// Whether this is at most a twentieth more than the least, in what only reads and in each method that writes.
    fn is_within(&self, least: &Self) -> bool {
        let within = |found: usize, least: usize| found <= least + least.div_ceil(20);
        within(self.get + self.head, least.get + least.head)
            && within(self.post, least.post)
            && within(self.put, least.put)
            && self.patch + self.delete + self.errors == 0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_several_platforms_take_few_requests_more_than_the_least_and_then_one_a_tag() {
    let (layer, tags) = (MIB + KIB, 8);
    let fixture = multi_platform(tags, layer);
    let mut ground = Ground::of("counts-a", &fixture, 1).await;
    ground.cold_read_once().await;
    let warm = Traffic::least_warm(&ground.contents);
    assert_eq!(ground.sync().await, warm, "nothing changed: a page of tags and one look at each");

    let before = ground.contents.clone();
    let changed = changed_platform_image(&fixture, 3, layer);
    let pushed = Fixture { repositories: vec![of_one_tag("v3", changed)] };
    pushed.push(&ground.source.pusher()).await;
    ground.contents.repositories.get_mut("app").unwrap().take(&pushed.contents().repositories["app"]);
    let (one, least) = (ground.sync().await, Traffic::least_changed(&before, &ground.contents));
    assert_eq!((one.moved, one.uploaded), (least.moved, least.uploaded), "only what is new crosses: {one:#?}");
    let (source, destination) = (least.source.total(), least.destination.total());
    assert!(one.source.total() <= source + EXTRA_AT_SOURCE, "{source} are the least: {one:#?}");
    assert!(one.destination.total() <= destination + EXTRA_AT_DESTINATION, "{destination} are the least: {one:#?}");
    assert!(one.verification.total() <= Traffic::most_checks(&pushed.contents(), 1), "{one:#?}");
}

/// The manifest of the other platform, which did not change, and once a process whether there is a referrers API.
const EXTRA_AT_SOURCE: usize = 2;
/// What a new process asks of an image that may share blobs with those that are there: the tag, the other platform's manifest, and
/// its ten blobs.
const EXTRA_AT_DESTINATION: usize = 13;

fn of_one_tag(tag: &str, image: Image) -> Repository {
    Repository { name: "app".to_owned(), tags: vec![(tag.to_owned(), image)], referrers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_images_take_few_requests_more_than_the_least() {
    Ground::of("counts-b", &small_tags(20, 16 * KIB), 1).await.cold_read_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_share_a_base_get_it_once_and_mount_it() {
    let ground = Ground::of("counts-c", &shared_bases(5, 3, 1, MIB + KIB, MIB + KIB), 1).await;
    ground.cold_read_once().await;
    assert_eq!(ground.sync().await, Traffic::least_warm(&ground.contents), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_take_few_requests_more_than_the_least_and_then_one_a_list() {
    let ground = Ground::of("counts-f", &signed(multi_platform(8, 16 * KIB)), 1).await;
    ground.cold_read_once().await;
    assert_eq!(ground.sync().await, Traffic::least_warm(&ground.contents), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_one_image_take_one_request_each_on_either_side() {
    let ground = Ground::of("counts-g", &aliases(100, 6, 16 * KIB), 1).await;
    ground.cold_read_once().await;
    assert_eq!(ground.sync().await, Traffic::least_warm(&ground.contents), "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_compressed_arrive_as_they_are_by_few_requests() {
    Ground::of("counts-i", &plain_tar(6, 64 * KIB), 1).await.cold_read_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_cost_no_more_than_twice_one() {
    let ground = Ground::of("counts-j", &small_tags(20, 16 * KIB), 2).await;
    let traffic = ground.cold().await;
    assert_eq!(traffic.moved, READS * ground.contents.unique_bytes(), "{traffic:#?}");
}

/// How often the source sends a blob that goes to two destinations.
const READS: u64 = 1;

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
    // Eight requests of each of two loads at the source, and as many again at the destination, where there are two kinds of them.
    assert!(made[0] <= 16 && made[1] <= 32, "{made:?} connections");
}
