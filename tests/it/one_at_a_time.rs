//! Registries that bear one request at a time: nothing that is copied waits for itself.

use std::time::Duration;

use serde_json::json;

use crate::standalone::text;
use crate::support::image::Image;
use crate::support::scripted::{Login, Over, Personality, ScriptedRegistry};
use crate::tag_filters::{files, registry, sync};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_listed_faster_than_it_is_copied_and_all_arrives() {
    let (source, destination) = (registry(), registry());
    for seed in 0..600 {
        source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 100));
    }
    let mut files = files("listed-faster", &source, &[&destination]);
    files.documents[0]["spec"]["limits"] = json!({"concurrency": 1});
    // So many images, one after another, take longer than a minute beside other tests.
    let ended =
        tokio::time::timeout(Duration::from_secs(120), files.command("sync", &["--state", &files.state()]).output())
            .await;
    let output = ended.expect("it ends in two minutes").unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(destination.tags("app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_out_to_be_sent_in_chunks_is_not_open_at_the_source_twice() {
    let body_limit = Some((300_000, Over::Answers));
    let (source, destination) = (
        registry(),
        ScriptedRegistry::start(Personality { login: Login::Anonymous, body_limit, ..Personality::plain() }),
    );
    for seed in 0..4 {
        source.push("app", &format!("v{seed}"), &Image::single(seed, 2, 800_000));
    }
    let mut files = files("chunks", &source, &[&destination]);
    for registry in [0, 1] {
        files.documents[registry]["spec"]["limits"] = json!({"concurrency": 1});
    }
    sync(&files, 0).await;
    assert_eq!(destination.tags("app"), source.tags("app"));
    assert!(destination.count("PATCH", "/blobs/uploads/") >= 4 * 2 * 3, "each layer came in chunks");
}
