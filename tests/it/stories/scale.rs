//! Two hundred tags: each blob crosses once, statuses are written seldom, and a killed operator goes on where it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use transship::api::RegistryPermissionPolicy;
use transship::terms::{FailureCode, PairSummary, ReplicationState};

use super::scene::{PASSWORD, Scene, to, to_other};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::registry::{AccessLine, TestRegistry};

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

/// Counts how often each blob was committed to each repository, from the registry's own log.
fn commits(log: &[AccessLine]) -> BTreeMap<String, usize> {
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
    let tags_written = |log: &[AccessLine]| {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_outgrows_its_status_is_summed_up_and_taken_up_again() {
    const MANY: u64 = 260;
    let source = TestRegistry::distribution("many-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("many-destination").user("writer", PASSWORD).start().await;
    let (pusher, image) = (source.pusher(), Image::single(91, 1, 1_000));
    for tag in 0..MANY {
        pusher.push("many", &format!("v{tag}"), &image).await;
    }
    let mut scene = Scene::new("many").await;
    let (namespace, other) = (scene.namespace.name.clone(), scene.other_namespace("many-other").await);
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&other, "theirs", &destination, Some("writer")).await;
    scene.configure("many", "source", &[to_other(&other, "theirs")], None, "10m").await;
    scene.start_operator().await;
    let becomes = async |scene: &Scene, sentence: &str, is_so: fn(&PairSummary) -> bool| {
        eventually(LONG, sentence, async || {
            let status = scene.statuses().await.pop().and_then(|object| object.status).unwrap_or_default();
            let bytes = serde_json::to_vec(&status.images).unwrap().len();
            assert!(status.images.len() <= 250 && bytes <= 41_000, "{} entries, {bytes} bytes", status.images.len());
            if is_so(&status.summary) { Ok(status) } else { Err(format!("{:?}", status.summary)) }
        })
        .await
    };
    // The first fill stops whenever another hundred have failed, and goes on at request.
    becomes(&scene, "a hundred have failed", |summary| summary.failed >= 100).await;
    scene.request_comparison("many", "1").await;
    becomes(&scene, "two hundred have failed", |summary| summary.failed >= 200).await;
    scene.request_comparison("many", "2").await;
    let denied = becomes(&scene, "all have failed", |summary| summary.failed == MANY).await;
    let group = &denied.failure_groups[0];
    assert_eq!((group.count, group.failure_code), (MANY, FailureCode::RegistryPermissionDenied));
    assert_eq!(group.sample_tags.len(), 10);

    let statement = serde_json::json!({"sid": "s", "effect": "Allow", "principals": [{"namespace": namespace}],
        "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"]});
    let policy = serde_json::json!({"apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy",
        "metadata": {"name": "p"}, "spec": {"registryRef": {"name": "theirs"}, "statements": [statement]}});
    let policies = scene.api::<RegistryPermissionPolicy>(&other);
    policies.create(&Default::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let complete = becomes(&scene, "all are complete", |summary| summary.complete == MANY).await;
    assert_eq!((complete.summary.images, complete.failure_groups.len()), (MANY, 0));

    scene.kill_operator();
    let puts = || destination.access_log().iter().filter(|access| access.method == "PUT").count();
    let written = puts();
    pusher.push("many", "one-more", &image).await;
    scene.start_operator().await;
    let again = becomes(&scene, "the new one is complete too", |summary| summary.complete == MANY + 1).await;
    assert_eq!(again.summary.images, MANY + 1, "also those that the status had no room for");
    assert_eq!(puts() - written, 1, "nothing but the new tag was written");
}
