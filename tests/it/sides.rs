//! Failures by `transship sync` and `plan`: which side a code blames, and what is tried again or in another way.

use serde_json::{Value, json};

use crate::logins::{files, run};
use crate::standalone::{Files, text};
use crate::support::image::{Blob, Image};
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;
use crate::support::scripted::{Bearer, Login, Personality, ScriptedFault, ScriptedRegistry, When};

fn redirect(location: &str) -> ScriptedFault {
    ScriptedFault::Answer { status: 307, headers: vec![("location", location.to_owned())], body: "".into() }
}

fn page() -> ScriptedFault {
    let body = "<html><title>Sign in</title></html>".into();
    ScriptedFault::Answer { status: 200, headers: vec![("content-type", "text/html".to_owned())], body }
}

/// Syncs, and returns the exit code with the failure codes and messages of all images.
async fn sync(files: &Files) -> (Option<i32>, Vec<(String, String)>) {
    let synced = run(files.command("sync", &["--output", "json"]), &new_folder("sides-docker")).await;
    let printed: Value = serde_json::from_slice(&synced.stdout).unwrap_or_else(|_| panic!("{}", text(&synced)));
    let failed = printed["images"].as_array().into_iter().flatten().filter(|image| !image["failureCode"].is_null());
    let word = |image: &Value, field: &str| image[field].as_str().unwrap_or_default().to_owned();
    let failed = failed.map(|image| (word(image, "failureCode"), image.to_string()));
    (synced.status.code(), failed.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_code_names_the_side_that_failed() {
    // the side that fails; the requests; the answer; the code; words of the message
    let table = [
        (true, ("GET", "/blobs/"), redirect("http://store.example/x?sig=1"), "SourceRejected", "trustedHosts"),
        (true, ("GET", "/blobs/"), redirect("https://store.invalid/x?sig=1"), "SourceNotReady", "store.invalid"),
        (true, ("GET", "/blobs/"), redirect("https://10.1.2.3/x?sig=1"), "SourceNotReady", "10.1.2.3"),
        (false, ("GET", "/tags/list"), page(), "DestinationInvalid", "web page"),
        (false, ("POST", "/blobs/uploads/"), ScriptedFault::error(418, "X"), "DestinationRejected", "418"),
    ];
    let all = table.into_iter().map(|(is_source, (method, part), fault, code, words)| async move {
        let source = ScriptedRegistry::start(Personality::plain());
        source.push("other", "1", &Image::single(1, 1, 500));
        let destination = ScriptedRegistry::start(Personality::plain());
        let failing = if is_source { &source } else { &destination };
        failing.fault(When::asked(method, part).always(), fault);
        let (exit, failed) = sync(&files("sides", &source.url(), &destination.url(), json!({}))).await;
        assert_eq!(exit, Some(1), "{code}: {failed:?}");
        assert!(failed.iter().any(|(found, message)| found == code && message.contains(words)), "{code}: {failed:?}");
        assert!(!failed.iter().any(|(_, message)| message.contains("sig=1")), "{failed:?}");
    });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_outlasts_damaged_transfers() {
    let source = ScriptedRegistry::start(Personality::plain());
    let layer = Blob::layer(7, 100_000);
    let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
    source.push("other", "1", &image);
    source.fault(When::asked("GET", &layer.digest), ScriptedFault::Flip(50_000));
    source.fault(When::asked("GET", "/manifests/"), ScriptedFault::Shorten { after: 30, states_length: true });
    let destination = ScriptedRegistry::start(Personality::plain());
    let files = files("damaged", &source.url(), &destination.url(), json!({}));
    let (exit, failed) = sync(&files).await;
    // The repository that is not there is the only failure, and no image.
    assert!(failed.is_empty(), "{exit:?}: {failed:?}");
    assert_eq!(destination.tree("other", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_sync_create_what_may_not_be_looked_at() {
    let source = ScriptedRegistry::start(Personality::plain());
    let image = Image::single(1, 1, 500);
    for repository in ["team/app", "other"] {
        source.push(repository, "1", &image);
    }
    let login = Login::Bearer(Bearer { creates_repositories: true, ..Bearer::plain() });
    let destination = ScriptedRegistry::start(Personality { login, ..Personality::plain() });
    let mut files = files("unseen", &source.url(), &destination.url(), json!({}));
    files.login_at(&destination.host(), crate::support::scripted::USER, crate::support::scripted::PASSWORD);
    let planned = files.run("plan", &[]).await;
    assert!(text(&planned).contains("the destination does not say if it is there"), "{}", text(&planned));
    assert_eq!(destination.contents("other").len(), 0);
    let synced = files.run("sync", &[]).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    assert_eq!(destination.tree("team/app", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_of_buildkit_goes_between_registries_of_distribution_2_8() {
    let source = TestRegistry::docker_2_8("cache-source").start().await;
    let destination = TestRegistry::docker_2_8("cache-to").start().await;
    let cache = crate::registries::caches::cache();
    source.pusher().push("other", "cache", &cache).await;
    let files = files("cache", &source.url(), &destination.url(), json!({}));
    let (exit, failed) = sync(&files).await;
    assert!(failed.is_empty(), "{exit:?}: {failed:?}");
    let there = destination.access_log();
    assert!(there.iter().any(|line| line.method == "PUT" && line.path.contains("/manifests/cache")), "{there:?}");
    assert!(there.iter().all(|line| line.status < 500), "{there:?}");
}
