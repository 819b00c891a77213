//! Destinations that lose, deny or refuse what they took.

use std::time::Duration;

use transship::copy::{CopyError, Engine, EngineLimits};
use transship::plan::CodedError;
use transship::registry::ErrorKind;

use crate::registries::pair::RegistryPair;
use crate::support::copy_errors::is_transient;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{Personality, ScriptedFault, When};

/// Returns a pair whose source has an image of two layers.
fn with_image(destination: Personality) -> (RegistryPair, Image) {
    let pair = RegistryPair::start(Personality::plain(), destination);
    let image = Image::single(1, 2, 5_000);
    pair.source.push("app", "1", &image);
    (pair, image)
}

fn code(error: CopyError) -> String {
    format!("{:?}", CodedError::from(error).code)
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_collected_before_the_manifest_comes_are_sent_again() {
    for collections in [1, 2] {
        let (pair, image) = with_image(Personality::plain());
        pair.destination.fault(When::asked("PUT", "/manifests/1").times(collections), ScriptedFault::CollectGarbage);
        let copied = pair.copy("1", &image.digest()).await.unwrap();
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        let layers: u64 = image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum();
        assert_eq!(copied.moved, layers * u64::from(collections + 1));
        assert_eq!(pair.destination.count("PUT", "/manifests/1"), collections as usize + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_collects_for_ever_is_given_up_after_three_pushes() {
    let (pair, image) = with_image(Personality::plain());
    pair.destination.fault(When::asked("PUT", "/manifests/1").always(), ScriptedFault::CollectGarbage);
    let given_up = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(given_up.to_string().contains("it was pushed 3 times"), "{given_up}");
    assert_eq!(code(given_up), "VerificationFailed");
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 3);
    assert_eq!(pair.destination.count("PUT", "/blobs/uploads/"), 3 * image.blobs.len());
    assert!(pair.destination.tags("app").is_empty());

    pair.destination.clear_faults();
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_says_it_has_what_it_lacks_gets_it_all_the_same() {
    let (pair, image) = with_image(Personality::plain());
    // As a cache in front of a storage that was cleaned does.
    for blob in &image.blobs {
        let lie = ScriptedFault::Answer { status: 200, headers: Vec::new(), body: vec![b'x'; blob.bytes.len()].into() };
        pair.destination.fault(When::asked("HEAD", format!("/blobs/{}", blob.digest)).always(), lie);
    }
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    assert_eq!(pair.destination.count("PUT", "/blobs/uploads/"), image.blobs.len());
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 3, "believed twice, then no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_never_has_what_it_claims_is_given_up_in_words() {
    let (pair, image) = with_image(Personality::plain());
    let lie = ScriptedFault::Answer { status: 200, headers: Vec::new(), body: Vec::new().into() };
    pair.destination.fault(When::asked("HEAD", "/blobs/").always(), lie);
    pair.destination
        .fault(When::asked("PUT", "/manifests/").always(), ScriptedFault::error(404, "MANIFEST_BLOB_UNKNOWN"));
    let given_up = pair.copy("1", &image.digest()).await.unwrap_err();
    let message = given_up.to_string();
    assert!(
        message.contains("MANIFEST_BLOB_UNKNOWN") && message.contains("in the end with all of its blobs"),
        "{message}"
    );
    assert_eq!(code(given_up), "VerificationFailed");
    assert_eq!(pair.destination.count("PUT", "/manifests/"), 3);
    assert_eq!(
        pair.destination.count("PUT", "/blobs/uploads/"),
        image.blobs.len(),
        "sent once, and not again and again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_appears_late_is_awaited_one_that_never_does_fails() {
    let (pair, image) = with_image(Personality::plain());
    pair.destination.push("app", "other", &Image::single(5, 1, 500));
    for method in ["HEAD", "GET"] {
        let absent = ScriptedFault::error(404, "MANIFEST_UNKNOWN");
        pair.destination.fault(When::asked(method, "/manifests/1").times(2), absent);
    }
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 1);

    let (pair, image) = with_image(Personality::plain());
    for method in ["HEAD", "GET"] {
        let absent = ScriptedFault::error(404, "MANIFEST_UNKNOWN");
        pair.destination.fault(When::asked(method, "/manifests/1").always(), absent);
    }
    let given_up = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(given_up.to_string().contains("1 is not there after it was written"), "{given_up}");
    assert_eq!(code(given_up), "VerificationFailed");
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 1, "it is not written again and again");

    let (pair, image) = with_image(Personality::plain());
    let other = ScriptedFault::Headers(vec![("docker-content-digest", Image::single(9, 1, 500).digest())]);
    pair.destination.fault(When::asked("HEAD", "/manifests/1").always(), other);
    let given_up = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(given_up.to_string().contains("another writer moves this tag"), "{given_up}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_tag_that_is_there_is_a_success_even_after_a_lost_answer() {
    let (pair, image) = with_image(Personality { tags_are_immutable: true, ..Personality::plain() });
    pair.destination.fault(When::asked("PUT", "/manifests/1"), ScriptedFault::LoseAnswer);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.count("PUT", "/manifests/1"), 2, "the second was refused, for what the first had done");
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());

    let (pair, image) = with_image(Personality { tags_are_immutable: true, ..Personality::plain() });
    let other = Image::single(7, 1, 500);
    pair.destination.push("app", "1", &other);
    // Another program was quicker: the tag is there, though it was absent when we looked.
    pair.destination.fault(When::asked("GET", "/tags/list").always(), empty_list());
    let refused = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(refused.to_string().contains("ImageTagAlreadyExistsException"), "{refused}");
    assert!(!is_transient(&refused) && code(refused) == "TagImmutable");
    assert_eq!(pair.destination.tags("app")["1"], other.digest());
}

fn empty_list() -> ScriptedFault {
    ScriptedFault::Answer { status: 200, headers: Vec::new(), body: r#"{"name":"app","tags":[]}"#.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_destination_is_reported_and_nothing_is_left_open() {
    let full: [(u16, &str, &str); 4] = [
        (413, "SIZE_INVALID", "DestinationRejected"),
        (403, "DENIED", "DestinationDenied"),
        (500, "UNKNOWN", "DestinationUnavailable"),
        (507, "UNKNOWN", "DestinationUnavailable"),
    ];
    let places = [("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")];
    for (status, name, expected) in full {
        for (method, part) in places {
            let (pair, image) = with_image(Personality::plain());
            let pair = RegistryPair { engine: one_blob_at_a_time(), ..pair };
            pair.destination.fault(When::asked(method, part).always(), ScriptedFault::error(status, name));
            // A registry that refuses a whole blob may take it in pieces: then the disk is full as well.
            pair.destination.fault(When::asked("PATCH", "").always(), ScriptedFault::error(status, name));
            let error = pair.copy("1", &image.digest()).await.unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&format!("answered {status} ({name}")), "{method} {part} {status}: {message}");
            assert_eq!(code(error), expected, "{method} {part} {status}: {message}");
            assert!(pair.destination.tags("app").is_empty());
            let requests = pair.destination.log().len();
            assert!(requests < 60, "{method} {part} {status}: {requests} requests");
            eventually(Duration::from_secs(5), "its sessions are given up", async || {
                (pair.destination.open_uploads() == 0).then_some(())
            })
            .await;

            pair.destination.clear_faults();
            pair.copy("1", &image.digest()).await.unwrap();
            assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "once there is room");
        }
    }
}

