//! Statuses that another client deleted are written again.

use super::*;

const SOURCE: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1")]), ("other", &[("v1", "1")])];

#[test]
fn a_status_that_a_list_lacks_after_a_gap_is_written_again() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    bench.passes(30);
    let names: BTreeSet<String> = bench.statuses.keys().cloned().collect();
    let written = std::mem::take(&mut bench.statuses);
    bench.step(Event::StatusesListed(names.clone()));
    bench.passes(30);
    assert!(bench.statuses.is_empty(), "nothing is written again that is there");
    let deleted = names.first().expect("two are there").clone();
    bench.step(Event::StatusesListed(names.iter().filter(|name| **name != deleted).cloned().collect()));
    bench.passes(30);
    assert_eq!(bench.statuses.keys().collect::<Vec<_>>(), [&deleted]);
    assert_eq!(bench.statuses[&deleted].summary, written[&deleted].summary);
    assert!(bench.copies.is_empty(), "nothing is copied for that");
}
