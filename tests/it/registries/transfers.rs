//! Bytes that are damaged or lost on their way from a source, and are read again.

use transship::copy::CopyError;
use transship::registry::{ErrorKind, Reference};

use super::pair::RegistryPair;
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Over, Personality, ScriptedFault, SeenRequest, When};

const FAULTS: [ScriptedFault; 3] = [
    ScriptedFault::Flip(50_000),
    ScriptedFault::Shorten { after: 60_000, states_length: true },
    ScriptedFault::Shorten { after: 60_000, states_length: false },
];

/// Returns two registries, and an image of one layer at the source.
fn pair_with_layer() -> (RegistryPair, Image, Blob) {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let layer = Blob::layer(7, 100_000);
    let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
    pair.source.push("app", "1", &image);
    (pair, image, layer)
}

/// Panics unless each read came over another connection, and none asked for a range.
fn are_rereads(reads: &[SeenRequest]) {
    let mut connections: Vec<_> = reads.iter().map(|seen| seen.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), reads.len(), "{reads:?}");
    assert!(reads.iter().all(|seen| seen.range.is_none()), "{reads:?}");
}

fn reads_of(pair: &RegistryPair, part: &str) -> Vec<SeenRequest> {
    pair.source.log().into_iter().filter(|seen| seen.is("GET", part)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_short_blob_is_read_again_over_another_connection() {
    for fault in FAULTS {
        for times in [1, 2] {
            let (pair, image, layer) = pair_with_layer();
            pair.source.fault(When::asked("GET", &layer.digest).times(times), fault.clone());
            pair.copy("1", &image.digest()).await.unwrap_or_else(|error| panic!("{fault:?}, {times} times: {error}"));
            assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
            let reads = reads_of(&pair, &layer.digest);
            assert_eq!(reads.len(), times as usize + 1, "{fault:?}: {reads:?}");
            are_rereads(&reads);
            assert_eq!(pair.destination.open_uploads(), 0, "{fault:?}: what was begun in vain is given up");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_stays_damaged_is_read_three_times_and_never_written() {
    for fault in FAULTS {
        let (pair, image, layer) = pair_with_layer();
        pair.source.fault(When::asked("GET", &layer.digest).always(), fault.clone());
        let copied = pair.copy("1", &image.digest()).await;
        assert!(
            matches!(&copied, Err(CopyError::Source(error)) if error.kind == ErrorKind::InvalidContent),
            "{fault:?}: {copied:?}"
        );
        assert_eq!(reads_of(&pair, &layer.digest).len(), 3, "{fault:?}");
        assert!(!pair.destination.contents("app").contains(&layer.digest), "{fault:?}");
        assert!(pair.destination.tags("app").is_empty(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_resumed_at_the_wrong_place_is_read_again_whole() {
    let (pair, image, layer) = pair_with_layer();
    pair.source.fault(When::asked("GET", &layer.digest), ScriptedFault::CutAnswer(40_000));
    pair.source.fault(When::asked("GET", &layer.digest).nth(2), ScriptedFault::Flip(10));
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    let ranges: Vec<_> = reads_of(&pair, &layer.digest).into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some("bytes=40000-".to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_read_again_where_it_is_sent_in_chunks() {
    let small = Personality { body_limit: Some((300_000, Over::Answers)), ..Personality::plain() };
    let pair = RegistryPair::start(Personality::plain(), small);
    let layer = Blob::layer(7, 400_000);
    let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
    pair.source.push("app", "1", &image);
    pair.source.fault(When::asked("GET", &layer.digest).nth(2), ScriptedFault::Flip(399_990));
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    assert_eq!(pair.destination.open_uploads(), 0);
    assert!(pair.destination.count("PATCH", "/blobs/uploads/") >= 2, "{:?}", pair.destination.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_damaged_for_two_destinations_arrives_at_both() {
    let (pair, image, layer) = pair_with_layer();
    let other = RegistryPair::start(Personality::plain(), Personality::plain());
    let other = RegistryPair { engine: pair.engine.clone(), ..other };
    pair.source.fault(When::asked("GET", &layer.digest), ScriptedFault::Flip(50_000));
    let digest = image.digest();
    let (one, two) = futures::join!(pair.copy("1", &digest), other.copy_from(&pair.from, "app", "1", &digest));
    one.unwrap();
    two.unwrap();
    for destination in [&pair.destination, &other.destination] {
        assert_eq!(destination.tree("app", "1"), image.tree_digests());
    }
    assert!(reads_of(&pair, &layer.digest).len() <= 3, "{:?}", pair.source.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_damaged_on_its_way_to_a_destination_is_sent_again() {
    let (pair, image, layer) = pair_with_layer();
    let put = format!("digest={}", layer.digest.replace(':', "%3A"));
    pair.destination.fault(When::asked("PUT", &put).times(2), ScriptedFault::error(400, "DIGEST_INVALID"));
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    pair.destination.fault(When::asked("PUT", "digest=").always(), ScriptedFault::error(400, "DIGEST_INVALID"));
    let other = Image::single(9, 1, 5_000);
    pair.source.push("app", "2", &other);
    let refused = pair.copy("2", &other.digest()).await;
    assert!(
        matches!(&refused, Err(CopyError::Destination(error)) if error.kind == ErrorKind::InvalidContent),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_short_manifest_is_read_again_over_another_connection() {
    let faults = [
        ScriptedFault::Flip(40),
        ScriptedFault::Shorten { after: 60, states_length: true },
        ScriptedFault::Shorten { after: 60, states_length: false },
    ];
    for (fault, states_digest) in faults.iter().flat_map(|fault| [(fault, true), (fault, false)]) {
        // Without a stated digest, a byte that differs is another manifest.
        if !states_digest && matches!(fault, ScriptedFault::Flip(_)) {
            continue;
        }
        let digest_header = (states_digest, states_digest, true);
        let pair = RegistryPair::start(Personality { digest_header, ..Personality::plain() }, Personality::plain());
        let image = Image::single(1, 1, 500);
        pair.source.push("app", "1", &image);
        pair.source.fault(When::asked("GET", "/manifests/").times(2), fault.clone());
        let (repository, tag) = ("app".parse().unwrap(), "1".parse().unwrap());
        let read = pair.from.manifest(&repository, Reference::Tag(&tag)).await;
        assert_eq!(read.unwrap_or_else(|error| panic!("{fault:?}: {error}")).bytes, image.bytes, "{fault:?}");
        let reads = reads_of(&pair, "/manifests/");
        assert_eq!(reads.len(), 3, "{fault:?}: {reads:?}");
        are_rereads(&reads);

        pair.source.fault(When::asked("GET", "/manifests/").always(), fault.clone());
        let error = pair.from.manifest(&repository, Reference::Tag(&tag)).await.unwrap_err();
        assert_eq!((error.kind, reads_of(&pair, "/manifests/").len()), (ErrorKind::InvalidContent, 6), "{fault:?}");
    }
}
