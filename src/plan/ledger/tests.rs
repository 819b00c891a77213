use std::time::Duration;

use super::*;
use crate::terms::{FailureCode, ReferrersMode};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn unavailable(jitter: f64) -> FailedAttempt {
    let (code, message) = (FailureCode::SourceUnavailable, "no answer".to_owned());
    FailedAttempt { code, message, retry_after: None, jitter }
}

/// Observes a tag by a request that was sent just now, and returns the next step.
fn observe(ledger: &mut Ledger, tag: &Tag, digest: &Digest, now: Timestamp) -> Attempt {
    assert_eq!(ledger.observe(tag, digest, now, now), Freshness::Newest);
    ledger.attempt(tag, now)
}

fn complete(ledger: &mut Ledger, tag: &Tag, digest: &Digest, now: Timestamp) -> bool {
    ledger.complete(tag, digest, Replica { bytes: 7, ..Replica::default() }, now, now)
}

fn take_list(ledger: &mut Ledger, listed: &BTreeSet<Tag>, begun: Timestamp) -> Vec<Tag> {
    ledger.take_listing(listed, AbsentTags::Forgotten, begun, begun)
}

/// Counts anew what the ledger keeps count of.
fn recount(ledger: &Ledger) -> Counts {
    let mut counts = Counts::default();
    for (_, entry) in ledger.entries() {
        match entry {
            LedgerEntry::Row(row) => counts.add(row),
            LedgerEntry::Unread(unread, _) => {
                (counts.images, counts.failed, counts.owed) = (counts.images + 1, counts.failed + 1, counts.owed + 1);
                counts.stuck += u64::from(unread.code.needs_user());
            }
        }
    }
    counts
}

/// There is one for each tag and destination, and an allocator rounds up.
#[test]
fn a_row_takes_no_more_than_128_bytes() {
    assert!(size_of::<Row>() <= 128, "{}", size_of::<Row>());
}

#[test]
fn an_image_is_copied_once_and_again_only_when_its_tag_moves() {
    let (mut ledger, one, two) = (Ledger::default(), Digest::sha256(b"1"), Digest::sha256(b"2"));
    let latest = tag("latest");
    assert_eq!(observe(&mut ledger, &latest, &one, at(0)), Attempt::Copy(one.clone()));
    ledger.progress(&latest, &one, 0);
    assert_eq!(observe(&mut ledger, &latest, &one, at(1)), Attempt::Nothing);
    assert!(complete(&mut ledger, &latest, &one, at(2)));
    assert_eq!(observe(&mut ledger, &latest, &one, at(3)), Attempt::Nothing);
    assert_eq!(observe(&mut ledger, &latest, &two, at(4)), Attempt::Copy(two));
    assert!(ledger.row(&latest).unwrap().was_there);
}

#[test]
fn an_observation_that_was_sent_earlier_never_overrides_a_later_one() {
    let (mut ledger, old, new, v1) = (Ledger::default(), Digest::sha256(b"1"), Digest::sha256(b"2"), tag("v1"));
    assert_eq!(ledger.observe(&v1, &new, at(5), at(6)), Freshness::Newest);
    assert_eq!(ledger.observe(&v1, &old, at(4), at(7)), Freshness::Outdated, "its answer came late");
    assert_eq!(ledger.attempt(&v1, at(7)), Attempt::Copy(new.clone()));
    assert_eq!(ledger.observe(&v1, &old, at(8), at(8)), Freshness::Newest, "the tag moved back at the source");
    assert_eq!(ledger.attempt(&v1, at(8)), Attempt::Copy(old));
    let overlapping = ledger.observe(&v1, &new, at(8), at(9));
    assert_eq!(overlapping, Freshness::Newest, "it was sent when the answer before had come");
    let overlapping = ledger.observe(&v1, &Digest::sha256(b"3"), at(8), at(10));
    assert_eq!(overlapping, Freshness::Unclear, "either may be the newer one");
    assert_eq!(ledger.attempt(&v1, at(10)), Attempt::Copy(new));
}

