//! Registries that answer 404 to HEAD for content that they have.

use std::time::Duration;

use serde_json::{Value, json};
use transship::registry::Reference;
use transship::terms::ReplicationState;

use super::pair::{RegistryPair, client};
use crate::standalone::{Files, text};
use crate::stories::scene::{Scene, to};
use crate::support::image::Image;
use crate::support::scripted::{Personality, ScriptedFault, ScriptedRegistry, SeenRequest, When};

fn deceptive() -> Personality {
    Personality { head_manifest: Some(404), head_blob: Some(404), ..Personality::plain() }
}

/// Two deceptive registries with the files of a `sync` from one to the other.
fn between(name: &str) -> (ScriptedRegistry, ScriptedRegistry, Files) {
    let (source, destination) = (ScriptedRegistry::start(deceptive()), ScriptedRegistry::start(deceptive()));
    let mut files = Files::new(name);
    for (name, registry) in [("source", &source), ("destination", &destination)] {
        let spec = json!({"url": registry.url(), "allowHTTP": true});
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    files.configuration("all", "app", &[json!({"name": "destination"})]);
    (source, destination, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_head_does_not_find_is_found_by_get() {
    let pair = RegistryPair::start(deceptive(), deceptive());
    let image = Image::multi_platform(1, 500);
    let digest = pair.source.push("app", "1", &image);
    pair.copy("1", &digest).await.unwrap();
    assert!(pair.copy("1", &digest).await.unwrap().already_there);
    let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
    for _ in 0..3 {
        let head = pair.from.head_manifest(&repository, Reference::Tag(&tag)).await.unwrap().unwrap();
        assert_eq!(head.digest.as_str(), digest);
    }
    for registry in [&pair.source, &pair.destination] {
        assert!(registry.count("HEAD", "/manifests/") <= 8, "it is remembered: {:?}", registry.log());
    }
    assert_eq!(pair.source.count("HEAD", "/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_head_does_not_find_is_found_by_its_first_byte() {
    let pair = RegistryPair::start(Personality::plain(), Personality { head_blob: Some(404), ..Personality::plain() });
    let image = Image::single(1, 6, 2_000);
    let digest = pair.source.push("app", "1", &image);
    pair.copy("1", &digest).await.unwrap();
    let heads = pair.destination.count("HEAD", "/blobs/");
    assert!(pair.copy("1", &digest).await.unwrap().already_there);
    assert_eq!(pair.destination.count("HEAD", "/blobs/"), heads, "it is remembered");
    let first_bytes =
        |log: Vec<SeenRequest>| log.iter().filter(|seen| seen.range.as_deref() == Some("bytes=0-0")).count();
    assert!(first_bytes(pair.destination.log()) >= image.blobs.len());
    pair.destination.lose_blob("app", &image.blobs[0].digest);
    let engine = transship::copy::Engine::default();
    let repaired = RegistryPair { engine, ..pair }.copy("1", &digest).await.unwrap();
    assert!(!repaired.already_there, "what GET does not find is absent");
}

#[tokio::test]
async fn an_absent_manifest_costs_one_request_where_head_was_right() {
    let registry = ScriptedRegistry::start(Personality::plain());
    registry.push("app", "there", &Image::single(1, 1, 100));
    let client = client(&registry);
    let (repository, absent) = ("app".parse().unwrap(), "absent".parse().unwrap());
    for gets in [1, 1, 1] {
        assert_eq!(client.probe_manifest(&repository, Reference::Tag(&absent)).await.unwrap(), None);
        assert_eq!(registry.count("GET", "/manifests/"), gets, "one 404 is confirmed");
    }
    assert_eq!(client.head_manifest(&repository, Reference::Tag(&absent)).await.unwrap(), None);
    assert_eq!(registry.count("GET", "/manifests/"), 2, "where it counts each is");
    registry.change(|personality| personality.head_manifest = Some(404));
    let there = "there".parse().unwrap();
    assert!(client.head_manifest(&repository, Reference::Tag(&there)).await.unwrap().is_some());
    assert!(client.probe_manifest(&repository, Reference::Tag(&there)).await.unwrap().is_some(), "it was wrong since");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_and_plan_find_what_head_does_not_find() {
    let (source, destination, files) = between("deceptive-heads");
    for (tag, seed) in [("v1", 1), ("v2", 2), ("v3", 3)] {
        source.push("app", tag, &Image::single(seed, 1, 500));
    }
    let state = files.state();
    let planned = files.run("plan", &["--state", &state, "--output", "json"]).await;
    assert_eq!(actions(&planned.stdout), ["COPY", "COPY", "COPY"], "{}", text(&planned));
    let synced = files.run("sync", &["--state", &state]).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    assert_eq!(destination.tags("app"), source.tags("app"));

    source.push("app", "v2", &Image::single(4, 1, 500));
    let planned = files.run("plan", &["--output", "json"]).await;
    assert_eq!(actions(&planned.stdout), ["NOTHING", "OVERWRITE", "NOTHING"], "{}", text(&planned));
    let again = files.run("sync", &["--state", &state, "--output", "json"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
    let counts = ["images", "complete", "failed"].map(|count| &printed["summary"][count]);
    assert_eq!(counts, [&json!(3), &json!(3), &json!(0)]);
    assert_eq!(destination.tags("app"), source.tags("app"));
}

fn actions(printed: &[u8]) -> Vec<String> {
    let printed: Value = serde_json::from_slice(printed).unwrap();
    let images = printed["images"].as_array().unwrap();
    images.iter().map(|image| image["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_what_head_does_not_find() {
    let (source, destination, _) = between("deceptive-heads-operator");
    source.push("app", "v1", &Image::single(1, 1, 500));
    let mut scene = Scene::new("deceptive-heads").await;
    scene.open_registry("source", &source).await;
    scene.open_registry("destination", &destination).await;
    scene.configure("all", "source", &[to("destination")], None, "24h").await;
    scene.start_operator().await;
    let soon = Duration::from_secs(30);
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, soon).await;
    let moved = source.push("app", "v1", &Image::single(2, 1, 500));
    scene.compared_again("all", "moved").await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, soon).await;
    assert_eq!(destination.tags("app")["v1"], moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_whose_head_fails_takes_images_by_get() {
    for fault in [ScriptedFault::error(500, "UNKNOWN"), ScriptedFault::LoseAnswer] {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.destination.fault(When::asked("HEAD", "").always(), fault);
        let image = Image::multi_platform(1, 500);
        let digest = pair.source.push("app", "1", &image);
        pair.copy("1", &digest).await.unwrap();
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        let heads = pair.destination.count("HEAD", "");
        assert!(pair.copy("1", &digest).await.unwrap().already_there);
        assert_eq!(pair.destination.count("HEAD", ""), heads, "it is remembered");
    }
}
