//! Claims follow the consent of the destination's owner and the credentials that its registry accepts.

use super::*;
use crate::plan::{NamespacedName, Standing};
use crate::policy::Policy;
use crate::terms::RegistryPermissionPolicySpec;

pub(super) const SOURCE: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1")])];
const DENY: &str = "{registryRef: {name: d}, statements: [{sid: No, effect: Deny, principals: [{namespace: a}], actions: [ReplicateImage], resources: ['*']}]}";

pub(super) fn place(host: &str) -> RepositoryAddress {
    RepositoryAddress { host: host.to_owned(), repository: "app".parse().unwrap() }
}

pub(super) fn younger() -> Claimant {
    Claimant { created: at(0), uid: "uid-y".to_owned() }
}

impl Bench {
    /// Gives orders by the policy `spec`, and by the credentials of the destination.
    pub(super) fn consents(&mut self, spec: Option<&str>, standing: Standing) {
        let spec: Option<RegistryPermissionPolicySpec> = spec.map(|spec| serde_saphyr::from_str(spec).unwrap());
        let policy = spec.map(|spec| ("a".to_owned(), vec![Policy { name: "p".to_owned(), spec: Some(spec) }]));
        let destination = NamespacedName { namespace: "a".to_owned(), name: "d".to_owned() };
        let dependencies = self.machine.orders().dependencies + 1;
        let orders = Orders {
            policies: Arc::new(policy.into_iter().collect()),
            standings: [(destination, standing)].into_iter().collect(),
            dependencies,
            ..orders(1, "")
        };
        self.step(Event::Orders(Arc::new(orders)));
    }

    pub(super) fn holds(&self) -> bool {
        self.claims.holds("uid-c", &place("d.example"))
    }

    /// Returns one whose source has the repository no more; the store has not answered to the deletion of its status.
    fn with_a_status_that_is_deleted() -> Self {
        let mut bench = Bench::new("");
        bench.compare(SOURCE, true);
        bench.copied(Ok(()));
        bench.unanswered = Some(Vec::new());
        for _ in 0..2 {
            bench.passes(600);
            bench.compare(&[("other", &[("v1", "1")])], true);
        }
        bench
    }

    /// Returns true if the younger configuration may write to the destination.
    pub(super) fn gives_way(&mut self) -> bool {
        let (from, to) = (place("other.example"), place("d.example"));
        self.claims.claim(&younger(), Standing::Accepted, &from, &to).is_ok()
    }
}

#[test]
fn a_claim_counts_only_with_consent_and_is_released_with_it() {
    let mut bench = Bench::new("");
    bench.consents(Some(DENY), Standing::Accepted);
    bench.compare(SOURCE, true);
    bench.copied(Err(FailureCode::RegistryPermissionDenied));
    assert!(!bench.holds() && bench.statuses.len() == 1, "it shows that it is denied");
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds() && !bench.gives_way());
    bench.consents(Some(DENY), Standing::Accepted);
    assert!(!bench.holds() && bench.gives_way(), "the age of a configuration is no consent");
}

#[test]
fn a_configuration_with_consent_displaces_no_older_one_that_has_it() {
    let mut bench = Bench::new("");
    bench.consents(Some(DENY), Standing::Accepted);
    bench.compare(SOURCE, true);
    take_place(&mut bench, "a");
    assert_eq!(bench.report.problem, None, "one that is denied learns nothing of others");
    bench.consents(None, Standing::Accepted);
    let problem = bench.report.problem.as_ref().expect("it is another's");
    assert_eq!((problem.reason, bench.statuses.len()), (reason::DESTINATION_CONFLICT, 0));
}

#[test]
fn a_destination_that_comes_back_is_observed_before_it_is_written() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    bench.consents(Some(DENY), Standing::Accepted);
    assert!(bench.gives_way());
    bench.claims.release("uid-y", |_| false);
    bench.passes(5);
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds() && bench.copies.is_empty() && !bench.is_ready());
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert_eq!(bench.copies.len(), 1, "it is read back, and written where it is another's");
}

