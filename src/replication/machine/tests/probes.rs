//! One image tries for all that are refused for one cause.

use std::collections::BTreeSet;

use super::*;

/// Returns a machine of which `images` images of each of these repositories were found.
fn found(repositories: &[&str], images: usize) -> Bench {
    let mut bench = Bench::new("");
    let tags: Vec<(String, String)> = (0..images).map(|i| (format!("v{i}"), i.to_string())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
    let source: Vec<(&str, &[(&str, &str)])> = repositories.iter().map(|name| (*name, &tags[..])).collect();
    bench.compare(&source, true);
    bench
}

#[test]
fn images_that_are_refused_for_one_cause_are_tried_by_one_of_them() {
    let mut bench = found(&["app"], 400);
    let mut attempts = 0;
    while !bench.copies.is_empty() {
        attempts += bench.copies.len();
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    assert!(attempts <= 20, "{attempts}: only those that ran at once, of 400");
    bench.passes(30);
    bench.copied(Err(FailureCode::RegistryPermissionDenied));
    assert!(bench.statuses.values().all(|status| status.summary.failed == 400), "each has the cause");
    bench.unanswered = Some(Vec::new());
    let (mut tried, mut attempts) = (BTreeSet::new(), 0);
    for _ in 0..20 {
        bench.passes(15);
        attempts += bench.copies.len();
        tried.extend(bench.copies.values().map(|copy| (copy.repository.clone(), copy.tag.clone())));
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    assert!((8..=20).contains(&attempts), "{attempts} in 300 s");
    assert!(tried.len() > 5, "another one in each turn");
    assert!(bench.unanswered.as_ref().is_some_and(Vec::is_empty), "nothing is published once it is known");
    bench.unanswered = None;
    bench.passes(30);
    let mut copied = 0;
    while !bench.copies.is_empty() {
        copied += bench.copies.len();
        bench.copied(Ok(()));
        bench.passes(2);
    }
    assert_eq!(copied, 400);
    assert!(bench.statuses.values().all(|status| status.summary.complete == 400));
}

#[test]
fn an_image_that_a_registry_refuses_alone_keeps_no_other_waiting() {
    let mut bench = found(&["app"], 30);
    for _ in 0..40 {
        let refused = bench.copies.iter().find(|(_, copy)| copy.tag.to_string() == "v7").map(|(id, _)| *id);
        if let Some(id) = refused {
            let others = std::mem::take(&mut bench.copies);
            bench.copies = others.iter().filter(|(other, _)| **other == id).map(|(a, b)| (*a, b.clone())).collect();
            bench.copied(Err(FailureCode::DestinationDenied));
            bench.copies.extend(others.into_iter().filter(|(other, _)| *other != id));
        }
        bench.copied(Ok(()));
        bench.passes(1);
    }
    assert!(bench.statuses.values().all(|status| (status.summary.complete, status.summary.failed) == (29, 1)));
}

#[test]
fn a_pair_that_is_no_longer_refused_has_one_image_of_each_other_tried() {
    let mut bench = found(&["app", "other", "third"], 10);
    while !bench.copies.is_empty() {
        bench.copied(Err(FailureCode::DestinationDenied));
    }
    let mut changed = orders(1, "");
    changed.dependencies = 1;
    bench.step(Event::Orders(Arc::new(changed)));
    let repositories: BTreeSet<_> = bench.copies.values().map(|copy| copy.repository.clone()).collect();
    assert_eq!((bench.copies.len(), repositories.len()), (3, 3), "one of each tries when something changed");
    let app: RepositoryName = "app".parse().unwrap();
    for _ in 0..6 {
        let (allowed, refused) = std::mem::take(&mut bench.copies).into_iter().partition(|(_, c)| c.repository == app);
        bench.copies = refused;
        bench.copied(Err(FailureCode::DestinationDenied));
        let begun = std::mem::replace(&mut bench.copies, allowed);
        bench.copied(Ok(()));
        bench.copies.extend(begun);
        bench.passes(2);
    }
    let complete: Vec<u64> = bench.statuses.values().map(|status| status.summary.complete).collect();
    assert_eq!(complete.iter().sum::<u64>(), 10);
    assert!(complete.contains(&10), "all of the one that is allowed again: {complete:?}");
}

#[test]
fn the_first_probe_comes_soon_and_the_next_ones_after_longer_pauses() {
    let mut bench = found(&["app"], 20);
    while !bench.copies.is_empty() {
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let mut pause = 0;
        while bench.copies.is_empty() {
            bench.passes(1);
            pause += 1;
        }
        pauses.push(pause);
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    assert!(pauses[0] <= 2 && pauses[1] <= 4 && (15..=20).contains(&pauses[5]), "{pauses:?}");
    let mut changed = orders(1, "");
    changed.dependencies = 1;
    bench.step(Event::Orders(Arc::new(changed)));
    assert_eq!(bench.copies.len(), 1, "a change of a policy is tried at once");
    bench.copied(Err(FailureCode::RegistryPermissionDenied));
    bench.passes(4);
    assert_eq!(bench.copies.len(), 1, "and soon again: the change may not be in force yet");
}

#[test]
fn credentials_that_a_check_finds_refused_are_tried_by_the_check_alone() {
    let mut bench = found(&["app", "other", "third"], 30);
    let mut stalled = orders(1, "");
    let destination = stalled.registries.keys().find(|registry| registry.name == "d").unwrap().clone();
    stalled.stalled_registries.insert(destination, "the credentials are refused".to_owned());
    stalled.dependencies = 1;
    let mut attempts = bench.copies.len();
    bench.copied(Err(FailureCode::DestinationDenied));
    bench.step(Event::Orders(Arc::new(stalled)));
    for _ in 0..300 {
        attempts += bench.copies.len();
        bench.copied(Err(FailureCode::DestinationDenied));
        bench.passes(1);
    }
    assert!(attempts <= 16, "{attempts}: only those that ran before");
    assert!(bench.statuses.values().all(|status| status.summary.failed == 30), "each has the cause");
    let mut corrected = orders(1, "");
    corrected.dependencies = 2;
    bench.step(Event::Orders(Arc::new(corrected)));
    let mut copied = 0;
    while !bench.copies.is_empty() {
        copied += bench.copies.len();
        bench.copied(Ok(()));
        bench.passes(2);
    }
    assert_eq!(copied, 90, "all follow once the check passes");
}

#[test]
fn fifty_thousand_denied_images_cost_one_attempt_in_fifteen_seconds() {
    let names: Vec<String> = (0..200).map(|n| format!("app-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = found(&names, 250);
    while !bench.copies.is_empty() {
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    bench.passes(60);
    bench.copied(Err(FailureCode::RegistryPermissionDenied));
    bench.unanswered = Some(Vec::new());
    let mut attempts = 0;
    for _ in 0..300 {
        bench.passes(1);
        attempts += bench.copies.len();
        bench.copied(Err(FailureCode::RegistryPermissionDenied));
    }
    assert!((10..=20).contains(&attempts), "{attempts} in 300 s");
    assert!(bench.unanswered.is_some_and(|waiting| waiting.is_empty()), "no status is written again");
}

#[test]
fn a_tag_that_must_not_be_overwritten_keeps_no_new_one_waiting() {
    let mut bench = found(&["app"], 4);
    let permission = Decision { allowed: true, reason: reason::STATEMENT_ALLOWS, message: String::new() };
    for id in std::mem::take(&mut bench.copies).into_keys() {
        let result = Err(CodedError::new(FailureCode::RegistryPermissionDenied, "no overwriting".to_owned()));
        let outcome = Outcome { permission: permission.clone(), result, moved: 0, is_unanswered: false };
        bench.step(Event::Ended(id, Some(outcome), 0.5));
    }
    bench.passes(1);
    assert!(bench.copies.is_empty(), "one of them tries later");
    bench.pushed("new", "new");
    assert_eq!(bench.copying(), [digest("new")]);
    bench.passes(30);
    assert_eq!(bench.copies.len(), 2, "and one of those that failed");
}

#[test]
fn an_image_that_comes_after_a_copy_was_stopped_is_denied_before_it_begins() {
    let mut bench = found(&["app"], 1);
    let permission = Decision { allowed: false, reason: reason::NO_STATEMENT_ALLOWS, message: String::new() };
    for id in std::mem::take(&mut bench.copies).into_keys() {
        let result = Err(CodedError::new(FailureCode::PolicyRevoked, "no statement allows".to_owned()));
        let outcome = Outcome { permission: permission.clone(), result, moved: 0, is_unanswered: false };
        bench.step(Event::Ended(id, Some(outcome), 0.5));
    }
    bench.pushed("new", "new");
    assert!(bench.copies.is_empty());
    let code = |tag: &str| match bench.row(tag) {
        Some(crate::plan::RowState::Failed(failure)) => Some(failure.code),
        _ => None,
    };
    assert_eq!(
        (code("v0"), code("new")),
        (Some(FailureCode::PolicyRevoked), Some(FailureCode::RegistryPermissionDenied))
    );
    bench.passes(30);
    bench.copied(Ok(()));
    while !bench.copies.is_empty() {
        bench.copied(Ok(()));
    }
    assert!(bench.statuses.values().all(|status| status.summary.complete == 2), "both go on with consent");
}
