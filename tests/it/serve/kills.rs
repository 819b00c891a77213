//! `serve` is killed many times while it copies many images.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::{SOON, Serve, compare_every};
use crate::standalone::Files;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::process::{Port, Signal};
use crate::support::run_folder::files_below;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::{files, registry};

/// The longest that a life lasts that comes to nothing.
const LIFE: Duration = Duration::from_secs(3);
/// The images that a life finds at least.
const LEFT: u64 = 20;

/// Returns a number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The time for which an image that was verified without doubt needs no look: audits follow later, each at its time of the
/// day.
const SETTLED: Duration = Duration::from_secs(120);

/// Returns the tags that the state folder records as verified, and when each may be looked at again. An image that a write
/// of an earlier life may still change has that time in its record.
fn recorded(files: &Files) -> BTreeMap<String, Timestamp> {
    let records = files_below(&files.folder.join("state/records"));
    // The last line may be torn.
    let lines = records.values().flat_map(|bytes| bytes.split_inclusive(|byte| *byte == b'\n'));
    let whole =
        lines.filter(|line| line.ends_with(b"\n")).filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let time = |value: &Value| value.as_str().map(|text| text.parse::<Timestamp>().expect("it is a time"));
    let images = whole.filter_map(|mut line| Some(line.get_mut("verified")?.take()));
    let settled = |image: &Value| {
        time(&image["nextAttemptAt"]).unwrap_or_else(|| time(&image["completedAt"]).expect("it is complete") + SETTLED)
    };
    images.map(|image| (image["tag"].as_str().expect("it has a tag").to_owned(), settled(&image))).collect()
}

/// Returns the requests of a life for tags that were recorded before it, and needed no look until now.
fn repeated(known: &BTreeMap<String, Timestamp>, destination: &ScriptedRegistry, from: usize) -> Vec<String> {
    let now = Timestamp::now();
    let mut tags = named(destination, from, "");
    tags.retain(|tag| known.get(tag).is_some_and(|settled| *settled > now));
    tags
}

/// Returns the tags that requests of a log behind `from` name, of one method or of any.
fn named(destination: &ScriptedRegistry, from: usize, method: &str) -> Vec<String> {
    let log = destination.log().split_off(from);
    let seen = log.iter().filter(|seen| method.is_empty() || seen.method == method);
    let tags = seen.filter_map(|seen| Some(seen.path.split_once("/manifests/")?.1.to_owned()));
    tags.filter(|tag| !tag.contains(':')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_that_is_killed_many_times_ends_equal_and_copies_nothing_twice() {
    let (kills, mut count) = (number("TRANSSHIP_TEST_KILLS", 50), number("TRANSSHIP_TEST_KILL_IMAGES", 200));
    let (source, destination) = (registry(), registry());
    let shared = Blob::layer(7, 2_000);
    let push = |seed: u64| {
        let layers = vec![shared.clone(), Blob::layer(1_000 + seed, 1_000)];
        source.push("app", &format!("v{seed}"), &Image::with_layers(seed, "linux/amd64", layers));
    };
    (0..count).for_each(push);
    let mut files = files("serve-kills", &source, &[&destination]);
    compare_every(&mut files, "10s");
    let (began, mut again, mut useful) = (Instant::now(), Vec::new(), 0);
    let mut port = Port::claim();
    for kill in 0..kills {
        let (known, from) = (recorded(&files), destination.log().len());
        let Serve { mut process, port: same } = Serve::spawn(port, &files, &["--copies", "2"]);
        port = same;
        // From right after the start to a few images later, at any request of a copy.
        let requests = usize::try_from(kill * 17 % 71).unwrap();
        let born = Instant::now();
        while destination.log().len() < from + requests && born.elapsed() < LIFE {
            assert!(process.ended().is_none(), "{}", process.log_tail());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.signal(Signal::KILL);
        process.wait(SOON).await.expect("SIGKILL ends it");
        again.extend(repeated(&known, &destination, from));
        useful += usize::from(recorded(&files).len() > known.len());
        left(&source, &destination);
        // On a busy machine a life gets further before it is killed: each one finds something to do.
        while recorded(&files).len() as u64 + LEFT > count {
            push(count);
            count += 1;
        }
    }
    let (known, from) = (recorded(&files), destination.log().len());
    assert!((1..count).contains(&(known.len() as u64)), "{} of {count} images are left to the last life", known.len());
    let serve = Serve::on(port, &files, &[]).await;
    eventually(Duration::from_secs(120), "everything is recorded", async || {
        let known = recorded(&files).len() as u64;
        if known == count { Ok(()) } else { Err(known) }
    })
    .await;
    serve.end().await;
    again.extend(repeated(&known, &destination, from));
    left(&source, &destination);
    assert_eq!(destination.tags("app"), source.tags("app"));
    let writes = named(&destination, 0, "PUT").len();
    println!(
        "{kills} kills during {count} images in {:?}: {useful} of these lives recorded something, {} images in all; \
         {writes} writes of tags, {} requests for tags that were recorded before",
        began.elapsed(),
        known.len(),
        again.len()
    );
    assert!(again.is_empty(), "images that were recorded are neither copied nor looked at again: {again:?}");
    assert!(writes as u64 <= count + 2 * kills, "{writes} writes: a kill costs the copies that were under way");
}

/// Every tag at the destination is that of the source, with everything below it.
fn left(source: &ScriptedRegistry, destination: &ScriptedRegistry) {
    let wanted = source.tags("app");
    for (tag, digest) in destination.tags("app") {
        assert_eq!(wanted.get(&tag), Some(&digest), "{tag}");
        assert_eq!(destination.tree("app", &tag), source.tree("app", &tag), "{tag}");
    }
}
