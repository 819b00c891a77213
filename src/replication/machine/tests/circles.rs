//! Claims of a circle, and claims that weigh differently by new ages, give way.

use super::consent::{SOURCE, place};
use super::*;
use crate::plan::Standing;

#[test]
fn a_weaker_link_of_a_circle_gives_way_and_shows_that() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Anonymous);
    bench.compare(SOURCE, true);
    assert!(bench.holds());
    let younger = |uid: &str| Claimant { created: at(9), uid: uid.to_owned() };
    let mut claim = |uid: &str, from: &str, to: &str| {
        bench.claims.introduce(uid, "a");
        bench.claims.claim(&younger(uid), Standing::Accepted, &place(from), &place(to))
    };
    assert_eq!(claim("uid-1", "d.example", "e.example"), Ok(vec![]));
    assert_eq!(claim("uid-2", "e.example", "s.example"), Ok(vec!["uid-c".to_owned()]));
    for _ in 0..2 {
        bench.consents(None, Standing::Anonymous);
        let problem = bench.report.problem.as_ref().map(|problem| problem.reason);
        assert_eq!((problem, bench.statuses.len()), (Some(reason::SELF_REPLICATION), 0));
        assert!(!bench.holds() && bench.claims.holds("uid-2", &place("s.example")), "it takes nothing back");
        bench.passes(2);
        bench.compare(SOURCE, true);
    }
    assert_eq!(bench.claims.release("uid-2", |_| false), ["uid-c"], "it waits for the end of the circle");
    bench.consents(None, Standing::Anonymous);
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert!(bench.holds() && bench.report.problem.is_none());
}

#[test]
fn a_circle_that_its_own_credentials_close_is_found() {
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Anonymous);
    bench.compare(SOURCE, true);
    let older = |uid: &str| Claimant { created: at(-9), uid: uid.to_owned() };
    bench.claims.introduce("uid-1", "a");
    bench.claims.introduce("uid-2", "a");
    bench.claims.claim(&older("uid-1"), Standing::Accepted, &place("d.example"), &place("e.example")).unwrap();
    bench.claims.claim(&older("uid-2"), Standing::Unproven, &place("e.example"), &place("s.example")).unwrap_err();
    bench.consents(None, Standing::Unproven);
    assert!(bench.holds(), "the other one waits for its turn");
    bench.claims.claim(&older("uid-2"), Standing::Unproven, &place("e.example"), &place("s.example")).unwrap();
    bench.consents(None, Standing::Accepted);
    assert!(bench.holds() && !bench.claims.holds("uid-2", &place("s.example")), "it is accepted now");
}

impl Bench {
    /// Gives orders by which the configuration is as old as this; other configurations have theirs later.
    fn ages(&mut self, second: i64) {
        let holder = Claimant { created: at(second), uid: "uid-c".to_owned() };
        let dependencies = self.claims.changes();
        self.step(Event::Orders(Arc::new(Orders { holder, dependencies, ..orders(1, "") })));
    }

    fn claims_as(&mut self, uid: &str, second: i64) -> Result<Vec<String>, crate::plan::Conflict> {
        let other = Claimant { created: at(second), uid: uid.to_owned() };
        self.claims.introduce(uid, "a");
        self.claims.claim(&other, Standing::Accepted, &place("other.example"), &place("d.example"))
    }
}

#[test]
fn the_first_by_a_new_order_of_files_takes_the_place() {
    let mut bench = Bench::new("");
    bench.ages(0);
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    assert!(bench.claims_as("uid-b", 1).is_err() && bench.holds());
    assert_eq!(bench.claims_as("uid-b", -1), Ok(vec!["uid-c".to_owned()]), "the other one comes first");
    bench.ages(1);
    let problem = bench.report.problem.as_ref().map(|problem| problem.reason);
    assert_eq!((problem, bench.holds()), (Some(reason::DESTINATION_CONFLICT), false));
    bench.ages(-2);
    bench.passes(2);
    bench.compare(SOURCE, true);
    assert!(bench.holds(), "it comes first again");
}

#[test]
fn a_holder_that_moves_back_in_the_files_makes_room_for_one_that_waits() {
    let mut bench = Bench::new("");
    bench.ages(0);
    bench.compare(SOURCE, true);
    assert!(bench.claims_as("uid-d", 0).is_err(), "it has its new age, and the holder its old one");
    bench.ages(1);
    assert!(bench.holds(), "the other one is woken");
    assert_eq!(bench.claims_as("uid-d", 0), Ok(vec!["uid-c".to_owned()]));
}

#[test]
fn a_holder_that_stays_first_in_the_files_keeps_its_place() {
    let mut bench = Bench::new("");
    bench.ages(1);
    bench.compare(SOURCE, true);
    assert!(bench.claims_as("uid-a", 2).is_err());
    bench.ages(0);
    assert!(bench.claims_as("uid-a", 1).is_err() && bench.holds());
    // Its orders may come first: the holder takes the place back by its own.
    bench.ages(1);
    assert_eq!(bench.claims_as("uid-a", 1), Ok(vec!["uid-c".to_owned()]));
    bench.ages(0);
    assert!(bench.holds());
}
