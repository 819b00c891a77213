//! Two hundred tags: each blob crosses once, statuses are written seldom, and a killed operator goes on where it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use transship::api::ReplicationState;

use super::scene::{PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::registry::{Access, TestRegistry};

const REPOSITORIES: u64 = 10;
const TAGS: u64 = 20;
const LONG: Duration = Duration::from_secs(120);

/// 20 tags in each of 10 repositories: two layers that all share, one of the repository, one of the tag.
async fn push_two_hundred(source: &TestRegistry) {
    let pusher = source.pusher();
    for repository in 0..REPOSITORIES {
        for tag in 0..TAGS {
            let layers = vec![
                Blob::layer(1, 30_000),
                Blob::layer(2, 30_000),
                Blob::layer(100 + repository, 30_000),
                Blob::layer(10_000 + repository * 100 + tag, 10_000),
            ];
            let image = Image::with_layers(repository * 1000 + tag, "linux/amd64", layers);
            pusher.push(&format!("team/app-{repository}"), &format!("v{tag}"), &image).await;
        }
    }
}

async fn scene_of_two_hundred(story: &str, source: &TestRegistry, destination: &TestRegistry) -> Scene {
    let mut scene = Scene::new(story).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", source, Some("reader")).await;
    scene.registry(&namespace, "destination", destination, Some("writer")).await;
    let filters = serde_json::json!([{"filter": "team/", "filterType": "PREFIX_MATCH"}]);
    scene.configure("all", "source", &[to("destination")], Some(filters), "10m").await;
    scene
}

async fn all_complete(scene: &Scene) {
    eventually(LONG, "all 200 images are complete", async || {
        let images = scene.images().await;
        let complete = images.values().filter(|image| image.status == ReplicationState::Complete).count() as u64;
        if complete == REPOSITORIES * TAGS { Ok(()) } else { Err(format!("{complete} of {}", images.len())) }
    })
    .await;
}

/// How often each blob was committed to each repository, from the registry's own log.
fn commits(log: &[Access]) -> BTreeMap<String, usize> {
    let mut commits = BTreeMap::new();
    for access in log.iter().filter(|access| access.method == "PUT" && access.status == 201) {
        if let Some((repository, rest)) = access.path.split_once("/blobs/uploads/") {
            let digest = rest.split("digest=").nth(1).unwrap_or_default();
            *commits.entry(format!("{repository} {digest}")).or_default() += 1;
        }
    }
    commits
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_tags_arrive_and_no_blob_is_uploaded_twice() {
    let source = TestRegistry::distribution("scale-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("scale-destination").user("writer", PASSWORD).start().await;
    push_two_hundred(&source).await;
    let mut scene = scene_of_two_hundred("scale", &source, &destination).await;
    let began = Instant::now();
    scene.start_operator().await;
    all_complete(&scene).await;
    let took = began.elapsed();
    let log = destination.access_log();
    let commits = commits(&log);
    assert!(
        commits.values().all(|count| *count == 1),
        "uploaded twice: {:?}",
        commits.iter().filter(|(_, count)| **count > 1).collect::<Vec<_>>()
    );
    let mounts = log.iter().filter(|access| access.path.contains("mount=") && access.status == 201).count();
    let writes = scene.writes(None);
    let images = (REPOSITORIES * TAGS) as usize;
    println!(
        "200 tags: {took:?}, {} uploads, {mounts} mounts, {} requests to the destination, {} writes to the API server",
        commits.len(),
        log.len(),
        writes.len()
    );
    assert!(writes.len() <= 2 * images, "{} writes", writes.len());
    assert!(mounts > 0, "what the repositories share is mounted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_goes_on_where_it_was() {
    let source = TestRegistry::distribution("kill-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("kill-destination").user("writer", PASSWORD).start().await;
    push_two_hundred(&source).await;
    let mut scene = scene_of_two_hundred("kill", &source, &destination).await;
    let tags_written = |log: &[Access]| {
        log.iter().filter(|a| a.method == "PUT" && a.path.contains("/manifests/") && a.status == 201).count()
    };
    for share in [40, 120] {
        scene.start_operator().await;
        eventually(LONG, "some images are there", async || tags_written(&destination.access_log()) >= share).await;
        scene.kill_operator();
    }
    let committed = commits(&destination.access_log());
    scene.start_operator().await;
    all_complete(&scene).await;
    let after = commits(&destination.access_log());
    for (blob, count) in &committed {
        assert_eq!(after.get(blob), Some(count), "{blob} was committed, and is not uploaded again");
    }
    let unfinished: Vec<_> =
        scene.images().await.into_iter().filter(|(_, image)| image.status == ReplicationState::InProgress).collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    for repository in 0..REPOSITORIES {
        let name = format!("team/app-{repository}");
        let tag = "v7";
        assert_eq!(source.pusher().digest_of(&name, tag).await, destination.pusher().digest_of(&name, tag).await);
    }
}
