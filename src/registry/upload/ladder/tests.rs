//! The profile and the experience of a registry.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn ladder() -> Ladder {
    Ladder::new(UploadProfile::default())
}

#[test]
fn what_worked_is_where_the_next_blob_starts_for_an_hour() {
    let (ladder, now) = (ladder(), Instant::now());
    ladder.worked(Rung::Patch, 100, DescentReason::Refused, now);
    assert_eq!(ladder.first(1, now), Rung::Patch);
    assert_eq!(ladder.first(1, now + HOUR), Rung::Put, "the registry is tried again");
    ladder.forget();
    assert_eq!(ladder.first(1, now), Rung::Put);
    ladder.worked(Rung::Chunks, 100, DescentReason::ConnectionBroke, now);
    assert_eq!(ladder.first(100, now), Rung::Put, "a connection that broke says nothing about the registry");
}

#[test]
fn a_size_that_is_too_large_says_nothing_about_smaller_blobs() {
    let (ladder, now) = (ladder(), Instant::now());
    ladder.worked(Rung::Chunks, 100, DescentReason::TooLarge, now);
    ladder.worked(Rung::Chunks, 200, DescentReason::TooLarge, now);
    assert_eq!([99, 100, 300].map(|size| ladder.first(size, now)), [Rung::Put, Rung::Chunks, Rung::Chunks]);
    ladder.worked(Rung::Chunks, 50, DescentReason::TooLarge, now);
    assert_eq!(ladder.first(50, now), Rung::Chunks);
}

#[test]
fn every_way_is_tried_once_and_none_that_cannot_help() {
    use Rung::{Chunks, Patch, Put};
    let ladder = ladder();
    let below = |tried: &[Rung], cause| ladder.below(tried, cause);
    assert_eq!(below(&[Put], DescentReason::Refused), Some(Patch));
    assert_eq!(below(&[Put, Patch], DescentReason::Refused), Some(Chunks));
    assert_eq!(below(&[Chunks], DescentReason::Refused), Some(Put));
    assert_eq!(below(&[Put, Patch, Chunks], DescentReason::Refused), None);
    assert_eq!(below(&[Put], DescentReason::TooLarge), Some(Chunks));
    assert_eq!(below(&[Put, Chunks], DescentReason::TooLarge), None);
    assert_eq!(below(&[Put], DescentReason::ConnectionBroke), Some(Chunks));
    assert_eq!(
        Ladder::new(UploadProfile { rungs: &[Put, Patch], ..UploadProfile::default() })
            .below(&[Put], DescentReason::TooLarge),
        None
    );
}

#[test]
fn chunks_are_as_large_as_the_registry_wants_them() {
    let (ladder, now) = (ladder(), Instant::now());
    assert_eq!(ladder.chunk(5 * 1024 * 1024, now), Some(5 * 1024 * 1024));
    assert_eq!(ladder.chunk(MAX_CHUNK, now), Some(MAX_CHUNK));
    assert_eq!(ladder.chunk(MAX_CHUNK + 1, now), None);
    assert_eq!(ladder.smaller_chunk(4 * 1024 * 1024, 0, now), Some(2 * 1024 * 1024));
    assert_eq!(ladder.chunk(0, now), Some(2 * 1024 * 1024), "what is too large is remembered");
    assert_eq!(ladder.chunk(0, now + HOUR), Some(DEFAULT_CHUNK));
    assert_eq!(ladder.smaller_chunk(300 * 1024, 0, now), Some(MIN_CHUNK));
    assert_eq!(ladder.smaller_chunk(MIN_CHUNK, 0, now), None);
    assert_eq!(ladder.smaller_chunk(4 * 1024 * 1024, 4 * 1024 * 1024, now), None);
}

#[test]
fn a_registry_that_never_mounts_is_not_asked_for_an_hour() {
    let (ladder, now) = (ladder(), Instant::now());
    for _ in 0..4 {
        ladder.not_mounted(false, now);
    }
    ladder.mounted();
    for _ in 0..4 {
        ladder.not_mounted(false, now);
    }
    assert!(ladder.may_mount(now), "only misses in a row count");
    ladder.not_mounted(false, now);
    assert!(!ladder.may_mount(now));
    assert!(ladder.may_mount(now + HOUR));
    ladder.not_mounted(false, now + HOUR);
    assert!(!ladder.may_mount(now + HOUR), "one more miss is enough then");
    ladder.mounted();
    assert!(ladder.may_mount(now));
    ladder.not_mounted(true, now);
    assert!(!ladder.may_mount(now), "a registry that does not know mounts is asked once");
}
