//! The Rust files of a folder as tokens, with the parts marked that are compiled for tests alone.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A Rust file.
pub struct SourceFile {
    /// Relative to the root of the project.
    pub path: String,
    pub text: String,
    /// Without comments; each literal is one token.
    pub tokens: Vec<CodeToken>,
    /// True for `tests.rs`, `testing.rs`, `fuzzing` and every module that is declared under `#[cfg(test)]`.
    pub is_test: bool,
    /// The lines of items under `#[cfg(test)]`, counted from 1.
    pub test_lines: Vec<RangeInclusive<usize>>,
}

/// A word, a literal (as `""`) or a sign of a Rust file.
#[derive(Clone, Debug)]
pub struct CodeToken {
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// True inside an item under `#[cfg(test)]`.
    pub is_test: bool,
}

/// A run of lines with `///` or `//!`.
pub struct DocBlock {
    pub line: usize,
    pub text: String,
}

impl DocBlock {
    /// Returns the first word in lower case, past marks such as `**`.
    pub fn first_word(&self) -> String {
        let text = self.text.trim_start_matches(|c: char| !c.is_alphanumeric());
        text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
    }
}

impl SourceFile {
    /// Reads `path`, which is relative to `root`.
    pub fn read(root: &Path, path: &str) -> Self {
        let text = std::fs::read_to_string(root.join(path)).unwrap();
        let mut tokens = tokens(&text);
        let test_lines = mark_tests(&mut tokens);
        let mut parts = path.trim_end_matches(".rs").split('/');
        let is_test = parts.next_back().is_some_and(|stem| ["tests", "testing", "fuzzing"].contains(&stem))
            || parts.any(|folder| folder == "fuzzing");
        Self { path: path.to_owned(), text, tokens, is_test, test_lines }
    }

    /// Returns the tokens that end up in the program.
    pub fn production(&self) -> impl Iterator<Item = &CodeToken> {
        self.tokens.iter().filter(|token| !self.is_test && !token.is_test)
    }

    /// Returns the lines that end up in the program with their numbers, comments among them.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(number, _)| !self.is_test && !self.test_lines.iter().any(|lines| lines.contains(number)))
    }

    /// Returns every run of doc lines.
    pub fn doc_blocks(&self) -> Vec<DocBlock> {
        let mut blocks: Vec<DocBlock> = Vec::new();
        let mut last: Option<(usize, &str)> = None;
        for (index, line) in self.text.lines().enumerate() {
            let line = line.trim_start();
            let Some(mark) = ["///", "//!"].into_iter().find(|mark| line.starts_with(mark)) else { continue };
            if last == Some((index, mark)) {
                let block = blocks.last_mut().unwrap();
                block.text.push(' ');
                block.text.push_str(line[3..].trim());
            } else {
                blocks.push(DocBlock { line: index + 1, text: line[3..].trim().to_owned() });
            }
            last = Some((index + 1, mark));
        }
        blocks
    }
}

/// Returns the files below `folder` whose names `is_wanted`, sorted, relative to `root`.
pub fn files(root: &Path, folder: &str, is_wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if !path.is_dir() {
                found.push(path);
            } else if !["target", "corpus", "artifacts"].contains(&&*name) && !name.starts_with('.') {
                collect(&path, found);
            }
        }
    }
    let (top, mut found) = (root.join(folder), Vec::new());
    if top.is_file() {
        found.push(top)
    } else {
        collect(&top, &mut found)
    }
    let relative = found.iter().map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
    let mut relative: Vec<String> = relative.filter(|path| is_wanted(path)).collect();
    relative.sort();
    relative
}

/// Reads the Rust files below `folder`.
pub fn rust_files(root: &Path, folder: &str) -> Vec<SourceFile> {
    let paths = files(root, folder, &|path| path.ends_with(".rs"));
    paths.iter().map(|path| SourceFile::read(root, path)).collect()
}

/// Returns the index of the token that closes the bracket at `open`.
pub fn closing(tokens: &[CodeToken], open: usize) -> usize {
    let (opening, closing) = match tokens[open].text.as_str() {
        "(" => ("(", ")"),
        "[" => ("[", "]"),
        _ => ("{", "}"),
    };
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.text == opening {
            depth += 1;
        } else if token.text == closing {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len() - 1
}

/// Returns the words of a line in lower case; `one_name` and `OneName` are two words each.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut was_lower) = (vec![String::new()], false);
    for c in line.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words
}

fn mark_tests(tokens: &mut [CodeToken]) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute_end = match &tokens[at..] {
            [hash, bracket, ..] if hash.text == "#" && bracket.text == "[" => closing(tokens, at + 1),
            _ => {
                at += 1;
                continue;
            }
        };
        let words: Vec<&str> = tokens[at + 2..attribute_end].iter().map(|token| token.text.as_str()).collect();
        let is_test = words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
        if is_test {
            let end = item_end(tokens, attribute_end + 1);
            tokens[at..=end].iter_mut().for_each(|token| token.is_test = true);
            ranges.push(tokens[at].line..=tokens[end].line);
            at = end + 1;
        } else {
            at = attribute_end + 1;
        }
    }
    ranges
}

/// Returns the index of the last token of the item that begins at `start`.
fn item_end(tokens: &[CodeToken], start: usize) -> usize {
    let mut at = start;
    let mut ends_in_semicolon = false;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "use" | "static" => ends_in_semicolon = true,
            "const" => ends_in_semicolon = tokens.get(at + 1).is_none_or(|next| next.text != "fn"),
            "(" | "[" => at = closing(tokens, at),
            "{" if ends_in_semicolon => at = closing(tokens, at),
            "{" => return closing(tokens, at),
            ";" => return at,
            _ => {}
        }
        at += 1;
    }
    tokens.len() - 1
}

fn tokens(text: &str) -> Vec<CodeToken> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, token) = next_token(rest, first);
        if let Some(token) = token {
            found.push(CodeToken { text: token.to_owned(), line, is_test: false });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Returns the length of the next token, comment or space, and the token if it is one.
fn next_token(rest: &str, first: char) -> (usize, Option<&str>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), None);
    }
    if let Some(length) = string_length(rest) {
        return (length, Some("\"\""));
    }
    if let Some(length) = character_length(rest) {
        return (length, Some("\"\""));
    }
    if first == '\'' || is_word(first) {
        let end = rest.char_indices().skip(1).find(|(_, c)| !is_word(*c)).map_or(rest.len(), |(at, _)| at);
        return (end, Some(&rest[..end]));
    }
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    let long = ["::", "->", "=>"].into_iter().find(|sign| rest.starts_with(sign));
    let length = long.map_or(first.len_utf8(), str::len);
    (length, Some(&rest[..length]))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the string at the beginning, raw and byte strings included.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| rest.strip_prefix(prefix).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
    let hashes = rest[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let begin = prefix.len() + hashes + 1;
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        return rest[begin..].find(&end).map(|at| begin + at + end.len());
    }
    if hashes > 0 {
        return None;
    }
    let mut is_escaped = false;
    let end = rest[begin..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some(begin + end + 1)
}

/// Returns the length of the character at the beginning; a lifetime is none.
fn character_length(rest: &str) -> Option<usize> {
    let prefix = if rest.starts_with("b'") { 1 } else { 0 };
    let inner = rest[prefix..].strip_prefix('\'')?;
    let length = match inner.strip_prefix('\\') {
        Some(escaped) => 1 + escaped[1..].find('\'')? + 1,
        None => inner.chars().next()?.len_utf8(),
    };
    inner[length..].starts_with('\'').then_some(prefix + 1 + length + 1)
}
