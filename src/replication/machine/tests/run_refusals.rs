//! A run tries some of the images that are refused for one cause, and gives the others up with them.

use super::*;

fn run(repositories: &[&str], tags: usize) -> Bench {
    let mut orders = orders(1, "");
    (orders.once, orders.slots) = (Some(Duration::from_secs(120)), 4);
    let mut bench = Bench::resumed(orders, Stored::default(), 0);
    let tags: Vec<(String, String)> = (0..tags).map(|n| (format!("v{n:03}"), n.to_string())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
    let source: Vec<(&str, &[(&str, &str)])> = repositories.iter().map(|name| (*name, &tags[..])).collect();
    bench.compare(&source, true);
    bench
}

/// Ends every copy that starts, until the run is over. Returns the number of attempts.
fn end(bench: &mut Bench, result: impl Fn(&Assignment) -> Result<(), FailureCode>) -> usize {
    let mut attempts = 0;
    while !bench.copies.is_empty() {
        let copies = std::mem::take(&mut bench.copies);
        attempts += copies.len();
        let (good, bad): (BTreeMap<_, _>, BTreeMap<_, _>) = copies.into_iter().partition(|(_, it)| result(it).is_ok());
        for copies in [bad, good] {
            for (id, copy) in copies {
                let others = std::mem::replace(&mut bench.copies, [(id, copy.clone())].into());
                bench.copied(result(&copy));
                bench.copies.extend(others);
            }
        }
    }
    assert!(bench.machine.is_run_over());
    attempts
}

#[test]
fn a_run_tries_few_of_the_images_that_are_refused_for_one_cause() {
    for code in [FailureCode::DestinationDenied, FailureCode::RegistryPermissionDenied] {
        let mut bench = run(&["app"], 90);
        let attempts = end(&mut bench, |_| Err(code));
        assert!((2..=5).contains(&attempts), "{code:?}: {attempts} attempts, 4 of them at once");
        let failed = bench.machine.pairs().map(|pair| pair.ledger.counts().failed).sum::<u64>();
        assert_eq!(failed, 90, "{code:?}: each has the cause");
    }
}

#[test]
fn a_run_gives_nothing_up_because_others_were_refused_alone() {
    let refused: BTreeSet<String> = (0..6).map(|n| format!("v{n:03}")).collect();
    let mut bench = run(&["app", "other"], 40);
    end(&mut bench, |copy| match refused.contains(&copy.tag.to_string()) {
        true => Err(FailureCode::DestinationDenied),
        false => Ok(()),
    });
    let counts: Vec<_> = bench.machine.pairs().map(|pair| pair.ledger.counts()).collect();
    assert!(counts.iter().all(|counts| (counts.complete, counts.failed) == (34, 6)), "{counts:?}");
}

#[test]
fn a_repository_of_a_run_is_given_up_by_its_own_refusals_alone() {
    let mut bench = run(&["a", "b", "c"], 20);
    end(&mut bench, |copy| match copy.repository.as_str() {
        "b" => Ok(()),
        _ => Err(FailureCode::DestinationDenied),
    });
    let complete: Vec<u64> = bench.machine.pairs().map(|pair| pair.ledger.counts().complete).collect();
    assert_eq!(complete, [0, 20, 0]);
}
