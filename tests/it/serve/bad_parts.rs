//! Bad tags and bad events beside good ones: each is named, and none ends another.

use serde_json::json;
use transship::terms::{FailureCode, ReplicationState};

use super::{Serve, TOKEN, becomes, compare_every, take_notifications};
use crate::bad_tags::{GOOD, add_bad, source};
use crate::support::image::Image;
use crate::support::scripted::ScriptedFault;
use crate::tag_filters::{files, registry, rule};

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_without_a_manifest_is_shown_and_recovers_with_it() {
    let (source, destination) = (source(), registry());
    add_bad(&source, "gone", ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
    let mut files = files("serve-bad-tags", &source, &[&destination]);
    compare_every(&mut files, "10s");
    let serve = Serve::start(&files).await;
    let failed = becomes(&files, "app: d0/app:gone", ReplicationState::Failed).await;
    assert_eq!((failed.failure_code, failed.digest.as_str()), (Some(FailureCode::ImageNotFound), ""), "{failed:?}");
    for tag in GOOD {
        becomes(&files, &format!("app: d0/app:{tag}"), ReplicationState::Complete).await;
    }
    serve.logs("ImagesFailed not ready: 1 of 4 images failed", 0).await;
    source.clear_faults();
    becomes(&files, "app: d0/app:gone", ReplicationState::Complete).await;
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_target_is_named_and_spoils_no_other() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files = files("serve-bad-events", &source, &[&destination]);
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d0/app:v1", ReplicationState::Complete).await;
    source.push("app", "v2", &Image::single(2, 1, 1_000));
    let pushed = json!({"action": "push", "target": {"repository": "app", "tag": "v2"}});
    let events = json!({"events": [{"action": "push"}, pushed, {"action": "push", "target": null}]});
    let answer = serve.notify("source", Some(TOKEN), &events).await;
    assert_eq!(answer.status(), 202);
    let text = answer.text().await.unwrap();
    assert_eq!(text, "1 tags taken\n2 events skipped: events[0]: missing field `target` at line 1 column 17\n");
    becomes(&files, "app: d0/app:v2", ReplicationState::Complete).await;
    assert_eq!(serve.count("events of a notification are skipped"), 1, "{}", serve.log());
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_skipped_and_filters_that_match_nothing_are_logged() {
    let (source, destination) = (registry(), registry());
    let digest = source.push("app", "v1", &Image::single(1, 1, 1_000));
    source.tag("app", "-bad", &digest);
    let mut files = files("serve-skipped", &source, &[&destination]);
    compare_every(&mut files, "10s");
    let filter = |filter_type: &str, filter: &str| json!({"filter": filter, "filterType": filter_type});
    rule(&mut files)["tagFilters"] = json!([filter("GLOB_MATCH", "v*"), filter("REGEX_MATCH", "nightly-.*")]);
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d0/app:v1", ReplicationState::Complete).await;
    serve.logs("1 name that is not valid, such as \"-bad\"", 0).await;
    serve.logs("REGEX_MATCH nightly-.* matches no tag", 0).await;
    serve.end().await;
}
