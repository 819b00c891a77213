//! SIGINT and SIGTERM while `sync` or `plan` runs.

use std::time::{Duration, Instant};

use super::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::{ChildProcess, Signal};
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry};

/// Within seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(15);
const FOREVER: ScriptedFault = ScriptedFault::Delay(Duration::from_secs(600));

/// A source with five images, and a destination.
fn scene(name: &str) -> (ScriptedRegistry, ScriptedRegistry, Files) {
    let (source, destination) = (registry(), registry());
    (0..5).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 200_000))));
    let files = files(name, &source, &[&destination]);
    (source, destination, files)
}

fn start(files: &Files, subcommand: &str, more: &[&str]) -> ChildProcess {
    let command = files.command(subcommand, more);
    ChildProcess::start(subcommand, command.into_std(), &files.folder.join(format!("{subcommand}.log")))
}

async fn code(process: &mut ChildProcess) -> Option<i32> {
    let ended = process.wait(SOON).await;
    ended.unwrap_or_else(|| panic!("it does not end: {}", process.log_tail())).code()
}

async fn is_asked(registry: &ScriptedRegistry, method: &str, part: &str) {
    eventually(SOON, "the request is under way", async || registry.count(method, part) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigint_a_copy_that_runs_is_finished_and_no_other_begins() {
    let (_source, destination, files) = scene("sigint");
    destination.fault(When::asked("PUT", "/manifests/"), ScriptedFault::Delay(Duration::from_secs(2)));
    let state = files.state();
    let mut sync = start(&files, "sync", &["--copies", "1", "--state", &state]);
    is_asked(&destination, "PUT", "/manifests/").await;
    sync.signal(Signal::INT);
    assert_eq!(code(&mut sync).await, Some(130), "{}", sync.log());
    assert_eq!(destination.tags("app").len(), 1, "{}", sync.log());
    assert!(sync.log().contains("SIGINT: nothing new is begun"), "{}", sync.log());
    assert!(sync.log().contains("1 copied, 0 already there, 0 failed, 4 not begun: sync again"), "{}", sync.log());

    let (done, before) = (destination.tags("app").into_keys().next().unwrap(), destination.log().len());
    let again = files.run("sync", &["--state", &state]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("4 copied, 1 already there, 0 failed"), "{}", text(&again));
    let asked = destination.log().split_off(before);
    assert!(!asked.iter().any(|seen| seen.path.ends_with(&format!("/manifests/{done}"))), "it was recorded: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_an_upload_that_takes_long_is_cancelled_at_its_registry() {
    let (_source, destination, files) = scene("sigterm");
    destination.fault(When::asked("PUT", "/blobs/uploads/").always(), FOREVER);
    let mut sync = start(&files, "sync", &["--state", &files.state()]);
    is_asked(&destination, "PUT", "/blobs/uploads/").await;
    let opened = destination.open_uploads();
    assert!(opened > 0);
    sync.signal(Signal::TERM);
    assert_eq!(code(&mut sync).await, Some(143), "{}", sync.log());
    assert_eq!(destination.open_uploads(), 0, "of {opened}: {}", sync.log());
    assert!(destination.tags("app").is_empty());
    assert!(sync.log().contains("5 not begun: sync again"), "{}", sync.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_sync_at_once() {
    let (_source, destination, files) = scene("second-signal");
    destination.fault(When::asked("PUT", "/blobs/uploads/").always(), FOREVER);
    let mut sync = start(&files, "sync", &[]);
    is_asked(&destination, "PUT", "/blobs/uploads/").await;
    sync.signal(Signal::INT);
    eventually(SOON, "the first signal is seen", async || sync.log().contains("SIGINT")).await;
    let began = Instant::now();
    sync.signal(Signal::TERM);
    assert_eq!(code(&mut sync).await, Some(143), "{}", sync.log());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_waits_for_a_retry_and_a_plan_end_by_a_signal() {
    let (source, destination, files) = scene("waiting-signal");
    destination.fault(When::asked("", "/app/").always(), ScriptedFault::error(503, "UNAVAILABLE"));
    let mut sync = start(&files, "sync", &["--retry-for", "10m"]);
    eventually(Duration::from_secs(40), "it waits", async || sync.log().contains("the next attempt is in")).await;
    sync.signal(Signal::INT);
    assert_eq!(code(&mut sync).await, Some(130), "{}", sync.log());

    source.fault(When::asked("GET", "/tags/list").always(), FOREVER);
    let asked = source.count("GET", "/tags/list");
    let mut plan = start(&files, "plan", &[]);
    eventually(SOON, "it lists", async || source.count("GET", "/tags/list") > asked).await;
    plan.signal(Signal::TERM);
    assert_eq!(code(&mut plan).await, Some(143), "{}", plan.log());
}