#[test]
fn the_outcome_of_an_earlier_digest_says_nothing_about_the_present_one() {
    let (mut ledger, one, two) = (Ledger::default(), Digest::sha256(b"1"), Digest::sha256(b"2"));
    let latest = tag("latest");
    observe(&mut ledger, &latest, &one, at(0));
    ledger.progress(&latest, &one, 0);
    observe(&mut ledger, &latest, &two, at(1));
    assert!(!complete(&mut ledger, &latest, &one, at(2)));
    ledger.fail(&latest, &one, unavailable(0.0), at(2));
    assert_eq!(ledger.attempt(&latest, at(2)), Attempt::Copy(two));
}

#[test]
fn failures_back_off_and_are_due_at_once_when_the_cause_is_gone() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    observe(&mut ledger, &v1, &one, at(0));
    let mut waits = Vec::new();
    for _ in 0..3 {
        ledger.progress(&v1, &one, 0);
        ledger.fail(&v1, &one, unavailable(1.0), at(100));
        let Attempt::Wait(until) = ledger.attempt(&v1, at(100)) else { panic!("it waits") };
        assert_eq!(ledger.due_at(&v1), Some(until));
        waits.push(until.as_second() - 100);
    }
    assert_eq!(waits, [2, 4, 8]);
    assert!(ledger.make_due(at(101), |code| code == FailureCode::SourceUnavailable));
    assert_eq!(ledger.attempt(&v1, at(101)), Attempt::Copy(one));
}

#[test]
fn bytes_are_news_once_and_an_image_whose_worker_was_lost_waits_again() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    observe(&mut ledger, &v1, &one, at(0));
    assert!(ledger.progress(&v1, &one, 5) && !ledger.progress(&v1, &one, 5) && ledger.progress(&v1, &one, 6));
    assert!(!ledger.progress(&v1, &Digest::sha256(b"2"), 7), "another digest is another image");
    assert!(ledger.interrupt(&v1) && !ledger.interrupt(&v1));
    assert_eq!(ledger.row(&v1).unwrap().state, RowState::Pending);
}

#[test]
fn a_failed_image_is_owed_until_it_is_verified_also_while_it_is_tried_again() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    observe(&mut ledger, &v1, &one, at(1));
    assert_eq!(ledger.counts().owed, 0, "it arrived since the last comparison");
    ledger.progress(&v1, &one, 0);
    ledger.fail(&v1, &one, unavailable(0.0), at(2));
    assert_eq!((ledger.counts().owed, ledger.counts().untried), (1, 0));
    ledger.progress(&v1, &one, 0);
    assert_eq!((ledger.counts().owed, ledger.counts().untried), (1, 1));
    complete(&mut ledger, &v1, &one, at(3));
    assert_eq!((ledger.counts().owed, ledger.counts().complete), (0, 1));
}

#[test]
fn a_complete_comparison_owes_what_it_observed_and_nothing_older() {
    let (mut ledger, one) = (Ledger::default(), Digest::sha256(b"1"));
    observe(&mut ledger, &tag("before"), &one, at(1));
    observe(&mut ledger, &tag("there"), &one, at(5));
    complete(&mut ledger, &tag("there"), &one, at(6));
    observe(&mut ledger, &tag("new"), &one, at(7));
    ledger.owe(at(4));
    assert_eq!((ledger.counts().owed, ledger.counts().untried), (1, 1));
}

#[test]
fn nothing_stays_in_progress_without_a_living_owner() {
    let image = ImageStatus {
        tag: "v1".to_owned(),
        digest: Digest::sha256(b"1").to_string(),
        destination_digest: None,
        status: ReplicationState::InProgress,
        failure_code: None,
        message: None,
        attempts: None,
        next_attempt_at: None,
        bytes: None,
        completed_at: None,
        referrers_hash: None,
    };
    let ledger = Ledger::restore(&RecordedImages::Shown, &[image], Some(at(-5)), at(0));
    let row = ledger.row(&tag("v1")).unwrap();
    assert_eq!((&row.state, row.since.get(), row.was_there), (&RowState::Pending, at(-5), false));
}

