//! Tags that the destination has with other content: kept, overwritten, or immutable.

use serde_json::{Value, json};

use crate::standalone::text;
use crate::support::image::Image;
use crate::support::scripted::{Login, Personality, ScriptedRegistry};
use crate::tag_filters::{files, registry, rule, sync};

fn image(seed: u64) -> Image {
    Image::single(seed, 1, 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_others_is_kept_and_one_of_its_own_follows_the_source() {
    let (source, destination) = (registry(), registry());
    let first = source.push("app", "own", &image(1));
    let wanted = source.push("app", "foreign", &image(2));
    source.push("app", "equal", &image(3));
    let foreign = destination.push("app", "foreign", &image(12));
    destination.push("app", "equal", &image(3));
    let mut files = files("kept", &source, &[&destination]);
    rule(&mut files)["onTagConflict"] = json!("Keep");

    let planned = text(&files.run("plan", &[]).await);
    assert!(planned.contains("1 to copy, 0 to overwrite, 1 already there, 0 denied, 0 failed, 1 to skip"), "{planned}");
    let printed = sync(&files, 0).await;
    let line = printed.lines().find(|line| line.starts_with("SKIPPED")).unwrap_or_default().to_owned();
    assert!([&foreign, &wanted].iter().all(|digest| line.contains(digest.as_str())), "both digests: {printed}");
    assert!(line.contains("TagExists") && line.contains("set onTagConflict: Overwrite"), "{line}");
    assert!(printed.contains("1 copied, 1 already there, 0 failed, 1 skipped"), "{printed}");
    assert_eq!(destination.tags("app")["foreign"], foreign);

    // The tag moves at the source: what this configuration wrote is replaced.
    let second = source.push("app", "own", &image(4));
    sync(&files, 0).await;
    assert_eq!(destination.tags("app")["own"], second);
    // Another writer moves it at the destination: it points elsewhere now, and is kept.
    destination.tag("app", "own", &first);
    source.push("app", "own", &image(5));
    let printed = sync(&files, 0).await;
    assert!(printed.contains("2 skipped"), "{printed}");
    assert_eq!(destination.tags("app")["own"], first);

    let output = files.run("sync", &["--state", &files.state(), "--output", "json"]).await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["summary"]["skipped"], &document["summary"]["failed"]), (&json!(2), &json!(0)), "{document}");
    rule(&mut files)["onTagConflict"] = json!("Overwrite");
    sync(&files, 0).await;
    assert_eq!(destination.tags("app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_tag_is_complete_if_equal_and_else_skipped() {
    let source = registry();
    let immutable = Personality { login: Login::Anonymous, tags_are_immutable: true, ..Personality::plain() };
    let destination = ScriptedRegistry::start(immutable);
    source.push("app", "equal", &image(1));
    destination.push("app", "equal", &image(1));
    let wanted = source.push("app", "other", &image(2));
    let there = destination.push("app", "other", &image(12));
    let files = files("immutable", &source, &[&destination]);
    let printed = sync(&files, 0).await;
    let line = printed.lines().find(|line| line.starts_with("SKIPPED")).unwrap_or_default().to_owned();
    assert!(line.contains("TagImmutable") && line.contains(&wanted) && line.contains(&there), "{printed}");
    assert!(printed.contains("0 copied, 1 already there, 0 failed, 1 skipped"), "{printed}");
}
