//! The page about faults names tests that there are, and every story of this folder.

use crate::support::pages::{named_tests, tests_of};
use crate::support::run_folder::repository;

#[test]
fn every_test_that_the_page_about_faults_names_is_there() {
    let page = std::fs::read_to_string(repository().join("docs/reference/faults.md")).unwrap();
    let (named, there) = (named_tests(&page), tests_of(&["src", "tests/it"]));
    let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(named.len() > 50 && unknown.is_empty(), "{unknown:?} of {}", named.len());
    let (own, here) = (tests_of(&["tests/it/hostile"]), tests_of(&["tests/it/hostile/coverage.rs"]));
    let unnamed: Vec<_> = own.difference(&here).filter(|name| !named.contains(name.as_str())).collect();
    assert!(own.len() > 20 && unnamed.is_empty(), "stories in no row: {unnamed:?}");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Case"));
    let without: Vec<_> = rows.filter(|row| named_tests(row).is_empty()).collect();
    assert!(without.is_empty(), "rows without a test: {without:?}");
}

#[test]
fn every_test_that_the_page_about_actors_names_is_there() {
    let page = std::fs::read_to_string(repository().join("docs/security.md")).unwrap();
    let (named, there) = (named_tests(&page), tests_of(&["src", "tests/it"]));
    let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(named.len() > 40 && unknown.is_empty(), "{unknown:?} of {}", named.len());
    for actor in
        ["tenant", "owner of a registry", "outsider", "compromised worker", "compromised operator", "hostile registry"]
    {
        let section =
            page.split("\n## ").find(|section| section.lines().next().is_some_and(|line| line.contains(actor)));
        let section = section.unwrap_or_else(|| panic!("{actor} has a section"));
        assert!(!named_tests(section).is_empty() && section.contains("*Set*: "), "{actor}");
    }
}
