//! Tags that a destination keeps with other content.

use super::*;

fn status(bench: &Bench) -> crate::terms::ReplicationStatusStatus {
    bench.statuses.values().next().unwrap().clone()
}

fn keep() -> Bench {
    let mut bench = Bench::new("onTagConflict: Keep,");
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    bench
}

/// Ends the copies of `tag` as skipped, and the others as complete.
fn skip(bench: &mut Bench, tag: &str) {
    let (kept, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut bench.copies).into_iter().partition(|(_, copy)| copy.tag.as_str() == tag);
    bench.copies = kept.into_iter().collect();
    bench.copied(Err(FailureCode::TagExists));
    bench.copies = others.into_iter().collect();
    bench.copied(Ok(()));
}

#[test]
fn a_skipped_image_has_counts_of_its_own_and_has_not_failed() {
    let mut bench = keep();
    skip(&mut bench, "v2");
    bench.passes(20);
    let shown = status(&bench);
    let summary = &shown.summary;
    assert_eq!((summary.images, summary.complete, summary.skipped, summary.failed), (2, 1, 1, 0));
    assert_eq!((summary.status, summary.oldest_pending_since), (ReplicationState::Skipped, None));
    let image = &shown.images[0];
    assert_eq!((image.status, image.failure_code), (ReplicationState::Skipped, Some(FailureCode::TagExists)));
    assert!(bench.is_ready() && shown.failure_groups.is_empty());
    let replicated = shown.conditions.iter().find(|condition| condition.type_ == "Replicated").unwrap();
    assert_eq!(replicated.reason, reason::IMAGES_SKIPPED);

    // It is skipped after a restart, too, and looked at again within the hour.
    let mut again = Bench::resumed(orders(1, "onTagConflict: Keep,"), bench.stored(), 100);
    again.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    again.passes(600);
    let skipped = |bench: &Bench| bench.copies.values().filter(|copy| copy.tag.as_str() == "v2").count();
    assert_eq!(skipped(&again), 0);
    again.passes(3000);
    assert_eq!(skipped(&again), 1);
}

#[test]
fn a_rule_that_overwrites_from_now_on_copies_what_was_skipped() {
    let mut bench = keep();
    skip(&mut bench, "v2");
    bench.step(Event::Orders(Arc::new(orders(2, ""))));
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    assert_eq!(bench.copies.len(), 1, "nothing else is read back again");
    assert!(bench.copies.values().all(|copy| copy.tag.as_str() == "v2" && copy.written.is_none()));
}

#[test]
fn a_copy_knows_what_the_configuration_wrote_also_after_a_restart() {
    let mut bench = keep();
    bench.copied(Ok(()));
    bench.passes(600);
    bench.compare(&[("app", &[("v1", "9"), ("v2", "2")])], true);
    let written: Vec<_> = bench.copies.values().map(|copy| copy.written.clone()).collect();
    assert_eq!(written, [Some(digest("1"))]);
    bench.copied(Err(FailureCode::DestinationUnavailable));
    bench.passes(20);
    let shown = status(&bench);
    assert_eq!(shown.images[0].destination_digest, Some(digest("1").to_string()), "of the tag that has moved");
    let mut again = Bench::resumed(orders(1, "onTagConflict: Keep,"), bench.stored(), 700);
    again.compare(&[("app", &[("v1", "8"), ("v2", "2")])], true);
    let written: Vec<_> = again.copies.values().map(|copy| copy.written.clone()).collect();
    assert_eq!(written, [Some(digest("1"))]);
}
