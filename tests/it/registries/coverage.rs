//! The page about registries names tests that there are, and every story of this folder.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::run_folder::repository;
use crate::support::scripted::Personality;

#[test]
fn every_test_that_the_page_about_registries_names_is_there() {
    let page = std::fs::read_to_string(repository().join("docs/registries.md")).unwrap();
    // What stands in backquotes and has the form of a test's name.
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test = |word: &&str| {
        word.matches('_').count() >= 3 && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let named: BTreeSet<&str> = quoted.filter(is_test).collect();
    let there = tests_of(&[&repository().join("src"), &repository().join("tests/it")]);
    let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(named.len() > 50 && unknown.is_empty(), "{unknown:?} of {}", named.len());

    let own = tests_of(&[&repository().join("tests/it/registries")]);
    let here = tests_of(&[&repository().join("tests/it/registries/coverage.rs")]);
    let unnamed: Vec<_> = own.difference(&here).filter(|name| !named.contains(name.as_str())).collect();
    assert!(own.len() > 30 && unnamed.is_empty(), "stories in no row: {unnamed:?}");
}

#[test]
fn every_registry_that_is_played_has_its_place_on_the_page() {
    let page = std::fs::read_to_string(repository().join("docs/registries.md")).unwrap().to_lowercase();
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

/// The names of the functions in these folders that are tests.
fn tests_of(folders: &[&Path]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut waiting: Vec<_> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let after = ["#[tokio::test", "#[test]"].map(|mark| text.split(mark).skip(1));
            let name =
                |part: &str| part.split_once("fn ").map(|(_, rest)| rest.split('(').next().unwrap_or("").to_owned());
            names.extend(after.into_iter().flatten().filter_map(name));
        }
    }
    names
}
