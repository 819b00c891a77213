//! A registry that is away for a while, or forever, during a `sync` or `plan`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry};

const IMAGES: u64 = 30;
/// The time for which a registry is away.
const AWAY: Duration = Duration::from_secs(4);

fn push_images(source: &ScriptedRegistry) {
    (0..IMAGES).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
}

/// Lets the Registry `name` be reached through a proxy.
fn behind(files: &mut Files, name: &str, proxy: &FaultProxy) {
    let registry = files.documents.iter_mut().find(|document| document["metadata"]["name"] == name).unwrap();
    registry["spec"]["url"] = json!(format!("http://{}", proxy.host()));
}

/// Takes the registry behind a proxy away for a while.
async fn away(proxy: &FaultProxy) {
    proxy.set(LineFault::Refuse);
    tokio::time::sleep(AWAY).await;
    proxy.set(LineFault::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_costs_no_image_and_holds_up_no_other() {
    let (source, absent, present) = (registry(), registry(), registry());
    push_images(&source);
    let proxy = FaultProxy::start(absent.address());
    let mut files = files("away-destination", &source, &[&absent, &present]);
    behind(&mut files, "d0", &proxy);
    proxy.set(LineFault::Refuse);
    let state = files.state();
    let more = ["--state", state.as_str(), "--retry-for", "2m"];
    let others_go_on = async {
        eventually(Duration::from_secs(20), "the others go on", async || {
            let arrived = present.tags("app").len() as u64;
            if arrived == IMAGES { Ok(()) } else { Err(arrived) }
        })
        .await;
        away(&proxy).await;
    };
    let (synced, ()) = tokio::join!(files.run("sync", &more), others_go_on);
    let printed = text(&synced);
    assert_eq!(synced.status.code(), Some(0), "{printed}");
    assert_eq!(absent.tags("app"), source.tags("app"), "{printed}");
    assert!(!printed.contains("FAILED    "), "a failure that passed is none: {printed}");
    assert!(String::from_utf8_lossy(&synced.stderr).contains("the next attempt is in "), "it waits: {printed}");
    assert!(printed.matches("the next attempt is in ").count() < 5, "and says so now and then: {printed}");
    assert_eq!(printed.matches("COMPLETE  source").count() as u64, 2 * IMAGES, "each image has one line: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_for_a_while_is_compared_again() {
    let (source, destination) = (registry(), registry());
    push_images(&source);
    let proxy = FaultProxy::start(source.address());
    let mut files = files("away-source", &source, &[&destination]);
    behind(&mut files, "source", &proxy);
    for subcommand in ["plan", "sync"] {
        proxy.set(LineFault::Refuse);
        let (ran, ()) = tokio::join!(files.run(subcommand, &["--retry-for", "2m"]), away(&proxy));
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
        assert!(String::from_utf8_lossy(&ran.stderr).contains("the next attempt is in "), "{}", text(&ran));
    }
    assert_eq!(destination.tags("app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_looks_again_at_a_destination_that_is_away() {
    let (source, destination) = (registry(), registry());
    push_images(&source);
    let proxy = FaultProxy::start(destination.address());
    let mut files = files("away-plan", &source, &[&destination]);
    behind(&mut files, "d0", &proxy);
    proxy.set(LineFault::Refuse);
    let (planned, ()) = tokio::join!(files.run("plan", &["--retry-for", "2m"]), away(&proxy));
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned));
    assert_eq!(String::from_utf8_lossy(&planned.stderr).matches("the next attempt is in ").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_after_their_time_and_failures_of_people_are_not_tried_again() {
    let (source, destination) = (registry(), registry());
    push_images(&source);
    destination.fault(When::asked("PUT", "/manifests/v1").always(), ScriptedFault::error(403, "DENIED"));
    let proxy = FaultProxy::start(destination.address());
    let mut files = files("away-forever", &source, &[&destination]);
    behind(&mut files, "d0", &proxy);
    let denied = files.run("sync", &["--retry-for", "10s"]).await;
    assert_eq!(denied.status.code(), Some(1), "{}", text(&denied));
    assert!(text(&denied).contains("FAILED    source/app:v1 -> d0/app:v1  DestinationDenied"), "{}", text(&denied));
    assert_eq!(destination.tags("app").len() as u64, IMAGES - 11, "all but v1 and v10 to v19");

    proxy.set(LineFault::Refuse);
    for (retry_for, expected) in [("0s", 0..9), ("3s", 3..14)] {
        let began = Instant::now();
        let failed = files.run("sync", &["--retry-for", retry_for]).await;
        assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
        assert_eq!(text(&failed).matches("FAILED    ").count() as u64, IMAGES, "{}", text(&failed));
        assert!(expected.contains(&began.elapsed().as_secs()), "{retry_for}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_tried_again() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 500));
    let mut files = files("no-such-name", &source, &[&destination]);
    let registry = files.documents.iter_mut().find(|document| document["metadata"]["name"] == "d0").unwrap();
    registry["spec"]["url"] = json!("http://registry.invalid:5000");
    let synced = files.run("sync", &["--retry-for", "3s"]).await;
    assert_eq!(synced.status.code(), Some(1), "{}", text(&synced));
    let printed = text(&synced);
    assert!(printed.contains("the next attempt is in ") && printed.contains("DestinationNotReady"), "{printed}");
}
