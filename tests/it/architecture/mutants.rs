//! The faults of `make mutants`, which takes too long to run here: each patch has to fit the tree.

use std::process::Command;

use super::sources::files;
use crate::support::run_folder::repository;

const FOLDER: &str = "tests/mutants";

#[test]
fn every_fault_of_the_mutants_fits_the_tree() {
    let patches = files(repository(), FOLDER, &|path| path.ends_with(".patch"));
    assert!(!patches.is_empty(), "{FOLDER} has no patches");
    let mut wrong = Vec::new();
    for patch in &patches {
        let text = std::fs::read_to_string(repository().join(patch)).unwrap();
        if !text.starts_with(char::is_uppercase) {
            wrong.push(format!("{patch} does not begin with a sentence about its fault"));
        }
        let check = Command::new("git").args(["apply", "--check", patch]).current_dir(repository()).output().unwrap();
        if !check.status.success() {
            wrong.push(format!("{patch}: make it anew: {}", String::from_utf8_lossy(&check.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
