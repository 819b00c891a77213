//! Logs the warnings that registries send with their responses, each once; nothing is decided by them.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use http::HeaderMap;
use http::header::WARNING;

use crate::locked::Locked;
use crate::registry::http::text::clean;

/// Logs each warning in `headers` that `host` has not sent before (distribution specification, "Warnings").
pub(super) fn log(host: &str, headers: &HeaderMap) {
    for text in headers.get_all(WARNING).iter().take(MAX_TEXTS).filter_map(|value| warning(value.to_str().ok()?)) {
        if SHOWN.lock().is_new(host, &text) {
            tracing::warn!(registry = host, warning = text, "the registry warns");
        }
    }
}

/// Parses `299 - "text"`, the only form that the specification knows.
fn warning(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 - \"")?;
    let mut text = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => break,
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
    Some(clean(&text)).filter(|text| !text.is_empty())
}

/// The warnings that this process has logged.
#[derive(Default)]
struct ShownWarnings(HashMap<String, HashSet<String>>);

impl ShownWarnings {
    /// Returns true if `text` is new. A host that sends ever new texts gets only the first ones logged.
    fn is_new(&mut self, host: &str, text: &str) -> bool {
        if !self.0.contains_key(host) && self.0.len() >= MAX_HOSTS {
            return false;
        }
        let texts = self.0.entry(host.to_owned()).or_default();
        texts.len() < MAX_TEXTS && texts.insert(text.to_owned())
    }
}

static SHOWN: LazyLock<Locked<ShownWarnings>> = LazyLock::new(Locked::default);

const MAX_HOSTS: usize = 1024;
const MAX_TEXTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_read_in_the_one_form_there_is() {
        let table = [
            (r#"299 - "this goes away soon""#, Some("this goes away soon")),
            (r#" 299 - "a \"quoted\" word" "#, Some("a \"quoted\" word")),
            ("299 - \"see https://r.example/x?secret=1\"", Some("see https://r.example/x")),
            (r#"199 - "another code""#, None),
            (r#"299 agent "another agent""#, None),
            (r#"299 - "no end"#, None),
            (r#"299 - "no end \"#, None),
            (r#"299 - """#, None),
        ];
        for (value, expected) in table {
            assert_eq!(warning(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn each_text_is_shown_once_for_each_host_and_not_without_end() {
        let mut shown = ShownWarnings::default();
        assert!(shown.is_new("a", "text") && shown.is_new("b", "text"));
        assert!(!shown.is_new("a", "text"));
        let more = (0..1000).filter(|number| shown.is_new("a", &number.to_string())).count();
        assert_eq!(more, MAX_TEXTS - 1);
        let hosts = (0..5000).filter(|number| shown.is_new(&format!("h{number}"), "text")).count();
        assert_eq!(hosts, MAX_HOSTS - 2);
    }
}
