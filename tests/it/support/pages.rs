//! Names of tests in the pages of the documentation.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::run_folder::repository;

/// Returns the tests that a page names: what stands in backquotes and has the form of a test's name.
pub fn named_tests(page: &str) -> BTreeSet<&str> {
    let is_test = |word: &&str| {
        word.matches('_').count() >= 3 && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    page.split('`').skip(1).step_by(2).filter(is_test).collect()
}

/// Returns the pages of `docs/`, in order.
pub fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut waiting = vec![repository().join("docs")];
    while let Some(folder) = waiting.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                None if path.is_dir() => waiting.push(path),
                Some("md") => pages.push(path),
                _ => {}
            }
        }
    }
    pages.sort();
    pages
}

/// Returns the YAML blocks of a page.
pub fn yaml_blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Returns the tests in these files and folders of the repository.
pub fn tests_of(paths: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = paths.iter().map(|path| repository().join(path)).collect();
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
