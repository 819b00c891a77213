//! A sweep of a source of which a part cannot be read.

use super::sweep::tag;
use super::*;

#[test]
fn an_unreadable_repository_does_not_keep_the_sweep_from_the_others() {
    let mut bench = Bench::new("");
    let tags: Vec<String> = (0..50).map(|number| tag(number).to_string()).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), "A")).collect();
    bench.compare(&[("app", &tags), ("broken", &tags), ("last", &tags)], true);
    while !bench.copies.is_empty() {
        bench.copied(Ok(()));
    }
    bench.passes(600);
    // The list of one repository fails: no comparison is whole.
    bench.sweeps.clear();
    bench.find_repositories(&["app", "broken", "last"]);
    bench.find(Finding::Done(Coverage::Partial));
    let mut looked: BTreeMap<String, usize> = BTreeMap::new();
    while let Some((repository, tag)) = bench.sweeps.pop_front() {
        *looked.entry(repository.to_string()).or_default() += 1;
        let observed = bench.observed(repository.as_str(), tag.as_str(), "A", bench.now);
        let is_broken = repository.as_str() == "broken";
        let answer = if is_broken { Looked::Unreadable(repository, tag) } else { Looked::Seen(observed) };
        bench.step(Event::Swept(answer, None));
    }
    assert_eq!((looked["app"], looked["last"]), (50, 50), "{looked:?}");
    assert!((16..48).contains(&looked["broken"]), "{looked:?}");
    assert!(bench.swept.is_some(), "the round has ended");
}

#[test]
fn a_repository_that_fails_in_part_is_swept_to_its_end() {
    let mut bench = Bench::new("");
    let tags: Vec<String> = (0..100).map(|number| tag(number).to_string()).collect();
    let names: Vec<&str> = tags.iter().map(String::as_str).collect();
    let found: Vec<(&str, &str)> = names.iter().map(|tag| (*tag, "A")).collect();
    bench.compare(&[("app", &found)], true);
    while !bench.copies.is_empty() {
        bench.copied(Ok(()));
    }
    let is_broken = |of: &Tag| (tag(10)..tag(50)).contains(of);
    let mut seen: BTreeSet<Tag> = BTreeSet::new();
    for _ in 0..4 {
        bench.passes(600);
        bench.sweeps.clear();
        bench.find_repositories(&["app"]);
        bench.find_tags("app", &names);
        bench.find(Finding::Done(Coverage::Whole));
        while let Some((repository, tag)) = bench.sweeps.pop_front() {
            let observed = bench.observed("app", tag.as_str(), "A", bench.now);
            let answer = if is_broken(&tag) { Looked::Unreadable(repository, tag) } else { Looked::Seen(observed) };
            if let Looked::Seen(observed) = &answer {
                seen.insert(observed.tag.clone());
            }
            bench.step(Event::Swept(answer, None));
        }
    }
    assert_eq!(seen.len(), 60, "each that answers");
}
