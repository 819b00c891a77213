//! A tag that the source lists and does not give has an entry of its own, and ends no other.

use transship::api::ReplicationConfiguration;
use transship::terms::{FailureCode, ReplicationState};

use super::core::{SOON, between, is_ready};
use crate::bad_tags::{GOOD, add_bad, source};
use crate::support::image::Image;
use crate::support::scripted::{ScriptedFault, When};
use crate::tag_filters::registry;

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_without_a_manifest_fails_alone_and_recovers_with_it() {
    let (source, destination) = (source(), registry());
    add_bad(&source, "gone", ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
    add_bad(&source, "denied", ScriptedFault::error(403, "DENIED"));
    let mut scene = between("bad-tags", &source, &destination, None).await;
    scene.start_operator().await;
    for tag in GOOD {
        scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, SOON).await;
    }
    for (tag, code) in [("gone", FailureCode::ImageNotFound), ("denied", FailureCode::SourceDenied)] {
        let failed = scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Failed, SOON).await;
        assert_eq!((failed.failure_code, failed.digest.as_str()), (Some(code), ""), "{failed:?}");
    }
    let namespace = scene.namespace.name.clone();
    let (kind, reason) = ("Ready", "ImagesFailed");
    let shown = scene.condition::<ReplicationConfiguration>(&namespace, "all", kind, "False", reason, SOON).await;
    assert!(shown.starts_with("2 of 5 images failed"), "{shown}");
    scene.compared_again("all", "still bad").await;
    let summary = scene.configurations().get("all").await.unwrap().status.unwrap().summary.unwrap();
    assert_eq!((summary.images, summary.complete, summary.failed), (5, 3, 2));

    source.clear_faults();
    scene.compared_again("all", "good again").await;
    is_ready(&scene).await;
    scene.image_becomes("destination/app:gone", ReplicationState::Complete, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_list_fails_ends_no_other_and_an_absent_list_is_empty() {
    let (source, destination) = (source(), registry());
    for repository in ["blobs-only", "kept-back", "z-last"] {
        source.push(repository, "v1", &Image::single(50, 1, 1_000));
    }
    source.fault(When::asked("GET", "/blobs-only/tags/list").always(), ScriptedFault::error(404, "NAME_UNKNOWN"));
    source.fault(When::asked("GET", "/kept-back/tags/list").always(), ScriptedFault::error(403, "DENIED"));
    let mut scene = between("bad-lists", &source, &destination, None).await;
    scene.start_operator().await;
    for image in ["app:m-good", "z-last:v1"] {
        scene.image_becomes(&format!("destination/{image}"), ReplicationState::Complete, SOON).await;
    }
    let (namespace, reason) = (scene.namespace.name.clone(), "SourceUnreadable");
    let shown = scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "False", reason, SOON).await;
    assert!(shown.contains("kept-back") && !shown.contains("blobs-only"), "{shown}");
    source.clear_faults();
    source.fault(When::asked("GET", "/blobs-only/tags/list").always(), ScriptedFault::error(404, "NAME_UNKNOWN"));
    scene.compared_again("all", "readable").await;
    is_ready(&scene).await;
}
