//! The words of docs, comments, messages and names.

use std::path::Path;

use super::sources::{SourceFile, files, rust_files, words};
use crate::support::run_folder::repository;

/// A doc block begins with a verb or a noun phrase, not with one of these.
const OPENINGS: [&str; 8] = ["what", "whatever", "whether", "where", "who", "whoever", "whose", "how"];
const MAX_OPENINGS_PERCENT: f64 = 3.0;

/// Words that nothing says, outside of quotations: in double quotes or backticks of a comment or a page, or in a block of `>`.
const BANNED: [&str; 13] = [
    "told", "tell", "tells", "mend", "mends", "mended", "nudge", "nudges", "nudged", "hurried", "somebody", "nobody",
    "whoever",
];
/// The folders and files that people read.
const PROSE: [&str; 11] = [
    "src",
    "tests",
    "benches",
    "fuzz",
    "docs",
    "charts",
    "crds",
    "examples",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];
/// The files that have the words as lists.
const LISTS: [&str; 2] = ["tests/it/architecture/figures.rs", "tests/it/architecture/words.rs"];

const MAX_MARKDOWN_LINE: usize = 100;

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
        [".rs", ".md", ".yaml", ".tpl", ".txt", ".sh", ".toml", ".go", ".json"].iter().any(|end| path.ends_with(end))
    };
    let mut wrong = Vec::new();
    for path in PROSE.iter().flat_map(|top| files(root, top, &is_text)).filter(|path| !LISTS.contains(&&**path)) {
        for (number, line) in std::fs::read_to_string(root.join(&path)).unwrap().lines().enumerate() {
            let spoken = words(&unquoted(&path, line));
            for word in spoken.iter().filter(|word| BANNED.contains(&word.as_str())) {
                wrong.push(format!("{path}:{}: {word}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn markdown_is_wrapped() {
    let root = repository();
    let mut pages = files(root, "docs", &|path| path.ends_with(".md"));
    pages.extend(files(root, "charts", &|path| path.ends_with(".md")));
    let top = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    pages.extend(top.filter(|name| name.ends_with(".md")));
    let mut wrong = Vec::new();
    for page in pages {
        wrong.extend(long_lines(root, &page).into_iter().map(|(line, width)| format!("{page}:{line}: {width}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns the lines that are too wide, with their widths. Tables, code and what a link makes long do not count.
fn long_lines(root: &Path, page: &str) -> Vec<(usize, usize)> {
    let (text, mut is_code, mut found) = (std::fs::read_to_string(root.join(page)).unwrap(), false, Vec::new());
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            is_code = !is_code;
        }
        let width = line.chars().count();
        let last = line.rsplit(' ').next().unwrap_or_default();
        let is_link = last.contains("](") || last.contains("://");
        let counted = if is_link { width - last.chars().count() } else { width };
        if !is_code && !trimmed.starts_with('|') && counted > MAX_MARKDOWN_LINE {
            found.push((index + 1, width));
        }
    }
    found
}

/// Returns a line without its quotations. The strings of a program are no quotations: people read them.
fn unquoted(path: &str, line: &str) -> String {
    let trimmed = line.trim_start();
    let is_page = path.ends_with(".md");
    if is_page && trimmed.starts_with('>') {
        return String::new();
    }
    if !is_page && !["//", "#", "*"].iter().any(|comment| trimmed.starts_with(comment)) {
        return line.to_owned();
    }
    ['`', '"'].into_iter().fold(line.to_owned(), |line, quote| {
        let outside = line.split(quote).enumerate().filter(|(index, _)| index % 2 == 0);
        outside.map(|(_, part)| part).collect::<Vec<_>>().join(" ")
    })
}
