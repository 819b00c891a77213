//! The words of docs, comments, messages and names.

use super::sources::{SourceFile, rust_files};
use crate::support::run_folder::repository;

/// A doc block begins with a verb or a noun phrase, not with one of these.
const OPENINGS: [&str; 8] = ["what", "whatever", "whether", "where", "who", "whoever", "whose", "how"];
const MAX_OPENINGS_PERCENT: f64 = 3.0;

#[test]
fn doc_blocks_begin_with_verbs_and_nouns() {
    let files: Vec<SourceFile> =
        ["src", "tests", "benches", "fuzz"].iter().flat_map(|folder| rust_files(repository(), folder)).collect();
    let (mut blocks, mut wrong) = (0, Vec::new());
    for file in &files {
        for block in file.doc_blocks() {
            blocks += 1;
            if OPENINGS.contains(&block.first_word().as_str()) {
                wrong.push(format!("{}:{}: {}", file.path, block.line, block.text));
            }
        }
    }
    let percent = wrong.len() as f64 * 100.0 / blocks as f64;
    assert!(percent <= MAX_OPENINGS_PERCENT, "{percent:.1} % of {blocks}: {wrong:#?}");
}
