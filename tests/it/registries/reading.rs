//! Sources that answer otherwise than the specification says, and connections that harm an answer on its way.

use transship::copy::CopyError;
use transship::registry::{ErrorKind, Reference};

use super::pair::RegistryPair;
use crate::support::copy_errors::is_transient;
use crate::support::image::{Blob, DOCKER_MANIFEST, Image};
use crate::support::scripted::{BlobServing, Personality, Range, ScriptedFault, When};

const SIGNED: BlobServing = BlobServing::Redirect { signed_for_get: true, uses: 1 };

/// Copies one image from a source with these quirks, and looks at what arrived.
async fn copies_from(source: Personality) -> RegistryPair {
    let pair = RegistryPair::start(source, Personality::plain());
    let image = Image::single(1, 3, 20_000);
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    pair
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_not_stated_is_computed() {
    let silent = Personality { digest_header: (false, false, false), ..Personality::plain() };
    let pair = RegistryPair::start(silent.clone(), silent);
    let image = Image::multi_platform(1, 500);
    pair.source.push("app", "1", &image);
    let tag = "1".parse().unwrap();
    let head = pair.from.head_manifest(&"app".parse().unwrap(), Reference::Tag(&tag)).await.unwrap();
    assert_eq!(head.unwrap().digest.to_string(), image.digest());
    pair.copy("1", &image.digest()).await.unwrap();
    assert!(pair.copy("1", &image.digest()).await.unwrap().already_there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_refused_is_no_missing_image() {
    for status in [400, 403, 405] {
        let refusing = Personality { head_manifest: Some(status), ..Personality::plain() };
        let pair = RegistryPair::start(refusing.clone(), refusing);
        let image = Image::single(1, 1, 500);
        pair.source.push("app", "1", &image);
        pair.copy("1", &image.digest()).await.unwrap();
        assert!(pair.copy("1", &image.digest()).await.unwrap().already_there, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_tag_differs_from_an_absent_one() {
    let hiding = Personality { missing_manifest: 403, ..Personality::plain() };
    let pair = RegistryPair::start(Personality::plain(), hiding);
    let (image, other) = (Image::single(1, 1, 500), Image::single(2, 1, 500));
    pair.source.push("app", "1", &image);
    pair.destination.push("app", "other", &other);
    pair.copy("1", &image.digest()).await.unwrap();
    assert!(pair.destination.count("GET", "/tags/list") >= 1, "the list of tags says that it is not there");

    pair.source.push("app", "other", &image);
    pair.destination.fault(When::asked("", "/manifests/other").always(), ScriptedFault::error(403, "DENIED"));
    let denied = pair.copy("other", &image.digest()).await;
    assert!(matches!(&denied, Err(CopyError::Destination(error)) if error.kind == ErrorKind::Denied), "{denied:?}");
    assert_eq!(pair.destination.tags("app")["other"], other.digest(), "what may not be seen is not overwritten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_that_was_forgotten_is_in_the_document() {
    let pair =
        RegistryPair::start(Personality { forgets_media_types: true, ..Personality::plain() }, Personality::plain());
    let image = Image::docker(1, 1, 500);
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.media_type("app", "1").as_deref(), Some(DOCKER_MANIFEST));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_not_given_is_known_from_the_manifest() {
    let hiding = Personality { hides_lengths: true, ..Personality::plain() };
    copies_from(hiding.clone()).await;
    let pair = RegistryPair::start(Personality::plain(), hiding);
    let image = Image::single(1, 2, 3_000_000);
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    assert!(pair.copy("1", &image.digest()).await.unwrap().already_there, "a length of 0 is no other size");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_asked_for_as_they_are() {
    copies_from(Personality { gzips_blobs: true, ..Personality::plain() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_blob_is_read_without_credentials() {
    for product in [Personality::ecr(), Personality::ghcr(), Personality::docker_hub()] {
        let pair = copies_from(product).await;
        let log = pair.source.log();
        let stored: Vec<_> = log.iter().filter(|seen| seen.path.starts_with("/storage/")).collect();
        assert_eq!(stored.len(), 4, "{stored:?}");
        assert!(stored.iter().all(|seen| !seen.authorized && seen.elsewhere && seen.status == 200), "{stored:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_a_signed_url_refuses_is_asked_again_for_one_byte() {
    let pair = RegistryPair::start(Personality::plain(), Personality { serving: SIGNED, ..Personality::plain() });
    let image = Image::single(1, 1, 2_000_000);
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    let log = pair.destination.log();
    let refused = log.iter().filter(|seen| seen.is("HEAD", "/storage/") && seen.status == 403).count();
    let bytes = log.iter().filter(|seen| seen.is("GET", "/storage/") && seen.range.as_deref() == Some("bytes=0-0"));
    assert!(refused > 0);
    assert!(bytes.clone().count() > 0 && bytes.clone().all(|seen| seen.sent == 1), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_broke_at_a_url_signed_anew() {
    for serving in [BlobServing::Here, SIGNED] {
        let pair = RegistryPair::start(Personality { serving, ..Personality::plain() }, Personality::plain());
        let layer = Blob::layer(7, 400_000);
        let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
        pair.source.push("app", "1", &image);
        let place = if serving == SIGNED { "/storage/" } else { "/blobs/" };
        let part = format!("{place}{}", layer.digest);
        pair.source.fault(When::asked("GET", &part), ScriptedFault::CutAnswer(150_000));
        pair.copy("1", &image.digest()).await.unwrap();
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        let log = pair.source.log();
        let reads: Vec<_> = log.iter().filter(|seen| seen.is("GET", &part)).collect();
        assert_eq!(reads.len(), 2, "{reads:?}");
        assert_eq!(reads[1].range.as_deref(), Some("bytes=150000-"), "what came is not read again");
        assert_eq!(reads.iter().map(|seen| seen.sent).sum::<u64>(), 400_000);
        if serving == SIGNED {
            assert_ne!(reads[0].path, reads[1].path, "a signed URL is good for a moment only");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_cannot_go_on_begins_again() {
    for range in [Range::Ignored, Range::Refused] {
        let pair = RegistryPair::start(Personality { range, ..Personality::plain() }, Personality::plain());
        let layer = Blob::layer(7, 400_000);
        let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
        pair.source.push("app", "1", &image);
        let part = format!("/blobs/{}", layer.digest);
        pair.source.fault(When::asked("GET", &part), ScriptedFault::CutAnswer(150_000));
        pair.copy("1", &image.digest()).await.unwrap_or_else(|error| panic!("{range:?}: {error}"));
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        assert!(pair.source.count("GET", &part) <= 4, "{range:?}: {:?}", pair.source.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_changes_on_its_way_never_arrives() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let layer = Blob::layer(7, 100_000);
    let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
    pair.source.push("app", "1", &image);
    pair.source.fault(When::asked("GET", &layer.digest).always(), ScriptedFault::Flip(50_000));
    let copied = pair.copy("1", &image.digest()).await;
    assert!(
        matches!(&copied, Err(CopyError::Source(error)) if error.kind == ErrorKind::InvalidContent),
        "the source is blamed: {copied:?}"
    );
    assert!(!pair.destination.contents("app").contains(&layer.digest));
    assert!(pair.destination.tags("app").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_schema_1_is_refused_in_words() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let mut image = Image::single(1, 1, 500);
    image.media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
    image.bytes = br#"{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[]}"#.to_vec();
    pair.source.push("app", "1", &image);
    let refused = pair.copy("1", &image.digest()).await.unwrap_err();
    assert!(refused.to_string().contains("schema 1") && !is_transient(&refused), "{refused}");
}
