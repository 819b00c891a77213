//! Runs of `transship sync` side by side, on one folder and on two.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Child;

use super::SOON;
use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry, sync};

/// Starts a sync whose one layer takes so long, and waits until it reads that.
async fn slow(files: &Files, source: &ScriptedRegistry, image: &Image, takes: Duration) -> Child {
    let layer = image.blobs.last().unwrap().digest.clone();
    source.fault(When::asked("GET", format!("/blobs/{layer}")), ScriptedFault::Delay(takes));
    let mut command = files.command("sync", &["--state", &files.state()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(SOON, "the layer is asked for", async || source.count("GET", &layer) > 0).await;
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sync_on_a_folder_is_refused_and_a_later_one_is_right() {
    let (source, destination) = (registry(), registry());
    let (a, b) = (Image::single(1, 1, 50_000), Image::single(2, 1, 50_000));
    source.push("app", "latest", &a);
    let mut files = files("runs-one", &source, &[&destination]);
    let first = slow(&files, &source, &a, Duration::from_secs(3)).await;
    let moved = source.push("app", "latest", &b);

    let refused = sync(&files, 2).await;
    let owner = format!("is in use by process {} (transship sync)", first.id().unwrap());
    assert!(refused.contains(&owner), "{refused}");
    assert_eq!(destination.count("PUT", "/manifests/"), 0, "the first one runs still");
    let first = first.wait_with_output().await.unwrap();
    assert!(matches!(first.status.code(), Some(0 | 1)), "{}", text(&first));

    let printed = sync(&files, 0).await;
    assert_eq!(destination.tags("app")["latest"], moved, "{printed}");
    assert_eq!(destination.tree("app", "latest"), b.tree_digests());
    assert!(printed.contains(&format!("source/app:latest -> d0/app:latest  {}", &moved[..19])), "{printed}");
    files.documents[1]["spec"]["url"] = json!("http://127.0.0.1:1");
    let wrong = files.run("sync", &["--state", &files.state()]).await;
    assert_ne!(wrong.status.code(), Some(0), "another registry has no records: {}", text(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_on_two_folders_do_not_wait_for_each_other() {
    let (source, one, two) = (registry(), registry(), registry());
    let image = Image::single(3, 1, 50_000);
    let digest = source.push("app", "v1", &image);
    let (first_files, second_files) = (files("runs-a", &source, &[&one]), files("runs-b", &source, &[&two]));
    let mut first = slow(&first_files, &source, &image, Duration::from_secs(3)).await;
    sync(&second_files, 0).await;
    assert_eq!(two.tags("app")["v1"], digest);
    assert!(first.try_wait().unwrap().is_none() && one.tags("app").is_empty(), "the first one runs still");
    let first = first.wait_with_output().await.unwrap();
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    assert_eq!(one.tags("app")["v1"], digest);
}
