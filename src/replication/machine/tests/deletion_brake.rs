//! The brake of deletions, and what outlives a process.

use super::deletions::{Play, RULE, deleting};
use super::*;
use crate::plan::{PlannedDeletion, deletion_plan_hash};

/// The hash that approves the deletions that are held.
fn hash_of_held(play: &Play) -> String {
    let (_, message) = play.held().expect("it is held");
    message.split("approve-deletions: ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn nothing_is_deleted_beyond_the_brake_until_it_is_approved() {
    let mut play = Play::new(RULE, "abcdefghij");
    play.play(". L:abcd . L:abcd");
    assert_eq!(play.deleted(), "", "6 of 10 are more than 5");
    let (why, message) = play.held().expect("it is held");
    let planned =
        |tag: &str| PlannedDeletion { place: "a/d/app".to_owned(), tag: tag.parse().unwrap(), digest: digest(tag) };
    let hash = deletion_plan_hash(&["e", "f", "g", "h", "i", "j"].map(planned), None);
    assert_eq!((why, message.contains(&hash), message.contains("a/d/app:e")), (reason::DELETION_LIMIT, true, true));
    assert!(message.starts_with("6 deletions"), "{message}");
    // Another hash approves nothing, and neither does one of a plan that has changed since.
    play.order(|orders| orders.approved_deletions = Some("0123456789abcdef".to_owned()));
    assert_eq!(play.deleted(), "");
    play.play("L:abcd >e");
    play.order(|orders| orders.approved_deletions = Some(hash.clone()));
    assert_eq!(play.deleted(), "fghij", "five are within the brake");
    assert_eq!(play.held(), None);
}

#[test]
fn an_approved_plan_is_carried_out_and_the_next_one_is_held() {
    let mut play = Play::new(RULE, "abcdefghij");
    play.play(". L:abcd . L:abcd");
    let hash = hash_of_held(&play);
    play.order(|orders| orders.approved_deletions = Some(hash));
    assert_eq!((play.deleted().as_str(), play.held()), ("efghij", None));
    play.play(". L:abc . L:abc");
    assert_eq!(play.deleted(), "efghij", "the day has had its deletions");
    assert!(play.held().unwrap().1.starts_with("1 deletions"));
    for _ in 0..26 {
        play.pass(3600);
        play.list("abc");
    }
    assert_eq!((play.deleted().as_str(), play.held()), ("defghij", None), "a day later it goes on");
}

#[test]
fn an_approval_counts_once_also_of_the_same_images() {
    for restart in ["", "R", "F"] {
        let mut play = Play::new(RULE, "abcdefghij");
        play.play(". L:abcd . L:abcd");
        let hash = hash_of_held(&play);
        play.order(|orders| orders.approved_deletions = Some(hash.clone()));
        assert_eq!((play.deleted().as_str(), play.held()), ("efghij", None));
        assert_eq!(play.bench.report.deletion_history.approved.as_ref(), Some(&hash));
        play.play(&format!(". {restart} L:abcdefghij . L:abcdefghij . L:abcd . L:abcd . L:abcd"));
        assert_eq!(play.deleted(), "efghij", "{restart}: the second time is not approved");
        let (why, message) = play.held().expect("it is held again");
        assert_eq!((why, message.contains(&hash)), (reason::DELETION_LIMIT, false), "{message}");
    }
}

#[test]
fn another_annotation_while_approved_deletions_fail_changes_nothing() {
    let mut play = Play::new(RULE, "abcdefghij");
    play.play(". L:abcd . L:abcd");
    let hash = hash_of_held(&play);
    play.refuse_deletions(true);
    play.order(|orders| orders.approved_deletions = Some(hash.clone()));
    for other in [None, Some("a note that is longer than any hash".to_owned()), None] {
        play.order(|orders| orders.approved_deletions = other.clone());
        play.play(". .");
        assert_eq!(play.bench.report.deletion_history.approved.as_ref(), Some(&hash), "{other:?}");
    }
    play.refuse_deletions(false);
    play.play(". . . .");
    assert_eq!(play.deleted(), "efghij");
}

#[test]
fn deletions_that_wait_for_longer_than_a_day_count_anew() {
    let mut play = Play::new("deleteReplication: {enabled: true, maxPercent: 0, minAllowed: 2},", "abcdef");
    play.refuse_deletions(true);
    play.play(". L:abcd . L:abcd");
    for _ in 0..26 {
        play.pass(3600);
        play.list("abcd");
    }
    play.play(". L:ab . L:ab . L:ab");
    play.refuse_deletions(false);
    play.play(". . .");
    assert_eq!((play.deleted().as_str(), play.held().map(|(why, _)| why)), ("ef", Some(reason::DELETION_LIMIT)));
}

#[test]
fn deletions_of_an_earlier_process_count() {
    for with_records in [false, true] {
        let mut play = Play::new("deleteReplication: {enabled: true, maxPercent: 0, minAllowed: 1},", "abcd");
        play.play(". L:abc . L:abc");
        assert_eq!(play.deleted(), "d");
        play.restart(with_records);
        play.play("L:ab . L:ab . L:ab");
        assert_eq!(play.deleted(), "d", "one is allowed within a day");
        assert_eq!(play.held().unwrap().0, reason::DELETION_LIMIT);
    }
}

#[test]
fn a_pair_that_is_dropped_and_found_again_goes_on_counting() {
    let mut play = Play::new("deleteReplication: {enabled: true, maxPercent: 0, minAllowed: 1},", "abcd");
    play.play(". L:abc . L:abc . O . O . L:abc . L:ab . L:ab");
    assert_eq!(play.deleted(), "d");
    assert_eq!(play.held().unwrap().0, reason::DELETION_LIMIT);
}

#[test]
fn a_pair_that_is_dropped_counts_over_a_restart_too() {
    let rule = "deleteReplication: {enabled: true, maxPercent: 0, minAllowed: 1},";
    for restart in ["R", "F", ". R", ". R . R"] {
        let mut play = Play::new(rule, "abcd");
        play.play(&format!(". L:abc . L:abc . O . O {restart} . L:abc . L:ab . L:ab"));
        assert_eq!(play.deleted(), "d", "{restart}");
        assert_eq!(play.held().map(|(why, _)| why), Some(reason::DELETION_LIMIT), "{restart}");
    }
    // The process ends before the report is written: its status stays, and the next one goes on with it.
    let mut play = Play::new(rule, "abcd");
    let app = play.bench.statuses.keys().next().cloned().unwrap();
    play.play(". L:abc . L:abc . O . O");
    assert_eq!(play.bench.report.deletion_history.published().len(), 1);
    assert!(play.bench.statuses.contains_key(&app), "as long as the report may not be written");
    play.pass(31);
    assert!(!play.bench.statuses.contains_key(&app));
    // The pair comes back, and the process ends before the status of that is written.
    play.bench.unanswered = Some(Vec::new());
    play.play(". L:abc +60");
    play.bench.unanswered = None;
    // The object was made, and its status was not.
    play.bench.statuses.insert(app, crate::terms::ReplicationStatusStatus::default());
    play.restart(false);
    play.play(". L:abc . L:ab . L:ab . L:ab");
    assert_eq!(play.deleted(), "d");
    assert_eq!(play.held().map(|(why, _)| why), Some(reason::DELETION_LIMIT));
}

#[test]
fn a_pair_that_is_selected_again_at_once_keeps_its_status() {
    for (is_selected_again, remain) in [(false, 0), (true, 1)] {
        let mut play = Play::new(RULE, "abcdefghijklmnopqrstuv");
        play.play(". L:abcdefghijklmnopqrstu . L:abcdefghijklmnopqrstu");
        assert_eq!(play.deleted(), "v");
        play.respecify(&format!("{RULE} excludeRepositoryFilters: [{{filter: app, filterType: EXACT_MATCH}}],"));
        play.pass(5);
        if is_selected_again {
            play.respecify(RULE);
        }
        play.pass(60);
        assert_eq!(play.bench.statuses.len(), remain, "the source did not answer meanwhile");
    }
}

#[test]
fn the_store_counts_a_deletion_before_it_begins() {
    let mut play = Play::new(RULE, "abcd");
    play.play(". L:abc");
    play.bench.passes(600);
    play.bench.unanswered = Some(Vec::new());
    play.bench.compare(&[("app", &[("a", "a"), ("b", "b"), ("c", "c")])], true);
    play.bench.passes(10);
    assert!(play.bench.deletions.is_empty(), "the store has not answered");
    let written = play.bench.unanswered.as_ref().unwrap().last().unwrap().2.clone();
    assert_eq!(written.recent_deletions.iter().map(|recent| recent.count).sum::<u64>(), 1);
    let shown = written.images.iter().find(|image| image.tag == "d").unwrap();
    assert_eq!(shown.status, ReplicationState::Pending, "it is no longer said to be there");
    assert_eq!(play.bench.answer(StoreOutcome::Failed), 1);
    play.bench.passes(10);
    assert!(play.bench.deletions.is_empty(), "the store refused it");
    play.bench.answer(StoreOutcome::Done);
    assert_eq!(play.bench.deletions.len(), 1);
    // A process that ends now leaves a count, and an image that is copied again if the source has it again.
    play.bench.unanswered = None;
    play.restart(false);
    play.list("abcd");
    assert_eq!(play.bench.row("d").map(|row| matches!(row, crate::plan::RowState::Complete { .. })), Some(true));
    assert!(play.bench.machine.pairs().all(|pair| pair.deletions.counts.within_a_day(play.bench.now) == 1));
}

#[test]
fn nothing_is_copied_to_a_pair_while_something_is_deleted_there() {
    let mut play = Play::new(RULE, "abcd");
    play.play(". L:abc");
    play.bench.passes(600);
    play.bench.compare(&[("app", &[("a", "a"), ("b", "b"), ("c", "c")])], true);
    play.bench.passes(1);
    assert_eq!(play.bench.deletions.len(), 1);
    play.bench.pushed("e", "d");
    play.bench.pushed("d", "d");
    assert!(play.bench.copies.is_empty(), "its manifest may be about to go");
    play.settle();
    assert_eq!(play.deleted(), "d");
    for tag in ["d", "e"] {
        let row = play.bench.row(tag).unwrap();
        assert!(matches!(row, crate::plan::RowState::Complete { .. }), "{tag} {row:?}");
    }
}

#[test]
fn without_consent_deletions_wait_and_say_so() {
    let mut play = Play::new(RULE, "abcd");
    play.play("Z . L:abc . L:abc");
    let (why, message) = play.held().expect("it is held");
    assert_eq!(why, reason::DELETION_NOT_PERMITTED);
    assert!(message.contains("no statement allows DeleteImage"), "{message}");
    play.play(">d");
    play.list("abcd");
    assert_eq!(play.held(), None, "it is back");
}

#[test]
fn a_run_deletes_only_if_it_is_asked_to() {
    for (deletes, expected) in [(false, ""), (true, "d")] {
        let mut play = Play::new(RULE, "abcd");
        play.play(". L:abc");
        let missed = Some([("d".parse().unwrap(), play.bench.now)].into());
        let mut stored = play.bench.stored();
        stored.pairs.iter_mut().for_each(|pair| pair.missed = missed.clone().unwrap());
        let once = Orders { once: Some(Duration::ZERO), deletes, ..deleting(1, RULE) };
        play.orders = once.clone();
        play.bench = Bench::resumed(once, stored, 2000);
        play.list("abc");
        assert_eq!(play.deleted(), expected);
        assert!(play.bench.machine.is_run_over());
    }
}

#[test]
fn the_images_that_left_are_listed_with_what_becomes_of_them() {
    let fates = |play: &Play| -> Vec<(String, DepartedFate)> {
        play.bench.machine.departed().into_iter().map(|image| (image.tag.to_string(), image.fate)).collect()
    };
    let before = Play::new(LIMITED, "abcd").bench.stored();
    let dry = |tags: &str, second: i64, listed: &str| {
        let missed = tags.chars().map(|tag| (tag.to_string().parse().unwrap(), at(700))).collect();
        let mut stored = before.clone();
        stored.pairs.iter_mut().for_each(|pair| pair.missed = BTreeMap::clone(&missed));
        let mut play = Play::new(LIMITED, "");
        play.orders = Orders { once: Some(Duration::ZERO), is_dry: true, ..deleting(1, LIMITED) };
        play.bench = Bench::resumed(play.orders.clone(), stored, second);
        play.list(listed);
        play
    };
    assert_eq!(fates(&dry("d", 1000, "abc")), [("d".to_owned(), DepartedFate::Unproved(at(1300)))]);
    assert_eq!(fates(&dry("d", 1300, "abc")), [("d".to_owned(), DepartedFate::Due)]);
    let play = dry("cd", 1300, "ab");
    let held = fates(&play);
    assert!(held.iter().all(|(_, fate)| matches!(fate, DepartedFate::Held(why) if why.contains("within 24 h"))));
    assert_eq!((held.len(), play.deleted().as_str(), play.bench.deletions.len()), (2, "", 0), "it is only planned");
    assert!(play.bench.machine.held_deletions().unwrap().1.contains("approve-deletions: "));
}

const LIMITED: &str = "deleteReplication: {enabled: true, maxPercent: 0, minAllowed: 1},";
