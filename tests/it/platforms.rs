//! The parts of an image that are copied, and those that are not even requested: platforms, rewritten indexes,
//! immutable tags.

use std::time::Duration;

use serde_json::{Value, json};

use crate::standalone::{Files, text};
use crate::stories::scene::PASSWORD;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::{AccessLine, TestRegistry};

const SOON: Duration = Duration::from_secs(20);

/// Returns a source and destinations of one team, and a rule with more fields.
async fn files(name: &str, source: &TestRegistry, destinations: &[&TestRegistry]) -> Files {
    let mut files = Files::new(name);
    files.registry("team-a", "source", source, "reader");
    let mut references = Vec::new();
    for (number, destination) in destinations.iter().enumerate() {
        let name = format!("d{number}");
        files.registry("team-a", &name, destination, "writer");
        references.push(json!({"name": name}));
    }
    files.configuration("app", "app", &references);
    files
}

fn set(files: &mut Files, field: &str, value: Value) {
    let configuration = files.documents.last_mut().unwrap();
    configuration["spec"]["rules"][0][field] = value;
}

/// Returns the outcome of every image of a sync by its destination.
async fn sync(files: &Files, more: &[&str], code: i32) -> Vec<Value> {
    let output = files.run("sync", &[&["--output", "json"], more].concat()).await;
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut images = results["images"].as_array().unwrap().clone();
    images.sort_by_key(|image| image["destination"].to_string());
    images
}

