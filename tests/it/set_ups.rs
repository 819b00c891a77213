//! The usual set-ups of `examples/set-ups`: each is carried out between registries that stand for its own, and what it
//! says arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::standalone::{Files, text};
use crate::support::cosign::{CosignSigner, signature_tag};
use crate::support::image::Image;
use crate::support::run_folder::repository;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

/// A set-up with a registry for each host that it names.
struct SetUp {
    files: Files,
    registries: BTreeMap<String, ScriptedRegistry>,
}

impl SetUp {
    /// Reads `examples/set-ups/NAME.yaml`.
    fn read(name: &str) -> Self {
        let path = repository().join("examples/set-ups").join(format!("{name}.yaml"));
        let content = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut files = Files::new(name);
        let mut registries: BTreeMap<String, ScriptedRegistry> = BTreeMap::new();
        for document in content.split("\n---\n") {
            let mut document: Value = serde_saphyr::from_str(document).unwrap();
            if document["kind"] == "Registry" {
                let url: Url = document["spec"]["url"].as_str().unwrap().parse().unwrap();
                let host = url.host_str().unwrap().trim_end_matches(".example.com").to_owned();
                let stands_for = registries.entry(host).or_insert_with(registry);
                document["spec"]["url"] = json!(stands_for.url());
                document["spec"]["allowHTTP"] = json!(true);
            }
            if document["apiVersion"] != "v1" {
                files.documents.push(document);
            }
        }
        Self { files, registries }
    }

    fn at(&self, host: &str) -> &ScriptedRegistry {
        &self.registries[host]
    }

    /// Pushes an image of its own to each of `images`, written `repository:tag`.
    fn push(&self, host: &str, images: &[&str]) {
        for (seed, image) in (0..).zip(images) {
            let (repository, tag) = image.split_once(':').unwrap();
            self.at(host).push(repository, tag, &Image::single(10 * seed, 1, 1_000));
        }
    }

    async fn sync(&self) {
        let output = self.files.run("sync", &[]).await;
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", text(&output));
        assert!(!text(&output).contains("FAILED    "), "{}", text(&output));
    }