#[test]
fn an_image_is_read_back_again_once_a_day_and_stays_complete_meanwhile() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    observe(&mut ledger, &v1, &one, at(0));
    complete(&mut ledger, &v1, &one, at(10));
    let day = 24 * 3600;
    assert_eq!(observe(&mut ledger, &v1, &one, at(day)), Attempt::Nothing);
    assert_eq!(observe(&mut ledger, &v1, &one, at(day + 10)), Attempt::Copy(one.clone()));
    ledger.begin(&v1, ReferrersMode::Replicate);
    assert!(!ledger.progress(&v1, &one, 5), "the status does not show that");
    complete(&mut ledger, &v1, &one, at(day + 11));
    assert_eq!(ledger.row(&v1).unwrap().state, RowState::Complete { bytes: 7, at: at(10).into() });
    assert_eq!(observe(&mut ledger, &v1, &one, at(day + 12)), Attempt::Nothing);
    assert_eq!(observe(&mut ledger, &v1, &one, at(2 * day + 12)), Attempt::Copy(one.clone()));
    ledger.fail(&v1, &one, unavailable(0.0), at(2 * day + 13));
    assert!(matches!(ledger.row(&v1).unwrap().state, RowState::Failed(_)), "a loss at the destination shows");
}

#[test]
fn an_image_that_follows_an_unanswered_write_is_read_back_again_soon() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    observe(&mut ledger, &v1, &one, at(1));
    ledger.complete(&v1, &one, Replica::default(), at(62), at(2));
    assert_eq!(ledger.due_at(&v1), Some(at(62)), "the write of an earlier digest may still arrive");
    assert_eq!(ledger.attempt(&v1, at(62)), Attempt::Copy(one.clone()));
    ledger.complete(&v1, &one, Replica::default(), at(62), at(63));
    assert_eq!(ledger.due_at(&v1), Some(at(63 + 24 * 3600)));
}

#[test]
fn what_refers_to_an_image_is_copied_when_it_changes_also_while_a_copy_runs() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    let see = |ledger: &mut Ledger, listed: Option<&str>, now| {
        ledger.observe_referrers(&v1, None, Some(listed.map(str::to_owned)), now);
        ledger.attempt(&v1, now)
    };
    observe(&mut ledger, &v1, &one, at(0));
    assert_eq!(see(&mut ledger, Some("a"), at(0)), Attempt::Copy(one.clone()));
    ledger.begin(&v1, ReferrersMode::Replicate);
    ledger.progress(&v1, &one, 0);
    assert_eq!(see(&mut ledger, Some("b"), at(1)), Attempt::Nothing, "it is under way");
    complete(&mut ledger, &v1, &one, at(2));
    assert_eq!(ledger.attempt(&v1, at(2)), Attempt::Copy(one.clone()), "what came meanwhile is not there");
    ledger.begin(&v1, ReferrersMode::Replicate);
    complete(&mut ledger, &v1, &one, at(3));
    assert_eq!(see(&mut ledger, Some("b"), at(4)), Attempt::Nothing);
    ledger.observe_referrers(&v1, None, None, at(4));
    assert_eq!(ledger.attempt(&v1, at(4)), Attempt::Nothing, "the API was not asked");
    assert_eq!(see(&mut ledger, None, at(5)), Attempt::Copy(one));
}

