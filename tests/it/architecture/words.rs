//! The words of docs, comments, messages and names.

use super::sources::{SourceFile, files, rust_files, words};
use crate::support::run_folder::repository;

/// A doc block begins with a verb or a noun phrase, not with one of these.
const OPENINGS: [&str; 8] = ["what", "whatever", "whether", "where", "who", "whoever", "whose", "how"];
const MAX_OPENINGS_PERCENT: f64 = 3.0;

/// Words that nothing says, outside of quotations: in double quotes or backticks of a comment. `.ci/pages` looks for
/// them in pages.
const BANNED: [&str; 13] = [
    "told", "tell", "tells", "mend", "mends", "mended", "nudge", "nudges", "nudged", "hurried", "somebody", "nobody",
    "whoever",
];
/// The folders and files that people read.
const PROSE: [&str; 7] = ["src", "tests", "benches", "fuzz", "charts", "crds", "examples"];
/// The files that have the words as lists.
const LISTS: [&str; 2] = ["tests/it/architecture/figures.rs", "tests/it/architecture/words.rs"];

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

#[test]
fn banned_words_stand_in_quotations_alone() {
    let root = repository();
    let is_text = |path: &str| {
        [".rs", ".yaml", ".tpl", ".txt", ".sh", ".toml", ".go", ".json"].iter().any(|end| path.ends_with(end))
    };
    let mut wrong = Vec::new();
    for path in PROSE.iter().flat_map(|top| files(root, top, &is_text)).filter(|path| !LISTS.contains(&&**path)) {
        for (number, line) in std::fs::read_to_string(root.join(&path)).unwrap().lines().enumerate() {
            let spoken = words(&unquoted(line));
            for word in spoken.iter().filter(|word| BANNED.contains(&word.as_str())) {
                wrong.push(format!("{path}:{}: {word}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns a line without its quotations. The strings of a program are no quotations: people read them.
fn unquoted(line: &str) -> String {
    let trimmed = line.trim_start();
    if !["//", "#", "*"].iter().any(|comment| trimmed.starts_with(comment)) {
        return line.to_owned();
    }
    ['`', '"'].into_iter().fold(line.to_owned(), |line, quote| {
        let outside = line.split(quote).enumerate().filter(|(index, _)| index % 2 == 0);
        outside.map(|(_, part)| part).collect::<Vec<_>>().join(" ")
    })
}