    /// Checks that the registry has these images, written `repository:tag`, and no others in `repositories`.
    fn has(&self, host: &str, repositories: &[&str], expected: &[&str]) {
        let found = repositories.iter().flat_map(|repository| {
            let tags = self.at(host).tags(repository).into_keys();
            tags.filter(|tag| !tag.starts_with("sha256-")).map(move |tag| format!("{repository}:{tag}"))
        });
        let found: BTreeSet<String> = found.collect();
        for image in &found {
            let (repository, tag) = image.split_once(':').unwrap();
            assert!(!self.at(host).tree(repository, tag).is_empty(), "{image} is not whole at {host}");
        }
        assert_eq!(found, expected.iter().map(ToString::to_string).collect(), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_region_takes_the_services_to_the_other_region() {
    let set_up = SetUp::read("cross-region");
    set_up.push("us-west-2", &["services/api:v1", "services/web:v1", "tools/lint:v1"]);
    set_up.sync().await;
    let all = ["services/api", "services/web", "tools/lint"];
    set_up.has("eu-west-1", &all, &["services/api:v1", "services/web:v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_account_takes_what_the_policy_of_the_other_allows() {
    let set_up = SetUp::read("cross-account");
    set_up.push("builds", &["prod-api:v1", "prod-web:v1", "test-api:v1"]);
    set_up.sync().await;
    set_up.has("consumer", &["prod-api", "prod-web", "test-api"], &["prod-api:v1", "prod-web:v1"]);
    // Without the consent nothing goes.
    let mut set_up = SetUp::read("cross-account");
    set_up.files.documents.retain(|document| document["kind"] != "RegistryPermissionPolicy");
    set_up.push("builds", &["prod-api:v1"]);
    let output = set_up.files.run("sync", &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    set_up.has("consumer", &["prod-api"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rule_serves_another_region_and_another_account() {
    let set_up = SetUp::read("cross-region-and-account");
    set_up.push("us-west-2", &["releases/api:1.0", "releases/web:1.0", "nightly/api:1"]);
    set_up.sync().await;
    for host in ["eu-west-1", "partner"] {
        let all = ["releases/api", "releases/web", "nightly/api"];
        set_up.has(host, &all, &["releases/api:1.0", "releases/web:1.0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_feeds_its_sites_and_the_ship_gets_its_part() {
    let set_up = SetUp::read("hub-and-spoke");
    set_up.push("hub", &["ship/engine:1", "office/mail:1"]);
    set_up.sync().await;
    let all = ["ship/engine", "office/mail"];
    for host in ["north", "south"] {
        set_up.has(host, &all, &["ship/engine:1", "office/mail:1"]);
    }
    set_up.has("ship", &all, &["ship/engine:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_has_its_images_under_the_prefix() {
    let set_up = SetUp::read("mirror-with-prefix");
    set_up
        .push("docker.io", &["library/alpine:3.22", "library/alpine:edge", "library/debian:13", "library/nginx:1.29"]);
    set_up.sync().await;
    let all = ["mirror/library/alpine", "mirror/library/debian", "mirror/library/nginx", "library/alpine"];
    set_up.has("home", &all, &["mirror/library/alpine:3.22", "mirror/library/debian:13"]);
    assert_eq!(set_up.at("docker.io").count("GET", "/v2/_catalog"), 0, "a public registry lists no repositories");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_mounts_every_blob_and_takes_releases_alone() {
    let set_up = SetUp::read("promotion");
    set_up.push("ours", &["dev/api:1.2.0", "dev/api:1.3.0-rc.1", "dev/api:latest", "dev/web:2.0.0"]);
    set_up.sync().await;
    set_up.has("ours", &["prod/api", "prod/web"], &["prod/api:1.2.0", "prod/web:2.0.0"]);
    let moved: u64 = set_up
        .at("ours")
        .log()
        .iter()
        .filter(|seen| seen.path.contains("/blobs/"))
        .map(|seen| seen.sent + seen.received)
        .sum();
    assert_eq!(moved, 0, "no byte of a blob is moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_get_the_platforms_that_they_run() {
    let set_up = SetUp::read("platform-subset");
    set_up.at("builds").push("app", "v1", &Image::multi_platform(1, 1_000));
    set_up.sync().await;
    set_up.has("devices", &["app"], &["app:v1"]);
    let index: Value = serde_json::from_slice(&set_up.at("devices").manifest("app", "v1").unwrap()).unwrap();
    let platforms: BTreeSet<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms.into_iter().filter(|name| *name != "unknown").collect::<Vec<_>>(), ["arm", "arm64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn production_gets_what_the_release_key_has_signed() {
    let (mut set_up, signer) = (SetUp::read("signed-only"), CosignSigner::new());
    let configuration = set_up.files.documents.last_mut().unwrap();
    configuration["spec"]["rules"][0]["verification"]["cosign"]["publicKey"] = json!(signer.public_key());
    set_up.push("builds", &["app:signed", "app:unsigned"]);
    let digest = set_up.at("builds").tags("app")["signed"].clone();
    set_up.at("builds").push("app", &signature_tag(&digest), &signer.simple_signatures(&[&digest]));
    set_up.sync().await;
    set_up.has("production", &["app"], &["app:signed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_has_the_ten_newest_releases_and_keeps_what_falls_out() {
    let set_up = SetUp::read("newest-10-semver");
    let releases: Vec<String> = (0..12).map(|minor| format!("services/api:v1.{minor}.0")).collect();
    let mut all: Vec<&str> = releases.iter().map(String::as_str).collect();
    all.extend(["services/api:latest", "services/api:v1.12.0-rc.1", "services/web:2.0", "tools/lint:v1.0.0"]);
    set_up.push("builds", &all);
    set_up.sync().await;
    let repositories = ["services/api", "services/web", "tools/lint"];
    let newest: Vec<&str> = all[2..12].iter().copied().chain(["services/web:2.0"]).collect();
    set_up.has("site", &repositories, &newest);
    set_up.at("builds").push("services/api", "v1.12.0", &Image::single(999, 1, 1_000));
    set_up.sync().await;
    set_up.has("site", &repositories, &[&newest[..], &["services/api:v1.12.0"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_deletions_of_the_primary_within_the_brake() {
    let mut set_up = SetUp::read("disaster-recovery-with-deletes");
    set_up.files.documents.last_mut().unwrap()["spec"]["interval"] = json!("10s");
    let all: Vec<String> = (0..12).map(|number| format!("app:v{number}")).collect();
    set_up.push("primary", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let delete = async |tags: std::ops::Range<u32>, code: i32| {
        for tag in tags {
            set_up.at("primary").pusher().delete_manifest("app", &format!("v{tag}")).await;
        }
        // Two lists, an interval apart.
        for (pause, code) in [(11, 0), (0, code)] {
            let output = set_up.files.run("sync", &["--state", &set_up.files.state(), "--delete"]).await;
            assert_eq!(output.status.code(), Some(code), "{}", text(&output));
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
    };
    delete(0..0, 0).await;
    let left = |from: usize| all[from..].iter().map(String::as_str).collect::<Vec<_>>();
    set_up.has("standby", &["app"], &left(0));
    delete(0..4, 0).await;
    set_up.has("standby", &["app"], &left(4));
    // Five are allowed within a day: two more are too many, and none goes.
    delete(4..6, 4).await;
    set_up.has("standby", &["app"], &left(4));
}
