//! Names of tests and types.

use std::collections::BTreeMap;

use super::definitions::types;
use super::sources::rust_files;
use crate::support::run_folder::repository;

const MAX_TEST_NAME: usize = 72;

#[test]
fn test_names_are_short_sentences() {
    let mut wrong = Vec::new();
    for file in ["src", "tests"].iter().flat_map(|folder| rust_files(repository(), folder)) {
        let mut is_test = false;
        for token in file.tokens.windows(3) {
            let [before, keyword, name] = token else { continue };
            is_test |= matches!(keyword.text.as_str(), "test") && ["[", "::"].contains(&before.text.as_str());
            if keyword.text == "fn" {
                if is_test && name.text.len() > MAX_TEST_NAME {
                    wrong.push(format!("{}:{}: {} has {}", file.path, name.line, name.text, name.text.len()));
                }
                is_test = false;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_type_name_means_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(repository(), "src") {
        for found in types(&file.tokens.iter().collect::<Vec<_>>()) {
            places.entry(found.name).or_default().push(format!("{}:{}", file.path, found.line));
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