#[test]
fn the_referrers_that_a_copy_lists_count_unless_others_came_since() {
    // The list that is known before the copy, one that is observed while it runs, the list of the copy, the next one.
    for (before, meanwhile, copied, next, is_due) in [
        (None, None, Some("a"), Some("a"), false),
        (None, None, Some("a"), Some("b"), true),
        (None, None, Some("a"), None, true),
        (Some("a"), None, Some("b"), Some("b"), false),
        (None, Some("b"), Some("a"), Some("b"), true),
        (Some("a"), None, None, Some("a"), false),
    ] {
        let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
        let see = |ledger: &mut Ledger, listed: Option<&str>, now| {
            ledger.observe_referrers(&v1, None, Some(listed.map(str::to_owned)), now);
        };
        observe(&mut ledger, &v1, &one, at(0));
        see(&mut ledger, before, at(0));
        ledger.begin(&v1, ReferrersMode::Replicate);
        if meanwhile.is_some() {
            see(&mut ledger, meanwhile, at(1));
        }
        let replica = Replica { bytes: 7, listed: copied.map(str::to_owned), ..Replica::default() };
        ledger.complete(&v1, &one, replica, at(2), at(2));
        see(&mut ledger, next, at(3));
        let is_copied = ledger.attempt(&v1, at(3)) == Attempt::Copy(one);
        assert_eq!(is_copied, is_due, "{before:?}, {meanwhile:?}, {copied:?}, {next:?}");
    }
}

#[test]
fn a_copy_without_referrers_verifies_none_of_them() {
    let (mut ledger, one, v1) = (Ledger::default(), Digest::sha256(b"1"), tag("v1"));
    let list = || Some(Some("a".to_owned()));
    observe(&mut ledger, &v1, &one, at(0));
    ledger.observe_referrers(&v1, Some("t".to_owned()), list(), at(0));
    ledger.begin(&v1, ReferrersMode::Ignore);
    complete(&mut ledger, &v1, &one, at(1));
    assert_eq!(ledger.attempt(&v1, at(1)), Attempt::Nothing);
    ledger.observe_referrers(&v1, Some("t".to_owned()), list(), at(2));
    assert_eq!(ledger.attempt(&v1, at(2)), Attempt::Copy(one));
}

#[test]
fn a_tag_is_forgotten_when_two_lists_lack_it_an_empty_one_proves_nothing() {
    let mut ledger = Ledger::default();
    for (name, second) in [("a", 0), ("b", 0), ("c", 6)] {
        observe(&mut ledger, &tag(name), &Digest::sha256(b"1"), at(second));
    }
    let listed = BTreeSet::from([tag("b")]);
    assert!(take_list(&mut ledger, &listed, at(5)).is_empty(), "one list proves nothing");
    assert!(take_list(&mut ledger, &BTreeSet::new(), at(6)).is_empty(), "it is suddenly empty");
    assert_eq!(take_list(&mut ledger, &listed, at(7)), [tag("a")]);
    assert_eq!(take_list(&mut ledger, &listed, at(8)), [tag("c")], "it was younger than the first list that lacks it");
    assert!(take_list(&mut ledger, &BTreeSet::new(), at(9)).is_empty());
    assert!(take_list(&mut ledger, &BTreeSet::new(), at(10)).is_empty(), "it stays empty: the first that counts");
    assert_eq!(take_list(&mut ledger, &BTreeSet::new(), at(11)), [tag("b")]);
}

#[test]
fn a_tag_that_is_listed_again_starts_anew() {
    let (mut ledger, a) = (Ledger::default(), tag("a"));
    observe(&mut ledger, &a, &Digest::sha256(b"1"), at(0));
    observe(&mut ledger, &tag("b"), &Digest::sha256(b"1"), at(0));
    let (without, with) = (BTreeSet::from([tag("b")]), BTreeSet::from([a.clone(), tag("b")]));
    assert!(take_list(&mut ledger, &without, at(1)).is_empty());
    assert!(take_list(&mut ledger, &with, at(2)).is_empty());
    assert!(take_list(&mut ledger, &without, at(3)).is_empty());
    assert_eq!(take_list(&mut ledger, &without, at(4)), [a]);
}