#[test]
fn a_stored_pair_whose_place_another_one_had_is_read_back() {
    let stored = published(&[("v1", "1")]).stored();
    let mut suspended = orders(1, "");
    suspended.configuration = orders(1, "tagFilters: [{filter: 'v[', filterType: REGEX_MATCH}],").configuration;
    let mut bench = Bench::resumed(suspended, stored, 5_000);
    assert!(bench.gives_way());
    bench.claims.release("uid-y", |_| false);
    bench.step(Event::Orders(Arc::new(orders(2, ""))));
    bench.passes(1);
    bench.compare(SOURCE, true);
    assert_eq!(bench.copying(), [digest("1")], "the stored status is from before the other one wrote");
}

#[test]
fn a_denial_that_has_passed_does_not_show_until_the_next_audit() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    let copy = bench.copies.pop_first().unwrap().0;
    let permission = Decision { allowed: false, reason: reason::STATEMENT_DENIES, message: String::new() };
    let outcome = Outcome { permission, result: Ok(Replica::default()), moved: 0, is_unanswered: false };
    bench.step(Event::Ended(copy, Some(outcome), 0.5));
    let is_permitted = |bench: &Bench| {
        let mut conditions = bench.statuses.values().flat_map(|status| &status.conditions);
        conditions.any(|condition| condition.type_ == "Permitted" && condition.status == "True")
    };
    bench.passes(10);
    assert!(!is_permitted(&bench), "it was found there while consent was withdrawn");
    bench.consents(None, Standing::Accepted);
    bench.passes(10);
    assert!(is_permitted(&bench));
}

#[test]
fn a_copy_that_began_before_another_one_wrote_stops() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    bench.consents(Some(DENY), Standing::Accepted);
    assert_eq!(bench.copies.len(), 1, "it is denied when it writes");
    assert!(bench.gives_way());
    bench.claims.release("uid-y", |_| false);
    bench.passes(1);
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds() && bench.copies.is_empty(), "it is observed first");
}

#[test]
fn consent_that_was_away_and_comes_back_reads_nothing_back() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    bench.consents(Some(DENY), Standing::Accepted);
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds() && bench.copies.is_empty() && bench.row("v1").is_some());
    assert!(matches!(bench.row("v1"), Some(crate::plan::RowState::Complete { .. })));
}

#[test]
fn a_registry_whose_credentials_were_never_accepted_gives_way() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Unproven);
    bench.compare(SOURCE, true);
    assert!(bench.holds() && bench.gives_way());
    bench.consents(None, Standing::Unproven);
    bench.copied(Err(FailureCode::DestinationDenied));
    assert!(!bench.holds() && bench.report.problem.is_none(), "it learns nothing of the other");
    assert!(bench.statuses.values().all(|status| status.summary.failed == 1), "and shows its own cause");
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds(), "it is the older one, with credentials");
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert_eq!(bench.copies.len(), 1, "it observes first what it then copies");
}

/// Returns all that a configuration shows over time whose credentials its destination refuses, if another configuration
/// writes there and if none does.
fn seen_by_a_stranger(standing: Standing, is_taken: bool) -> Vec<String> {
    let mut bench = Bench::new("");
    bench.consents(None, standing);
    if is_taken {
        let older = Claimant { created: at(-9), uid: "uid-o".to_owned() };
        bench.claims.claim(&older, Standing::Accepted, &place("other.example"), &place("d.example")).unwrap();
    }
    let mut seen = Vec::new();
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    for round in 0..40 {
        bench.copied(Err(FailureCode::DestinationDenied));
        bench.passes(20);
        match round {
            10 => bench.pushed("v3", "3"),
            20 => bench.consents(None, standing),
            30 if bench.comparison.is_some() => bench.compare(&[("app", &[("v1", "1"), ("v3", "3")])], true),
            _ => {}
        }
        let copies: Vec<_> = bench.copies.values().map(|copy| copy.tag.to_string()).collect();
        seen.push(format!("{copies:?} {:?} {:?}", bench.statuses, bench.report));
    }
    seen
}