/// Returns the entries of an index of `image` of which only the first of three platforms, and its attestation, are
/// kept.
fn first_platform(image: &Image) -> [&Image; 2] {
    [&image.children[0], &image.children[3]]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_index_goes_where_it_is_taken_and_elsewhere_the_remedy_is_named() {
    let source = TestRegistry::distribution("keep-source").user("reader", PASSWORD).start().await;
    let lenient = TestRegistry::distribution("keep-lenient").user("writer", PASSWORD).start().await;
    let strict = TestRegistry::distribution("keep-strict").user("writer", PASSWORD).validates_indexes().start().await;
    let old = TestRegistry::docker_2_8("keep-old").user("writer", PASSWORD).start().await;
    let image = Image::multi_platform(1, 5_000);
    source.pusher().push("app", "v1", &image).await;
    let before = source.access_log().len();
    let mut files = files("keep", &source, &[&lenient, &strict, &old]).await;
    set(&mut files, "platforms", json!(["linux/amd64"]));
    let results = sync(&files, &[], 1).await;

    assert_eq!(results[0]["status"], "COMPLETE", "{results:?}");
    assert!(results[0].get("destinationDigest").is_none());
    assert_eq!(lenient.pusher().digest_of("app", "v1").await, Some(image.digest()), "byte for byte");
    for (number, child) in image.children.iter().enumerate() {
        let is_kept = first_platform(&image).contains(&child);
        let there = lenient.pusher().digest_of("app", &child.digest()).await;
        assert_eq!(there.is_some(), is_kept, "child {number}");
        assert_eq!(lenient.pusher().has_blob("app", &child.blobs[0].digest).await, is_kept);
    }
    for refused in [&results[1], &results[2]] {
        assert_eq!(refused["failureCode"], "SparseIndexRefused", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("set platformIndex: Rewrite"), "{refused}");
    }
    for registry in [&strict, &old] {
        assert_eq!(registry.pusher().digest_of("app", "v1").await, None);
    }
    let log = source.access_log().split_off(before);
    let left_out = [1, 2, 4, 5].map(|number: usize| image.children[number].digest());
    let is_left_out = |access: &&AccessLine| left_out.iter().any(|digest| access.path.ends_with(digest));
    assert_eq!(log.iter().filter(is_left_out).count(), 0, "what is left out is not even read: {log:?}");

    let again = sync(&files, &[], 1).await;
    assert_eq!((&again[0]["status"], &again[0]["moved"]), (&json!("COMPLETE"), &json!(0)), "it is found again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_index_is_the_same_everywhere_and_is_found_again() {
    let source = TestRegistry::distribution("rewrite-source").user("reader", PASSWORD).start().await;
    let strict =
        TestRegistry::distribution("rewrite-strict").user("writer", PASSWORD).validates_indexes().start().await;
    let old = TestRegistry::docker_2_8("rewrite-old").user("writer", PASSWORD).start().await;
    let image = Image::multi_platform(2, 5_000);
    source.pusher().push("app", "v1", &image).await;
    let mut files = files("rewrite", &source, &[&strict, &old]).await;
    set(&mut files, "platforms", json!(["linux/amd64"]));
    set(&mut files, "platformIndex", json!("Rewrite"));
    let state = files.state();
    let results = sync(&files, &["--state", &state], 0).await;

    // Made independently: the fixture writes an index of these children with the same fields.
    let expected = Image::index(first_platform(&image).map(Image::clone).to_vec());
    for (result, registry) in results.iter().zip([&strict, &old]) {
        assert_eq!(result["digest"], image.digest());
        assert_eq!(result["destinationDigest"], expected.digest());
        assert_eq!(registry.pusher().digest_of("app", "v1").await, Some(expected.digest()));
        assert_eq!(registry.pusher().copy_tree_digests("app", "v1").await, expected.tree_digests());
    }
    let logs = || (strict.access_log().len(), old.access_log().len());
    let before = logs();
    sync(&files, &["--state", &state], 0).await;
    assert_eq!(logs(), before, "what was verified is not asked for");
    let again = files.run("sync", &[]).await;
    assert_eq!(text(&again).matches("already there").count(), 2, "{}", text(&again));
    let planned = files.run("plan", &[]).await;
    assert!(text(&planned).contains("sync compares with the rewritten index"), "{}", text(&planned));

    set(&mut files, "platforms", json!(["linux/arm64", "linux/amd64", "linux/arm"]));
    let results = sync(&files, &["--state", &state], 0).await;
    assert!(results.iter().all(|result| result.get("destinationDigest").is_none()), "nothing is cut: {results:?}");
    for registry in [&strict, &old] {
        assert_eq!(registry.pusher().digest_of("app", "v1").await, Some(image.digest()));
        assert_eq!(registry.pusher().copy_tree_digests("app", "v1").await, image.tree_digests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_the_platform_fails_a_single_platform_is_copied() {
    let source = TestRegistry::distribution("absent-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("absent-destination").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "multi", &Image::multi_platform(3, 1_000)).await;
    source.pusher().push("app", "single", &Image::single(4, 1, 1_000)).await;
    let mut files = files("absent", &source, &[&destination]).await;
    set(&mut files, "platforms", json!(["windows/amd64"]));
    let results = sync(&files, &[], 1).await;
    for result in &results {
        match result["tag"].as_str() {
            Some("single") => assert_eq!(result["status"], "COMPLETE", "{result}"),
            _ => {
                assert_eq!(result["failureCode"], "PlatformNotFound", "{result}");
                let message =
                    "the image has none of the platforms windows/amd64, but linux/amd64, linux/arm/v7, linux/arm64";
                assert_eq!(result["message"], message);
            }
        }
    }
    assert_eq!(destination.pusher().tags("app").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_never_moves_is_asked_for_once() {
    let source = TestRegistry::distribution("immutable-source").user("reader", PASSWORD).start().await;
    let destinations = [
        TestRegistry::distribution("immutable-0").user("writer", PASSWORD).start().await,
        TestRegistry::distribution("immutable-1").user("writer", PASSWORD).start().await,
    ];
    for (seed, tag) in [(5, "v1.0"), (6, "v1.1"), (7, "latest")] {
        source.pusher().push("app", tag, &Image::single(seed, 1, 1_000)).await;
    }
    let mut files = files("immutable", &source, &[&destinations[0], &destinations[1]]).await;
    set(&mut files, "immutableTags", json!(["v?.*"]));
    let state = files.state();
    let heads = async |more: &[&str]| {
        let before = source.access_log().len();
        let results = sync(&files, more, 0).await;
        let heads = || {
            let log = source.access_log().split_off(before);
            let looks = log.iter().filter(|access| access.path.contains("/manifests/") && access.status == 200);
            let names = looks.map(|access| access.path.rsplit('/').next().unwrap().to_owned());
            let mut tags: Vec<_> = names.filter(|name| !name.starts_with("sha256:")).collect();
            tags.sort();
            tags
        };
        eventually(SOON, "the tag that may move was asked for", async || heads().contains(&"latest".to_owned())).await;
        (results.len(), heads())
    };
    let all = ["latest", "v1.0", "v1.1"].map(str::to_owned).to_vec();
    assert_eq!(heads(&["--state", &state]).await, (6, all.clone()), "never replicated: each is asked for once");
    assert_eq!(heads(&["--state", &state]).await, (6, vec!["latest".to_owned()]));
    assert_eq!(heads(&[]).await, (6, all), "without a state nothing is known");
    source.pusher().push("app", "v1.2", &Image::single(8, 1, 1_000)).await;
    assert_eq!(heads(&["--state", &state]).await, (8, ["latest", "v1.2"].map(str::to_owned).to_vec()));
}
