//! The page about registries names tests that there are, and every story of this folder.

use crate::support::pages::{named_tests, tests_of};
use crate::support::run_folder::repository;
use crate::support::scripted::Personality;

#[test]
fn every_test_that_the_page_about_registries_names_is_there() {
    let page = std::fs::read_to_string(repository().join("docs/reference/registries.md")).unwrap();
    let named = named_tests(&page);
    let there = tests_of(&["src", "tests/it"]);
    let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(named.len() > 50 && unknown.is_empty(), "{unknown:?} of {}", named.len());

    let own = tests_of(&["tests/it/registries"]);
    let here = tests_of(&["tests/it/registries/coverage.rs"]);
    let unnamed: Vec<_> = own.difference(&here).filter(|name| !named.contains(name.as_str())).collect();
    assert!(own.len() > 30 && unnamed.is_empty(), "stories in no row: {unnamed:?}");
}

#[test]
fn every_row_of_the_page_about_ecr_names_tests_that_are_there() {
    let page = std::fs::read_to_string(repository().join("docs/ecr-compatibility.md")).unwrap();
    let there = tests_of(&["src", "tests/it"]);
    let (rules, requests) = page.split_once("## Requests").unwrap();
    let rows = |part: &str| {
        let rows = part
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| ECR") && !line.starts_with("| Request"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let numbered = (1..=17).map(|number| format!("| E{number} "));
    for begins in numbered {
        assert_eq!(rows(rules).iter().filter(|row| row.starts_with(&begins)).count(), 1, "{begins}");
    }
    assert!(rows(requests).len() >= 19, "{}", rows(requests).len());
    for row in rows(rules).iter().chain(&rows(requests)) {
        let named = named_tests(row);
        let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{unknown:?} in {row}");
    }
}

#[test]
fn every_case_of_the_page_about_reliability_names_tests_that_are_there() {
    let page = std::fs::read_to_string(repository().join("docs/reliability.md")).unwrap();
    let (cases, _) = page.split_once("## What is not run").unwrap();
    let there = tests_of(&["src", "tests/it"]);
    let rows: Vec<&str> = cases.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    for number in (1..=10).chain(15..=19).chain(27..=34).chain(39..=43).chain(125..=128) {
        let begins = format!("| {number} |");
        assert_eq!(rows.iter().filter(|row| row.starts_with(&begins)).count(), 1, "{begins}");
    }
    for row in rows {
        let named = named_tests(row);
        let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{unknown:?} in {row}");
    }
}

#[test]
fn every_registry_that_is_played_has_its_place_on_the_page() {
    let page = std::fs::read_to_string(repository().join("docs/reference/registries.md")).unwrap().to_lowercase();
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
    let names = [
        ("ghcr", "github"),
        ("acr", "azure"),
        ("distribution-2.8", "distribution 2.8"),
        ("distribution-3", "distribution 2.8 and 3"),
    ];
    for product in Personality::products() {
        let spelled = names.iter().find(|(name, _)| *name == product.name).map(|(_, spelled)| (*spelled).to_owned());
        let spelled = spelled.unwrap_or_else(|| product.name.replace('-', " "));
        assert!(headings.iter().any(|heading| heading.contains(&spelled)), "{spelled}");
    }
}
