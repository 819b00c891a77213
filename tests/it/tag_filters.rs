//! Filters of tags without a cluster: what goes where, what is asked for, and lists of any length.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::standalone::{Files, text};
use crate::support::image::Image;
use crate::support::memory::run_measured;
use crate::support::scripted::{Login, Personality, ScriptedRegistry};

/// Returns a source and destinations of one team without logins, and a rule for the repository `app`.
pub fn files(name: &str, source: &ScriptedRegistry, destinations: &[&ScriptedRegistry]) -> Files {
    let mut files = Files::new(name);
    let names = (0..destinations.len()).map(|number| format!("d{number}"));
    let registries =
        std::iter::once(("source".to_owned(), source)).chain(names.clone().zip(destinations.iter().copied()));
    for (name, registry) in registries {
        let spec = json!({"url": registry.url(), "allowHTTP": true});
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    let references: Vec<Value> = names.map(|name| json!({"name": name})).collect();
    files.configuration("app", "app", &references);
    rule(&mut files)["repositoryFilters"] = json!([{"filter": "app", "filterType": "EXACT_MATCH"}]);
    files
}

pub fn rule(files: &mut Files) -> &mut Value {
    &mut files.documents.last_mut().unwrap()["spec"]["rules"][0]
}

pub fn registry() -> ScriptedRegistry {
    ScriptedRegistry::start(Personality { login: Login::Anonymous, ..Personality::plain() })
}

fn only(filter_type: &str, filter: &str) -> Value {
    json!([{"filter": filter, "filterType": filter_type}])
}

pub async fn sync(files: &Files, code: i32) -> String {
    let output = files.run("sync", &["--state", &files.state()]).await;
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

fn tags(registry: &ScriptedRegistry) -> Vec<String> {
    registry.tags("app").into_keys().collect()
}

/// Returns the tags whose manifest was asked for.
fn asked(registry: &ScriptedRegistry) -> BTreeSet<String> {
    let log = registry.log();
    let paths = log.iter().filter_map(|seen| seen.path.split_once("/manifests/"));
    paths.map(|(_, tag)| tag.to_owned()).filter(|tag| !tag.contains(':')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tags_that_the_filters_take_are_asked_for_copied_and_counted() {
    let (source, destination) = (registry(), registry());
    for (seed, tag) in (0..).zip(["v1.0.0", "v1.1.0", "v1.1.0-rc.1", "v2.0.0", "latest", "edge"]) {
        let digest = source.push("app", tag, &Image::single(seed, 1, 1_000));
        // A signature goes with its image, and no filter names it.
        source.push("app", &format!("{}.sig", digest.replace(':', "-")), &Image::single(100 + seed, 1, 100));
    }
    let mut files = files("filters", &source, &[&destination]);
    rule(&mut files)["tagFilters"] =
        json!([{"filter": ">=1.0 <2", "filterType": "SEMVER_MATCH"}, {"filter": "lat?st", "filterType": "GLOB_MATCH"}]);
    rule(&mut files)["excludeTagFilters"] = only("REGEX_MATCH", r"v1\.0\..*");

    let planned = text(&files.run("plan", &[]).await);
    assert!(planned.contains("4 tags of source/app are left out, such as "), "{planned}");
    for why in [
        "(rule all: tagFilters has only SEMVER_MATCH >=1.0 <2, GLOB_MATCH lat?st)",
        r"v1.0.0 (rule all: excludeTagFilters has REGEX_MATCH v1\.0\..*)",
    ] {
        assert!(planned.contains(why), "{why}: {planned}");
    }
    let printed = sync(&files, 0).await;
    let images: Vec<_> = tags(&destination).into_iter().filter(|tag| !tag.starts_with("sha256-")).collect();
    assert_eq!(images, ["latest", "v1.1.0"], "{printed}");
    assert_eq!(tags(&destination).len(), 4, "each with its signature");
    let asked: Vec<_> = asked(&source).into_iter().filter(|tag| !tag.starts_with("sha256-")).collect();
    assert_eq!(asked, ["latest", "v1.1.0"]);

    let planned = files.run("plan", &["--output", "json"]).await;
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(planned["images"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&planned["tagsLeftOut"][0]["tags"], &planned["tagsLeftOut"][0]["repository"]),
        (&json!(4), &json!("source/app"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_no_longer_matches_is_neither_failed_nor_deleted() {
    let (source, destination) = (registry(), registry());
    for (seed, tag) in (0..).zip(["v1", "v2"]) {
        source.push("app", tag, &Image::single(seed, 1, 1_000));
    }
    let mut files = files("narrowed", &source, &[&destination]);
    sync(&files, 0).await;
    rule(&mut files)["tagFilters"] = only("EXACT_MATCH", "v2");
    source.push("app", "v1", &Image::single(7, 1, 1_000));
    let printed = sync(&files, 0).await;
    assert!(!printed.contains("app:v1") && !printed.lines().any(|line| line.starts_with("FAILED")), "{printed}");
    assert_eq!(tags(&destination), ["v1", "v2"]);
    assert_ne!(destination.tags("app")["v1"], source.tags("app")["v1"], "it stays as it was");
    rule(&mut files)["tagFilters"] = only("REGEX_MATCH", "v[12]");
    sync(&files, 0).await;
    assert_eq!(destination.tags("app"), source.tags("app"), "wanted again, it follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_send_a_repository_to_one_destination_add_up() {
    let (source, both, releases) = (registry(), registry(), registry());
    for (seed, tag) in (0..).zip(["1.0.0", "edge", "other"]) {
        source.push("app", tag, &Image::single(seed, 1, 1_000));
    }
    let mut files = files("several", &source, &[&both, &releases]);
    rule(&mut files)["tagFilters"] = only("SEMVER_MATCH", "*");
    let edge = json!({"name": "edge", "repositoryFilters": only("EXACT_MATCH", "app"), "tagFilters": only("EXACT_MATCH", "edge"), "immutableTags": ["*"],
        "destinations": [{"registryRef": {"name": "d0"}}]});
    files.documents.last_mut().unwrap()["spec"]["rules"].as_array_mut().unwrap().push(edge);
    sync(&files, 0).await;
    assert_eq!((tags(&both), tags(&releases)), (vec!["1.0.0".to_owned(), "edge".to_owned()], vec!["1.0.0".to_owned()]));
    let before = source.log().len();
    sync(&files, 0).await;
    let again: Vec<_> = source.log().split_off(before).into_iter().map(|seen| seen.line()).collect();
    assert_eq!(again, ["GET /v2/app/tags/list?n=1000"], "what never moves is settled where it goes at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_used_is_named_by_its_field() {
    let (source, destination) = (registry(), registry());
    let mut files = files("unusable", &source, &[&destination]);
    rule(&mut files)["tagFilters"] = only("REGEX_MATCH", "v[");
    let output = files.run("sync", &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("spec.rules[all].tagFilters[0]: \"v[\" is no regular expression"),
        "{}",
        text(&output)
    );
    assert!(source.log().is_empty());
}

/// Copies the ten tags that are wanted of `count` others. Answers the most memory that it took, in kB.
async fn ten_of(count: usize) -> u64 {
    let (source, destination) = (registry(), registry());
    for seed in 0..10 {
        source.push("app", &format!("wanted-{seed}"), &Image::single(seed, 1, 1_000));
    }
    source.crowd("app", count);
    let mut files = files("crowd", &source, &[&destination]);
    rule(&mut files)["tagFilters"] = only("GLOB_MATCH", "wanted-*");
    let began = Instant::now();
    let (output, most) = run_measured(files.command("sync", &[])).await;
    println!("{count} tags and 10 that are wanted: {:?}, {most} kB", began.elapsed());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(destination.tags("app"), source.tags("app"));
    assert_eq!(source.count("GET", "/tags/list"), count.div_ceil(1_000));
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn two_million_tags_stream_through() {
    let (few, many) = (ten_of(5_000).await, ten_of(2_000_000).await);
    // The rest is the program itself, which is large in a debug build.
    assert!((1_000..few + 6_000).contains(&many), "{many} kB after {few} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tags_than_can_be_kept_are_reported_with_the_remedy() {
    let (source, destination) = (registry(), registry());
    source.crowd("app", 500_000);
    let mut files = files("too-many", &source, &[&destination]);
    let printed = sync(&files, 1).await;
    assert!(printed.contains("tags take over 32 MiB: narrow tagFilters"), "{printed}");
    rule(&mut files)["excludeTagFilters"] = only("GLOB_MATCH", "build-*");
    sync(&files, 0).await;
}