proptest::proptest! {
    #[test]
    fn a_plan_applied_twice_is_empty_and_counts_are_exact(
        contents in proptest::collection::btree_map("[a-z]{1,4}", 0_u8..4, 0..20),
        failing in 0_u8..4,
    ) {
        let mut ledger = Ledger::default();
        for (name, content) in &contents {
            let (tag, digest) = (tag(name), Digest::sha256(&[*content]));
            if let Attempt::Copy(digest) = observe(&mut ledger, &tag, &digest, at(0)) {
                ledger.progress(&tag, &digest, 0);
                if *content == failing {
                    ledger.fail(&tag, &digest, unavailable(0.0), at(1));
                }
                complete(&mut ledger, &tag, &digest, at(1));
            }
            proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
        }
        for (name, content) in &contents {
            proptest::prop_assert_eq!(observe(&mut ledger, &tag(name), &Digest::sha256(&[*content]), at(2)), Attempt::Nothing);
        }
        for name in ["a", "b", "zz"] {
            let code = FailureCode::SourceDenied;
            let failed = FailedRead { code, message: String::new(), is_of_tag: true };
            let entry = ledger.fail_to_read(&tag(name), failed, at(3), at(3));
            proptest::prop_assert_eq!(entry, UnreadEntry::Changed);
            proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
        }
        observe(&mut ledger, &tag("a"), &Digest::sha256(b"new"), at(4));
        proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
        take_list(&mut ledger, &contents.keys().map(|name| tag(name)).collect(), at(5));
        proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
        ledger.retain_taken(|tag| tag.as_str() < "m");
        proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
        ledger.start_over(at(3));
        proptest::prop_assert_eq!(ledger.counts(), recount(&ledger));
    }
}

/// A ledger with these tags, each verified with its name as content.
fn with_replicas(tags: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    for name in tags {
        observe(&mut ledger, &tag(name), &Digest::sha256(name.as_bytes()), at(0));
        complete(&mut ledger, &tag(name), &Digest::sha256(name.as_bytes()), at(0));
    }
    ledger
}

fn prove(ledger: &mut Ledger, listed: &[&str], second: i64) -> Vec<Tag> {
    let listed = listed.iter().map(|name| tag(name)).collect();
    ledger.take_listing(&listed, AbsentTags::Proved(Duration::from_secs(600)), at(second), at(second + 1))
}

fn leaving(ledger: &Ledger) -> Vec<&str> {
    ledger.leaving().map(|(tag, _)| tag.as_str()).collect()
}

#[test]
fn absence_is_proved_by_two_lists_an_interval_apart() {
    let mut ledger = with_replicas(&["a", "b"]);
    assert!(prove(&mut ledger, &["a"], 10).is_empty() && leaving(&ledger).is_empty());
    assert!(prove(&mut ledger, &["a"], 610).is_empty() && leaving(&ledger).is_empty(), "the first one took a second");
    assert!(prove(&mut ledger, &["a"], 611).is_empty());
    assert_eq!(leaving(&ledger), ["b"]);
    assert_eq!((ledger.attempt(&tag("b"), at(900_000)), ledger.due_at(&tag("b"))), (Attempt::Nothing, None));
    assert_eq!(ledger.due(at(0)).1, ledger.due_at(&tag("a")), "what is leaving is not audited");
    observe(&mut ledger, &tag("b"), &Digest::sha256(b"b"), at(700));
    assert!(leaving(&ledger).is_empty(), "it was pushed again");
}

#[test]
fn a_tag_that_has_left_is_not_to_be_read_or_copied_any_more() {
    let mut ledger = with_replicas(&["a", "b", "c", "d"]);
    for name in ["b", "d"] {
        observe(&mut ledger, &tag(name), &Digest::sha256(b"moved"), at(1));
    }
    let failed =
        || FailedAttempt { code: FailureCode::SourceDenied, message: String::new(), retry_after: None, jitter: 0.5 };
    ledger.fail(&tag("b"), &Digest::sha256(b"moved"), failed(), at(2));
    let unread = FailedRead { code: FailureCode::SourceDenied, message: String::new(), is_of_tag: true };
    ledger.fail_to_read(&tag("c"), unread, at(2), at(2));
    assert_eq!((ledger.counts().failed, ledger.counts().owed), (2, 2));
    prove(&mut ledger, &["a"], 10);
    prove(&mut ledger, &["a"], 1000);
    ledger.fail(&tag("d"), &Digest::sha256(b"moved"), failed(), at(1001));
    let counts = ledger.counts();
    assert_eq!((counts.failed, counts.stuck, counts.owed, counts.untried, counts.leaving), (0, 0, 0, 0, 2));
}