/// A session whose answer is still on its way when another blob fails would be lost.
fn one_blob_at_a_time() -> Engine {
    Engine::new(EngineLimits { blobs: 1, ..EngineLimits::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_vanishes_at_the_source_fails_once_and_changes_nothing() {
    let (pair, image) = with_image(Personality::plain());
    let pair = RegistryPair { engine: one_blob_at_a_time(), ..pair };
    let before = Image::single(8, 1, 500);
    pair.destination.push("app", "1", &before);
    pair.source.lose_blob("app", &image.blobs[1].digest);
    let error = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(matches!(&error, CopyError::Source(error) if error.kind == ErrorKind::NotFound), "{error:?}");
    assert_eq!(code(error), "ImageNotFound");
    assert_eq!(pair.source.count("GET", &image.blobs[1].digest), 1, "no storm");
    pair.source.lose_manifest("app", &image.digest());
    let error = pair.copy("2", &Image::single(4, 1, 500).digest()).await.unwrap_err();
    assert!(matches!(error, CopyError::SourceChanged), "{error:?}");
    assert_eq!(pair.destination.tags("app")["1"], before.digest());
    eventually(Duration::from_secs(5), "its sessions are given up", async || {
        (pair.destination.open_uploads() == 0).then_some(())
    })
    .await;
}
