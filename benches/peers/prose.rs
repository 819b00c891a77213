//! Wraps paragraphs of Markdown.

use std::fmt::Write;

/// Returns a paragraph of at most 100 columns; `first` and `rest` begin its lines.
pub fn wrapped(first: &str, rest: &str, text: &str) -> String {
    let mut lines = vec![first.to_owned()];
    let mut is_empty = true;
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if is_empty {
            *line += word;
        } else if line.chars().count() + 1 + word.chars().count() <= COLUMNS {
            let _ = write!(line, " {word}");
        } else {
            lines.push(format!("{rest}{word}"));
        }
        is_empty = false;
    }
    lines.join("\n") + "\n"
}

const COLUMNS: usize = 100;