#[test]
fn an_empty_list_has_tags_forgotten_and_never_deleted() {
    let mut ledger = with_replicas(&["a", "b"]);
    assert!(prove(&mut ledger, &["a"], 10).is_empty());
    assert!(prove(&mut ledger, &[], 1000).is_empty() && leaving(&ledger).is_empty(), "suddenly empty");
    assert_eq!(prove(&mut ledger, &[], 2000), [tag("b")], "it is lacked by two lists that count");
    assert_eq!(prove(&mut ledger, &[], 3000), [tag("a")]);
}

#[test]
fn an_empty_list_proves_nothing_for_a_rule_that_deletes_later() {
    let mut ledger = with_replicas(&["a", "b"]);
    for second in [10, 20] {
        assert!(take_list(&mut ledger, &BTreeSet::new(), at(second)).is_empty());
    }
    observe(&mut ledger, &tag("a"), &Digest::sha256(b"a"), at(30));
    prove(&mut ledger, &["a"], 40);
    prove(&mut ledger, &["a"], 625);
    assert!(leaving(&ledger).is_empty(), "one list that counts is no proof");
    prove(&mut ledger, &["a"], 650);
    assert_eq!(leaving(&ledger), ["b"]);
}

#[test]
fn a_tag_that_could_not_be_read_is_owed_until_it_is_verified() {
    let (mut ledger, name) = (Ledger::default(), tag("a"));
    let fails = |ledger: &mut Ledger, second: i64| {
        let failed = FailedRead { code: FailureCode::SourceDenied, message: String::new(), is_of_tag: true };
        ledger.fail_to_read(&name, failed, at(second), at(second));
        assert_eq!(ledger.counts().owed, 1);
    };
    fails(&mut ledger, 1);
    for (second, content) in [(2, b"1"), (5, b"2")] {
        observe(&mut ledger, &tag("a"), &Digest::sha256(content), at(second));
        assert_eq!(ledger.counts().owed, 1, "the last comparison has found it, and nothing is verified");
        complete(&mut ledger, &tag("a"), &Digest::sha256(content), at(second + 1));
        assert_eq!(ledger.counts().owed, 0);
        fails(&mut ledger, second + 2);
    }
    observe(&mut ledger, &tag("a"), &Digest::sha256(b"2"), at(8));
    assert_eq!(ledger.counts().owed, 0, "it is verified as it is");
}

#[test]
fn tags_that_were_never_at_the_destination_are_forgotten_as_ever() {
    let mut ledger = with_replicas(&["a", "b"]);
    observe(&mut ledger, &tag("c"), &Digest::sha256(b"c"), at(1));
    prove(&mut ledger, &["a"], 10);
    assert_eq!(prove(&mut ledger, &["a"], 20), [tag("c")]);
    assert!(leaving(&ledger).is_empty(), "the lists were not far enough apart");
}

#[test]
fn a_tag_that_came_back_before_a_restart_begins_anew() {
    let mut ledger = with_replicas(&["a", "b"]);
    prove(&mut ledger, &["a"], 10);
    assert_eq!(ledger.take_missed().unwrap().into_keys().collect::<Vec<_>>(), [tag("b")]);
    observe(&mut ledger, &tag("b"), &Digest::sha256(b"b"), at(20));
    let missed = ledger.take_missed().expect("the record must not say any more that it is absent");
    assert!(missed.is_empty());
    let mut again = with_replicas(&["a", "b"]);
    again.restore_missed(&missed);
    prove(&mut again, &["a"], 1000);
    assert!(leaving(&again).is_empty());
    prove(&mut again, &["a"], 2000);
    assert_eq!(leaving(&again), ["b"]);
}

