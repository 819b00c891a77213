//! Deletions at destinations that delete tags alone, and at one that deletes manifests only.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::standalone::{Files, text};
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::registry_config::TestRegistryOptions;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::{registry, rule};

/// Two lists this far apart prove that a tag was deleted.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Returns a source of ten tags, of which two are one image.
fn source() -> ScriptedRegistry {
    let source = registry();
    (0..9).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
    source.push("app", "shared", &Image::single(0, 1, 1_000));
    source
}

/// Returns files with a rule that deletes at most `allowed` tags.
pub fn files(name: &str, source: &ScriptedRegistry, destination: &TestRegistry, allowed: u32) -> Files {
    let mut files = Files::new(name);
    let spec = json!({"url": source.url(), "allowHTTP": true});
    files.add("Registry", json!({"namespace": "team-a", "name": "source"}), spec);
    files.registry("team-a", "d0", destination, "writer");
    let statement = json!({"sid": "delete", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage", "CreateRepository", "DeleteImage"], "resources": ["*"]});
    let spec = json!({"registryRef": {"name": "d0"}, "statements": [statement]});
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-a", "name": "deletes"}), spec);
    files.configuration("app", "app", &[json!({"name": "d0"})]);
    rule(&mut files)["deleteReplication"] = json!({"enabled": true, "maxPercent": 0, "minAllowed": allowed});
    files.documents.last_mut().unwrap()["spec"]["interval"] = json!(format!("{}s", INTERVAL.as_secs()));
    files
}

pub async fn sync(files: &Files, more: &[&str]) -> String {
    let state = files.state();
    let output = files.run("sync", &[&["--state", &state], more].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    text(&output)
}

pub fn names(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

/// Replicates all tags of a new source. Returns it with the destination and the files.
async fn replicated(
    name: &str,
    destination: TestRegistryOptions,
    allowed: u32,
) -> (ScriptedRegistry, TestRegistry, Files) {
    let (source, destination) = (source(), destination.user("writer", PASSWORD).start().await);
    let files = files(name, &source, &destination, allowed);
    sync(&files, &["--delete"]).await;
    (source, destination, files)
}

async fn delete(source: &ScriptedRegistry, tags: &[&str]) {
    for tag in tags {
        source.pusher().delete_manifest("app", tag).await;
    }
}

/// Returns the tags of a destination after two lists of the source that are an interval apart.
pub async fn tags_after(files: &Files, destination: &TestRegistry) -> BTreeSet<String> {
    sync(files, &["--delete"]).await;
    tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
    let printed = sync(files, &["--delete"]).await;
    println!("{printed}");
    destination.pusher().tags("app").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_deletes_tags_after_two_lists_only_with_its_flag() {
    let (source, destination, files) = replicated("deletes", TestRegistry::distribution("deletes-to"), 5).await;
    let all = destination.pusher().tags("app").await;
    assert_eq!(all.len(), 10);
    destination.pusher().push("app", "foreign", &Image::single(99, 1, 1_000)).await;
    delete(&source, &["v1", "shared"]).await;
    sync(&files, &[]).await;
    tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
    sync(&files, &[]).await;
    assert_eq!(destination.pusher().tags("app").await.len(), 11, "without the flag nothing is deleted");
    let left = tags_after(&files, &destination).await;
    assert_eq!(left, names(&["foreign", "v0", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]), "v0 keeps its manifest");
    assert!(destination.pusher().manifest("app", "v0").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_another_tag_needs_stays_where_tags_cannot_be_deleted() {
    let (source, destination, files) =
        replicated("deletes-manifests", TestRegistry::docker_2_8("deletes-old"), 5).await;
    delete(&source, &["v1", "shared"]).await;
    let left = tags_after(&files, &destination).await;
    assert!(!left.contains("v1") && left.contains("v0"), "{left:?}");
    assert!(destination.pusher().manifest("app", "v0").await.is_some(), "shared is the image of v0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_beyond_the_brake() {
    let (source, destination, files) = replicated("brake", TestRegistry::distribution("brake-to"), 2).await;
    delete(&source, &["v1", "v2", "v3"]).await;
    assert_eq!(tags_after(&files, &destination).await.len(), 10, "three are more than two");
}