#[test]
fn a_stranger_sees_the_same_whether_another_writes_to_the_place_or_not() {
    for standing in [Standing::Unproven, Standing::Anonymous, Standing::Accepted] {
        let (free, taken) = (seen_by_a_stranger(standing, false), seen_by_a_stranger(standing, true));
        for (round, (free, taken)) in free.iter().zip(&taken).enumerate() {
            assert_eq!(free, taken, "{standing:?}, round {round}");
        }
    }
}

/// Lets an older configuration of a namespace claim the destination.
pub(super) fn take_place(bench: &mut Bench, namespace: &str) {
    let older = Claimant { created: at(-9), uid: "uid-o".to_owned() };
    bench.claims.introduce("uid-o", namespace);
    bench.claims.claim(&older, Standing::Accepted, &place("other.example"), &place("d.example")).unwrap();
}

#[test]
fn a_stranger_that_is_let_in_takes_the_place_or_sees_that_it_is_taken() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Unproven);
    take_place(&mut bench, "a");
    bench.compare(SOURCE, true);
    bench.copied(Err(FailureCode::DestinationDenied));
    bench.consents(None, Standing::Accepted);
    let problem = bench.report.problem.as_ref().map(|problem| problem.reason);
    assert_eq!((problem, bench.statuses.len()), (Some(reason::DESTINATION_CONFLICT), 0));
    bench.claims.release("uid-o", |_| false);
    bench.consents(None, Standing::Accepted);
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert!(bench.holds() && bench.copies.len() == 1);
}

#[test]
fn a_conflict_with_another_owner_shows_once_an_image_would_be_taken() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    take_place(&mut bench, "team-o");
    bench.compare(SOURCE, true);
    assert_eq!((bench.report.problem.as_ref(), bench.copies.len()), (None, 1), "it tries as if it were alone");
    bench.copied(Err(FailureCode::DestinationConflict));
    let problem = |bench: &Bench| bench.report.problem.as_ref().map(|problem| problem.reason);
    assert_eq!((problem(&bench), bench.statuses.len()), (Some(reason::DESTINATION_CONFLICT), 0));
    bench.passes(600);
    bench.compare(SOURCE, true);
    assert_eq!((problem(&bench), bench.copies.len()), (Some(reason::DESTINATION_CONFLICT), 0), "it tries no more");
    bench.claims.release("uid-o", |_| false);
    bench.consents(None, Standing::Accepted);
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert!(bench.holds() && bench.copies.len() == 1);
}

#[test]
fn a_circle_through_other_owners_shows_once_an_image_would_be_taken() {
    for (namespace, is_own) in [("a", true), ("team-o", false)] {
        let mut bench = Bench::new("");
        bench.consents(None, Standing::Accepted);
        let older = |uid: &str| Claimant { created: at(-9), uid: uid.to_owned() };
        for (uid, from, to) in [("uid-1", "d.example", "e.example"), ("uid-2", "e.example", "s.example")] {
            bench.claims.introduce(uid, namespace);
            bench.claims.claim(&older(uid), Standing::Accepted, &place(from), &place(to)).unwrap();
        }
        bench.compare(SOURCE, true);
        let problem = |bench: &Bench| bench.report.problem.as_ref().map(|problem| problem.reason);
        assert_eq!(problem(&bench).is_some(), is_own, "{namespace}");
        assert_eq!((bench.holds(), bench.copies.len()), (false, usize::from(!is_own)), "no tag is written");
        bench.copied(Err(FailureCode::DestinationConflict));
        assert_eq!((problem(&bench), bench.statuses.len()), (Some(reason::SELF_REPLICATION), 0));
    }
}

#[test]
fn a_configuration_that_has_written_sees_that_an_older_one_took_the_place() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    take_place(&mut bench, "team-o");
    bench.consents(None, Standing::Accepted);
    let problem = bench.report.problem.as_ref().map(|problem| problem.reason);
    assert_eq!((problem, bench.statuses.len()), (Some(reason::DESTINATION_CONFLICT), 0));
}