#[test]
fn a_tag_that_was_deleted_and_pushed_again_is_copied_again() {
    let (mut ledger, b) = (with_replicas(&["a", "b"]), tag("b"));
    prove(&mut ledger, &["a"], 10);
    prove(&mut ledger, &["a"], 1000);
    ledger.unverify(&b, at(1001));
    assert_eq!((ledger.counts().complete, ledger.counts().owed), (1, 0));
    assert_eq!(ledger.attempt(&b, at(1001)), Attempt::Nothing);
    observe(&mut ledger, &b, &Digest::sha256(b"b"), at(1002));
    assert!(!ledger.forget_deleted(&b), "it is there again");
    assert_eq!(ledger.attempt(&b, at(1003)), Attempt::Copy(Digest::sha256(b"b")));
    assert_eq!(ledger.row(&b).unwrap().written, None, "what was written there is gone");
    assert_eq!(recount(&ledger), ledger.counts());
}

#[test]
fn restarts_put_no_audit_off() {
    let images: Vec<ImageStatus> = (0..50)
        .map(|n| ImageStatus {
            status: ReplicationState::Complete,
            completed_at: Some(at(0)),
            ..ImageStatus::pending(format!("v{n}"), Digest::sha256(&[n]).to_string())
        })
        .collect();
    let audited = |begun: i64| -> BTreeSet<Tag> {
        let ledger = Ledger::restore(&RecordedImages::Shown, &images, None, at(begun));
        assert!(ledger.due(at(begun + 180)).0.len() < 10, "a restart looks at few at once");
        ledger.due(at(begun + 6 * 3600)).0.into_iter().collect()
    };
    let of_a_day: BTreeSet<Tag> = (0..4).flat_map(|part| audited(1_000_000 + part * 6 * 3600)).collect();
    assert_eq!(of_a_day.len(), 50, "a process that lives for six hours audits its part of the day");
}

#[test]
fn audits_of_a_tag_in_many_repositories_are_spread_over_the_day() {
    let due: BTreeSet<_> = (0..50).map(|n| verified_at(0, "latest", &[n], at(1_000)).due_at(&tag("latest"))).collect();
    assert_eq!(due.len(), 50);
}

#[test]
fn no_image_is_in_doubt_because_a_process_starts_soon_after_it_was_verified() {
    for second in (0..24 * 3600).step_by(60) {
        let ledger = verified_at(second, "latest", b"a", at(second + 1));
        assert_eq!(ledger.row(&tag("latest")).unwrap().doubted_until(at(second)), None, "verified at {second}");
    }
}

/// Returns the ledger that a process restores at `now` with one image that was verified at `second`.
fn verified_at(second: i64, name: &str, content: &[u8], now: Timestamp) -> Ledger {
    let image = ImageStatus {
        status: ReplicationState::Complete,
        completed_at: Some(at(second)),
        ..ImageStatus::pending(name.to_owned(), Digest::sha256(content).to_string())
    };
    Ledger::restore(&RecordedImages::Shown, &[image], None, now)
}

#[test]
fn an_image_that_a_comparison_finds_between_two_pushes_is_owed() {
    let mut ledger = Ledger::default();
    ledger.observe(&tag("a"), &Digest::sha256(b"1"), at(0), at(9));
    let freshness = ledger.observe(&tag("a"), &Digest::sha256(b"2"), at(5), at(20));
    assert_eq!((freshness, ledger.counts().owed), (Freshness::Unclear, 0));
    ledger.owe_unclear(&tag("a"));
    assert_eq!(ledger.counts().owed, 1);
    ledger.observe(&tag("a"), &Digest::sha256(b"2"), at(21), at(22));
    assert_eq!(ledger.counts().owed, 1, "it is found, and not verified");
    assert!(complete(&mut ledger, &tag("a"), &Digest::sha256(b"2"), at(30)));
    assert_eq!(ledger.counts().owed, 0);
}
