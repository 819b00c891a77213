//! Deletions at destinations that delete tags alone, and at one that deletes manifests only.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::standalone::{Files, text};
use crate::stories::scene::PASSWORD;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::registry_config::TestRegistryOptions;
use crate::support::scripted::{Personality, ScriptedFault, ScriptedRegistry, USER, When};
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
    let spec = json!({"registryRef": {"name": "d0"}, "statements": [may_delete()]});
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-a", "name": "deletes"}), spec);
    files.configuration("app", "app", &[json!({"name": "d0"})]);
    delete_at_most(&mut files, allowed);
    files
}

fn delete_at_most(files: &mut Files, allowed: u32) {
    rule(files)["deleteReplication"] = json!({"enabled": true, "maxPercent": 0, "minAllowed": allowed});
    files.documents.last_mut().unwrap()["spec"]["interval"] = json!(format!("{}s", INTERVAL.as_secs()));
}

/// Returns the statement of an owner who allows deletions.
fn may_delete() -> Value {
    json!({"sid": "delete", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage", "CreateRepository", "DeleteImage"], "resources": ["*"]})
}

fn document(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "transship.dev/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"namespace": "team-a", "name": name}})
}

async fn run(files: &Files, command: &str, more: &[&str], code: i32) -> String {
    let state = files.state();
    let output = files.run(command, &[&["--state", &state], more].concat()).await;
    assert_eq!(output.status.code(), Some(code), "{command} {more:?}: {}", text(&output));
    text(&output)
}

pub async fn sync(files: &Files, more: &[&str]) -> String {
    run(files, "sync", more, 0).await
}

/// Asserts that each of `parts` is in `printed`.
fn has(printed: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(printed.contains(part), "{part}: {printed}"));
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

/// Lists the source, and waits until another list proves what this one lacks.
async fn list_once(files: &Files) {
    sync(files, &["--delete"]).await;
    tokio::time::sleep(INTERVAL + Duration::from_secs(1)).await;
}

/// Returns the tags of a destination after two lists of the source that are an interval apart.
pub async fn tags_after(files: &Files, destination: &TestRegistry) -> BTreeSet<String> {
    list_once(files).await;
    sync(files, &["--delete"]).await;
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
    let printed = sync(&files, &["--detailed-exit-code"]).await;
    has(&printed, &["DELETE    d0/app:v1", "sync deletes it with --delete", "left the source: 2 to delete"]);
    for (command, more, code) in [
        ("plan", &[][..], 0),
        ("plan", &["--detailed-exit-code"], 0),
        ("plan", &["--delete", "--detailed-exit-code"], 3),
        ("sync", &["--dry-run", "--delete"], 0),
    ] {
        let printed = run(&files, command, more, code).await;
        has(&printed, &["d0/app:v1", "d0/app:shared", "two lists of the source lack it", "2 to delete"]);
    }
    let document = run(&files, "plan", &["--delete", "-o", "json"], 0).await;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["deletions"][0]["status"], "DELETE", "{document}");
    let printed = run(&files, "sync", &["--delete", "--detailed-exit-code"], 3).await;
    has(&printed, &["DELETED   d0/app:shared", "DELETED   d0/app:v1", "left the source: 2 deleted"]);
    let left = destination.pusher().tags("app").await;
    assert_eq!(left, names(&["foreign", "v0", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]), "v0 keeps its manifest");
    assert!(destination.pusher().manifest("app", "v0").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_another_tag_needs_stays_where_tags_cannot_be_deleted() {
    let (source, destination, files) =
        replicated("deletes-manifests", TestRegistry::docker_2_8("deletes-old"), 5).await;
    delete(&source, &["v1", "shared"]).await;
    list_once(&files).await;
    let printed = run(&files, "sync", &["--delete"], 4).await;
    has(&printed, &["DELETED   d0/app:v1", "HELD      d0/app:shared", "tag v0 needs that of shared"]);
    let left = destination.pusher().tags("app").await;
    assert!(!left.contains("v1") && left.contains("v0"), "{left:?}");
    assert!(destination.pusher().manifest("app", "v0").await.is_some(), "shared is the image of v0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_stays_whose_other_tag_is_pushed_again_before_it_is_deleted() {
    let (source, destination, files) = replicated("deletes-late", TestRegistry::docker_2_8("deletes-late"), 5).await;
    delete(&source, &["v0", "shared"]).await;
    list_once(&files).await;
    // Both are decided; the last look at the source is for the first of them, and takes a while.
    source.fault(When::asked("HEAD", "/app/manifests/shared"), ScriptedFault::Delay(Duration::from_secs(5)));
    let looks = source.count("HEAD", "/app/manifests/shared");
    let pushed_again = async {
        eventually(4 * INTERVAL, "it is looked for", async || source.count("HEAD", "/app/manifests/shared") > looks)
            .await;
        source.push("app", "v0", &Image::single(0, 1, 1_000));
    };
    let (printed, ()) = tokio::join!(run(&files, "sync", &["--delete"], 4), pushed_again);
    has(&printed, &["HELD      d0/app:shared", "tag v0 needs that of shared"]);
    assert!(destination.pusher().manifest("app", "v0").await.is_some());
    assert_eq!(destination.pusher().tags("app").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_beyond_the_brake() {
    let (source, destination, mut files) = replicated("brake", TestRegistry::distribution("brake-to"), 2).await;
    delete(&source, &["v1", "v2", "v3"]).await;
    let printed = run(&files, "plan", &["--delete"], 0).await;
    has(&printed, &["absent     d0/app:v1", "has to lack it, too"]);
    list_once(&files).await;
    let held =
        ["HELD      d0/app:v1", "allows fewer deletions within 24 h", "3 held", "transship.dev/approve-deletions: "];
    let printed = run(&files, "sync", &["--delete"], 4).await;
    has(&printed, &held);
    has(&run(&files, "sync", &["--delete", "--quiet"], 4).await, &held);
    has(&run(&files, "plan", &["--delete"], 4).await, &["held ", "3 held", held[3]]);
    run(&files, "sync", &[], 0).await;
    assert_eq!(destination.pusher().tags("app").await.len(), 10, "three are more than two");
    let hash = printed.split(held[3]).nth(1).unwrap().split(' ').next().unwrap();
    files.documents.last_mut().unwrap()["metadata"]["annotations"] = json!({"transship.dev/approve-deletions": hash});
    has(&run(&files, "sync", &["--delete", "--quiet"], 0).await, &["3 deleted", "DELETED   d0/app:v1"]);
    assert_eq!(destination.pusher().tags("app").await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn harbor_deletes_a_tag_by_its_own_api_and_keeps_the_image() {
    let (source, destination) = (source(), ScriptedRegistry::start(Personality::harbor()));
    let mut files = crate::tag_filters::files("deletes-harbor", &source, &[&destination]);
    files.documents.retain(|document| document["metadata"]["name"] != "d0");
    files.login_at(&destination.host(), USER, crate::support::scripted::PASSWORD);
    let spec = json!({"url": destination.url(), "allowHTTP": true});
    files.documents.insert(0, document("Registry", "d0", &spec));
    let spec = json!({"registryRef": {"name": "d0"}, "statements": [may_delete()]});
    files.documents.insert(0, document("RegistryPermissionPolicy", "deletes", &spec));
    rule(&mut files)["destinations"][0]["repository"] = json!("team/{repository}");
    delete_at_most(&mut files, 5);
    destination.create_repository("team/app");
    sync(&files, &["--delete"]).await;
    delete(&source, &["shared"]).await;
    list_once(&files).await;
    has(&sync(&files, &["--delete"]).await, &["DELETED   d0/team/app:shared"]);
    let left = destination.tags("team/app");
    assert!(!left.contains_key("shared") && left.contains_key("v0"), "{left:?}");
    let by_api = "/api/v2.0/projects/team/repositories/app/artifacts/";
    assert_eq!((destination.count("DELETE", "/manifests/"), destination.count("DELETE", by_api)), (1, 1));
}