#[test]
fn an_image_that_was_found_there_shows_no_conflict_with_another_owner() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    take_place(&mut bench, "team-o");
    bench.compare(SOURCE, true);
    bench.ended(Ok(()), 0);
    bench.consents(None, Standing::Accepted);
    assert_eq!((bench.report.problem.as_ref(), bench.statuses.len()), (None, 1), "it could be read, no more");
}

#[test]
fn a_repository_that_refuses_the_credentials_is_free_for_another() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    assert!(!bench.gives_way());
    bench.copied(Err(FailureCode::DestinationDenied));
    assert!(bench.holds(), "nothing else wants it");
    bench.passes(20);
    bench.copied(Ok(()));
    assert!(!bench.gives_way(), "it was written");
    bench.step(Event::Looked(Looked::Seen(bench.observed("app", "v1", "2", bench.now))));
    bench.copied(Err(FailureCode::DestinationDenied));
    assert!(bench.gives_way());
}

#[test]
fn copies_from_or_to_a_registry_that_is_deleted_stop() {
    for name in ["s", "d"] {
        let mut bench = Bench::new("");
        bench.compare(SOURCE, true);
        assert_eq!(bench.copies.len(), 1);
        let mut orders = orders(1, "");
        orders.registries.retain(|reference, _| reference.name != name);
        bench.step(Event::Orders(Arc::new(orders)));
        assert!(bench.copies.is_empty(), "{name}");
        assert_eq!(bench.holds(), name == "s", "a destination that is not there is not claimed");
    }
}

#[test]
fn a_request_gives_a_refused_claim_its_weight_again() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    bench.compare(SOURCE, true);
    bench.copied(Err(FailureCode::DestinationDenied));
    assert!(bench.gives_way());
    bench.consents(None, Standing::Accepted);
    assert!(!bench.holds() && bench.statuses.values().all(|status| status.summary.failed == 1));
    bench.passes(900);
    bench.compare(SOURCE, true);
    assert!(!bench.holds(), "time alone does not take it back from the one that writes to it");
    let orders = Orders { request: Some("1".to_owned()), ..bench.machine.orders().clone() };
    bench.step(Event::Orders(Arc::new(orders)));
    bench.compare(SOURCE, true);
    assert!(bench.holds(), "it is the older one");
}

#[test]
fn a_status_that_could_not_be_deleted_is_not_emptied_before_a_list() {
    let mut bench = Bench::with_a_status_that_is_deleted();
    let name = bench.statuses.keys().next().unwrap().clone();
    bench.step(Event::Deleted(name, StoreOutcome::Failed));
    bench.unanswered = None;
    let shown = bench.statuses.clone();
    bench.step(Event::Hints(Hints { overflown: true, ..Hints::default() }));
    bench.passes(3);
    let names = ["app".parse().unwrap()].into();
    let (unmatched, invalid) = Default::default();
    bench.find(Finding::Repositories { names, unmatched, invalid, sent_at: bench.now });
    bench.find(Finding::Opened("app".parse().unwrap()));
    bench.passes(5);
    assert_eq!(bench.statuses, shown, "nothing is known of it yet");
}

#[test]
fn a_push_during_the_deletion_of_a_status_claims_nothing() {
    let mut bench = Bench::with_a_status_that_is_deleted();
    assert!(!bench.holds(), "the source has the repository no more");
    bench.pushed("v1", "2");
    assert!(!bench.holds(), "without a pair nothing would ever release it");
    bench.unanswered = None;
    let name = bench.statuses.keys().next().unwrap().clone();
    bench.step(Event::Deleted(name, StoreOutcome::Done));
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert!(bench.holds(), "it is there again");
}

#[test]
fn what_was_verified_before_another_may_have_written_counts_no_more() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    bench.compare(SOURCE, true);
    bench.stops_late = true;
    bench.consents(Some(DENY), Standing::Accepted);
    assert!(bench.gives_way(), "the other one writes now");
    bench.claims.release("uid-y", |_| false);
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds());
    assert_eq!(bench.copies.len(), 1, "it began before");
    bench.copied(Ok(()));
    let counts: Vec<u64> = bench.machine.pairs().map(|pair| pair.ledger.counts().complete).collect();
    assert_eq!(counts, [0], "it is looked at again");
}
