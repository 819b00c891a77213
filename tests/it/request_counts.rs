//! What copying asks of registries stays close to the least that it takes: a guard on requests and bytes, not on time.

use serde_json::json;

use crate::standalone::Files;
use crate::support::eventually::eventually;
use crate::support::fixtures::{
    Contents, Fixture, KIB, MIB, changed_platform_image, multi_platform, shared_bases, small_tags,
};
use crate::support::image::Image;
use crate::support::registry::{Access, TestRegistry};
use crate::support::requests::{Requests, Traffic};
use std::time::Duration;

/// A source with a fixture, a destination, and the files of a sync between the two.
struct Pair {
    source: TestRegistry,
    destination: TestRegistry,
    files: Files,
    contents: Contents,
    /// How much of the logs earlier runs have made.
    seen: (usize, usize),
}

impl Pair {
    async fn of(name: &str, fixture: &Fixture) -> Self {
        let source = TestRegistry::distribution(&format!("{name}-source")).start().await;
        let destination = TestRegistry::distribution(&format!("{name}-destination")).start().await;
        fixture.push(&source.pusher()).await;
        let mut files = Files::new(name);
        for (name, registry) in [("source", &source), ("destination", &destination)] {
            let spec = json!({"url": registry.url(), "allowHttp": true});
            files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
        }
        let names = fixture.repositories.iter().map(|repository| &repository.name);
        let filters: Vec<_> = names.map(|name| json!({"filter": name, "filterType": "EXACT_MATCH"})).collect();
        let rules = json!([{"name": "all", "repositoryFilters": filters,
            "destinations": [{"registryRef": {"name": "destination"}}]}]);
        let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
        files.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": "all"}), spec);
        Self { source, destination, files, contents: fixture.contents(), seen: (0, 0) }
    }

    /// Runs a sync, sees that everything has arrived, and tells what was asked of both sides.
    async fn sync(&mut self) -> Traffic {
        self.seen = (settled(&self.source).await.len(), settled(&self.destination).await.len());
        let output = self.files.run("sync", &["--state", &self.files.state()]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let source = settled(&self.source).await.split_off(self.seen.0);
        let destination = settled(&self.destination).await.split_off(self.seen.1);
        self.contents.verify(&self.destination.pusher()).await.unwrap();
        Traffic::of(&source, &[destination], &self.contents)
    }

    async fn cold(&mut self) {
        let mut least = Traffic::least_cold(&self.contents, 1);
        // Whether the repository is absent decides whether consent to create it is needed.
        least.destination.get += self.contents.repositories.len();
        let traffic = self.sync().await;
        let verification = self.contents.manifests() + self.contents.blobs() + self.contents.tags();
        assert!(
            traffic.source.is_within(&least.source) && traffic.destination.is_within(&least.destination),
            "{traffic:#?}\nshould be close to {least:#?}"
        );
        assert!(traffic.verification.total() <= verification, "{verification} looks are enough: {traffic:#?}");
        assert_eq!((traffic.moved, traffic.uploaded), (least.moved, least.uploaded), "each blob crosses once");
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
    let mut pair = Pair::of("counts-a", &fixture).await;
    pair.cold().await;

    let warm = Traffic::least_warm(&pair.contents);
    let again = pair.sync().await;
    assert_eq!(again, warm, "nothing changed: a page of tags and one look at each");

    let changed = changed_platform_image(&fixture, 3, layer);
    let pushed = Fixture { repositories: vec![of_one_tag("v3", changed)] };
    pushed.push(&pair.source.pusher()).await;
    let new_layer = layer as u64;
    pair.contents.repositories.get_mut("app").unwrap().take(&pushed.contents().repositories["app"]);
    let one = pair.sync().await;
    // The index and two manifests, two blobs; and once a process whether there is a referrers API.
    assert_eq!(one.source.get + one.source.head, warm.source.get + warm.source.head + 6, "{one:#?}");
    assert!(one.moved < new_layer + 10_000, "only what is new crosses: {one:#?}");
    // The other platform's manifest is looked for, or put again: either is one request.
    assert!(one.destination.post == 2 && one.destination.put <= 5, "a layer, a configuration, the manifests: {one:#?}");
}

fn of_one_tag(tag: &str, image: Image) -> crate::support::fixtures::Repository {
    let tags = vec![(tag.to_owned(), image)];
    crate::support::fixtures::Repository { name: "app".to_owned(), tags, referrers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_images_take_few_requests_more_than_the_least() {
    Pair::of("counts-b", &small_tags(20, 16 * KIB)).await.cold().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_share_a_base_get_it_once_and_mount_it() {
    let mut pair = Pair::of("counts-c", &shared_bases(5, 3, 1, MIB + KIB, MIB + KIB)).await;
    pair.cold().await;
    let again = pair.sync().await;
    assert_eq!(again, Traffic::least_warm(&pair.contents), "nothing changed");
}
