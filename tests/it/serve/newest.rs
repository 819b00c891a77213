//! The newest tags by date while `serve` runs: what is read again, and what a push does.

use std::collections::BTreeSet;

use serde_json::json;

use super::{SOON, Serve, compare_every, take_notifications};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::{files, registry, rule};

/// Returns the number of requests for the manifests, by digest, and the configurations of `images`.
fn reads(registry: &ScriptedRegistry, images: &[Image]) -> usize {
    let digests: BTreeSet<String> =
        images.iter().flat_map(|image| [image.digest(), image.blobs[0].digest.clone()]).collect();
    let is_read = |path: &str| digests.iter().any(|digest| path.ends_with(digest.as_str()));
    registry.log().iter().filter(|seen| seen.line().starts_with("GET") && is_read(&seen.path)).count()
}

async fn has(destination: &ScriptedRegistry, tags: &[&str]) {
    eventually(SOON, &format!("{tags:?} arrive"), async || {
        let there: Vec<String> = destination.tags("app").into_keys().collect();
        if there == tags { Ok(()) } else { Err(there.join(" ")) }
    })
    .await;
}

fn of_day(day: u64) -> Image {
    Image::single(day, 1, 1_000).created_at(&format!("2024-01-{day:02}T00:00:00Z"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_is_read_once_for_each_digest() {
    let (source, destination) = (registry(), registry());
    let images: Vec<Image> = (1..5).map(of_day).collect();
    for (number, image) in images.iter().enumerate() {
        source.push("app", &format!("v{number}"), image);
        source.push("app", &format!("alias{number}"), image);
    }
    let mut files = files("newest-dates-once", &source, &[&destination]);
    rule(&mut files)["newest"] = json!({"count": 2, "by": "Created"});
    compare_every(&mut files, "10s");
    let serve = Serve::start(&files).await;
    has(&destination, &["alias3", "v3"]).await;
    let lists = || source.count("GET", "/v2/app/tags/list");
    let (first, before) = (reads(&source, &images[..3]), lists());
    assert!((6..=12).contains(&first), "{first} reads of three images that are outside");
    eventually(4 * SOON, "two more comparisons", async || lists() >= before + 2).await;
    assert_eq!(reads(&source, &images[..3]), first, "later comparisons remember the dates");
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_copied_at_once_if_it_is_one_of_the_newest() {
    let (source, destination) = (registry(), registry());
    for day in [10, 12] {
        source.push("app", &format!("d{day}"), &of_day(day));
    }
    let mut files = files("newest-pushes", &source, &[&destination]);
    rule(&mut files)["newest"] = json!({"count": 2, "by": "Created"});
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::start(&files).await;
    has(&destination, &["d10", "d12"]).await;
    serve.logs("Replicated ready: ", 0).await;
    let lists = source.count("GET", "/v2/app/tags/list");
    source.push("app", "d09", &of_day(9));
    serve.hint("app", "d09").await;
    eventually(SOON, "it is looked at", async || reads(&source, &[of_day(9)]) > 0).await;
    source.push("app", "d14", &of_day(14));
    serve.hint("app", "d14").await;
    has(&destination, &["d10", "d12", "d14"]).await;
    assert_eq!(source.count("GET", "/v2/app/tags/list"), lists, "no list is needed for it");
    serve.end().await;
}
