//! Repositories get other names at their destinations, also within one registry.

use serde_json::{Value, json};

use crate::standalone::{Files, text};
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::tag_filters::{registry, rule, sync};

fn named(registry: &str, repository: &str) -> Value {
    json!({"registryRef": {"name": registry}, "repository": repository})
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_would_merge_are_named_and_the_others_go_on() {
    let (source, destination) = (registry(), registry());
    for (seed, repository) in (0..).zip(["a/x", "b/x", "c/z"]) {
        source.push(repository, "v1", &Image::single(seed, 1, 1_000));
    }
    let mut files = crate::tag_filters::files("merging", &source, &[&destination]);
    rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    rule(&mut files)["destinations"] = json!([named("d0", "mirror/{basename}")]);
    let both = "a/x and b/x would share the repository mirror/x of ";
    let planned = files.run("plan", &[]).await;
    let printed = text(&planned);
    assert!(planned.status.code() == Some(1) && printed.contains(both), "{printed}");
    assert!(printed.contains("source/c/z:v1") && printed.contains("d0/mirror/z:v1"), "{printed}");
    let printed = sync(&files, 1).await;
    assert!(printed.contains(both) && printed.contains("none of them is copied"), "{printed}");
    assert_eq!(destination.tags("mirror/z"), source.tags("c/z"));
    assert!(destination.tags("mirror/x").is_empty() && destination.tags("c/z").is_empty());

    // One that was copied before goes on, and the other one is named.
    rule(&mut files)["excludeRepositoryFilters"] = json!([{"filter": "b/x", "filterType": "EXACT_MATCH"}]);
    sync(&files, 0).await;
    rule(&mut files).as_object_mut().unwrap().remove("excludeRepositoryFilters");
    let moved = source.push("a/x", "v1", &Image::single(9, 1, 1_000));
    let printed = sync(&files, 1).await;
    assert!(printed.contains(both) && printed.contains("only a/x is copied"), "{printed}");
    assert_eq!(destination.tags("mirror/x")["v1"], moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_a_valid_name_is_named_and_ends_no_other() {
    let (source, destination) = (registry(), registry());
    for (seed, repository) in (0..).zip(["redis", "team/app"]) {
        source.push(repository, "v1", &Image::single(seed, 1, 1_000));
    }
    let mut files = crate::tag_filters::files("nameless", &source, &[&destination]);
    rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    rule(&mut files)["destinations"] = json!([named("d0", "{segment:2}/{segment:1}")]);
    let nameless = "redis has no {segment:2}";
    let planned = text(&files.run("plan", &[]).await);
    assert!(planned.matches(nameless).count() > 1, "as the reason and as a problem: {planned}");
    assert!(sync(&files, 1).await.contains(nameless));
    assert_eq!(destination.tags("app/team"), source.tags("team/app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_asked_about_the_name_at_the_destination() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files = crate::tag_filters::files("consent-to-a-name", &source, &[]);
    rule(&mut files)["destinations"] =
        json!([{"registryRef": {"namespace": "team-b", "name": "eu"}, "repository": "team-a/{repository}"}]);
    let spec = json!({"url": destination.url(), "allowHTTP": true});
    files.add("Registry", json!({"namespace": "team-b", "name": "eu"}), spec);
    let statement = |resource: &str| {
        json!({"registryRef": {"name": "eu"}, "statements": [{"sid": "s", "effect": "Allow", "resources": [resource],
            "principals": [{"namespace": "team-a"}], "actions": ["ReplicateImage", "CreateRepository"]}]})
    };
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-b", "name": "p"}), statement("app"));
    let printed = sync(&files, 1).await;
    assert!(printed.contains("team-b/eu/team-a/app") && printed.contains("RegistryPermissionDenied"), "{printed}");
    files.documents.last_mut().unwrap()["spec"] = statement("team-a/*");
    sync(&files, 0).await;
    assert_eq!(destination.tags("team-a/app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_tags_are_promoted_on_one_host_without_moving_a_byte() {
    let host = TestRegistry::distribution("promotion").user("both", PASSWORD).start().await;
    for seed in 0..100 {
        host.pusher().push("dev/app", &format!("v{seed}"), &Image::single(seed, 2, 5_000)).await;
    }
    let mut files = Files::new("promotion");
    files.registry("team-a", "source", &host, "both").registry("team-a", "twin", &host, "both");
    files.configuration("promotion", "dev/", &[]);
    rule(&mut files)["destinations"] = json!([named("source", "prod/{basename}"), named("twin", "twin/{basename}")]);
    let seen = host.access_log().len();
    let output = files.run("sync", &["--state", &files.state()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for seed in [0, 57, 99] {
        let tag = format!("v{seed}");
        let tree = host.pusher().copy_tree_digests("dev/app", &tag).await;
        for repository in ["prod/app", "twin/app"] {
            assert_eq!(host.pusher().copy_tree_digests(repository, &tag).await, tree);
        }
    }
    let log: Vec<_> = host.access_log().split_off(seen);
    let is_transfer = |method: &str, path: &str| {
        (method == "PUT" || method == "PATCH") && path.contains("/blobs/uploads/")
            || method == "GET" && path.contains("/dev/app/blobs/")
    };
    // The test itself reads blobs of three images.
    let transfers: Vec<_> = log
        .iter()
        .filter(|access| is_transfer(&access.method, &access.path) && access.user_agent.contains("transship"))
        .map(|access| format!("{} {}", access.method, access.path))
        .collect();
    assert!(transfers.is_empty(), "no byte of a blob is moved: {transfers:?}");
    assert!(text(&output).contains("200"), "{}", text(&output));

    let again = files.run("sync", &["--state", &files.state()]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_not_mirrored_into_itself_again_and_again() {
    let host = registry();
    host.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files = crate::tag_filters::files("mirror-of-itself", &host, &[]);
    rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    rule(&mut files)["destinations"] = json!([named("source", "mirror/{repository}")]);
    sync(&files, 0).await;
    assert_eq!(host.tags("mirror/app"), host.tags("app"));
    for _ in 0..2 {
        let printed = sync(&files, 1).await;
        assert!(printed.contains("repository mirror/app is written by this configuration itself"), "{printed}");
    }
    assert!(host.tags("mirror/mirror/app").is_empty());
    rule(&mut files)["excludeRepositoryFilters"] = json!([{"filter": "mirror/**", "filterType": "GLOB_MATCH"}]);
    sync(&files, 0).await;
    rule(&mut files)["destinations"] = json!([named("source", "{repository}")]);
    let output = files.run("sync", &[]).await;
    assert!(text(&output).contains("names the source registry source: remove it, or give"), "{}", text(&output));
}
