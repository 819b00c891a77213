//! A registry that is away for a while, or forever, during a `sync` or `plan`.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{Files, text};
use crate::support::eventually::{eventually, patience};
use crate::support::image::Image;
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry};

const IMAGES: u64 = 30;
const WAITING: &str = "the next attempt is in ";

fn push_images(source: &ScriptedRegistry) {
    (0..IMAGES).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
}

/// Lets the Registry `name` be reached through a proxy.
fn behind(files: &mut Files, name: &str, proxy: &FaultProxy) {
    let registry = files.documents.iter_mut().find(|document| document["metadata"]["name"] == name).unwrap();
    registry["spec"]["url"] = json!(format!("http://{}", proxy.host()));
}

/// Runs a subcommand while the registry behind `proxy` is away. It comes back once the program says that it waits, and
/// `meanwhile` has ended.
async fn run_while_away(
    files: &Files,
    proxy: &FaultProxy,
    (subcommand, more): (&str, &[&str]),
    meanwhile: impl Future<Output = ()>,
) -> Output {
    proxy.set(LineFault::Refuse);
    let mut child = files.command(subcommand, more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut printed) = (child.stdout.take().unwrap(), Vec::new());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = Vec::new();
    let until_it_ends = async {
        let until_it_waits = async {
            while !String::from_utf8_lossy(&said).contains(WAITING)
                && errors.read_until(b'\n', &mut said).await.unwrap() > 0
            {}
        };
        tokio::join!(until_it_waits, meanwhile);
        proxy.set(LineFault::None);
        errors.read_to_end(&mut said).await.unwrap();
    };
    let all = async { tokio::join!(until_it_ends, stdout.read_to_end(&mut printed)).1.unwrap() };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("it ends in two minutes");
    Output { status: child.wait().await.unwrap(), stdout: printed, stderr: said }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_costs_no_image_and_holds_up_no_other() {
    let (source, absent, present) = (registry(), registry(), registry());
    push_images(&source);
    let proxy = FaultProxy::start(absent.address());
    let mut files = files("away-destination", &source, &[&absent, &present]);
    behind(&mut files, "d0", &proxy);
    let state = files.state();
    let more = ["--state", state.as_str(), "--retry-for", "2m"];
    let others_go_on = eventually(Duration::from_secs(60), "the others go on", async || {
        let arrived = present.tags("app").len() as u64;
        if arrived == IMAGES { Ok(()) } else { Err(arrived) }
    });
    let synced = run_while_away(&files, &proxy, ("sync", &more), others_go_on).await;
    let printed = text(&synced);
    assert_eq!(synced.status.code(), Some(0), "{printed}");
    assert_eq!(absent.tags("app"), source.tags("app"), "{printed}");
    assert!(!printed.contains("FAILED    "), "a failure that passed is none: {printed}");
    assert!(String::from_utf8_lossy(&synced.stderr).contains(WAITING), "it waits: {printed}");
    assert!(printed.matches(WAITING).count() < 5, "and says so now and then: {printed}");
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
        let ran = run_while_away(&files, &proxy, (subcommand, &["--retry-for", "2m"]), async {}).await;
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
        assert!(String::from_utf8_lossy(&ran.stderr).contains(WAITING), "{}", text(&ran));
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
    let planned = run_while_away(&files, &proxy, ("plan", &["--retry-for", "2m"]), async {}).await;
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned));
    assert_eq!(String::from_utf8_lossy(&planned.stderr).matches(WAITING).count(), 1, "{}", text(&planned));
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
    for (retry_for, seconds) in [("0s", 0), ("3s", 3)] {
        let shortest = Duration::from_secs(seconds);
        let began = Instant::now();
        let failed = files.run("sync", &["--retry-for", retry_for]).await;
        assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
        assert_eq!(text(&failed).matches("FAILED    ").count() as u64, IMAGES, "{}", text(&failed));
        let took = began.elapsed();
        assert!(took >= shortest && took < patience(shortest + Duration::from_secs(10)), "{retry_for}: {took:?}");
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
    assert!(printed.contains(WAITING) && printed.contains("DestinationNotReady"), "{printed}");
}
