//! Makes text from a registry fit for logs and messages: bounded, and without control characters or secrets in URLs.

/// Removes from `text` control characters, characters that hide or reorder others, and the queries and users of URLs;
/// cuts it to [`MAX_SAID`] characters.
pub(crate) fn clean(text: &str) -> String {
    let visible: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !is_invisible(*c)).collect();
    let words = visible.split_whitespace().map(|word| without_user(without_query(word)));
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_SAID).collect()
}

/// Returns `word` up to the query of the first URL or path in it, malformed ones included.
fn without_query(word: &str) -> &str {
    match word.split_once('?') {
        Some((front, query)) if front.contains('/') || query.contains('=') => front,
        _ => word,
    }
}

/// Returns `word` without the user name and password of a URL in it.
fn without_user(word: &str) -> String {
    let parts =
        word.split("//").enumerate().map(|(at, part)| match part.split('/').next().unwrap_or(part).rfind('@') {
            Some(end) if at > 0 => &part[end + 1..],
            _ => part,
        });
    parts.collect::<Vec<_>>().join("//")
}

/// Returns true for characters without a width of their own: zero-width ones, directions, tags.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The characters of a registry's text that are repeated at most.
pub(super) const MAX_SAID: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_registry_is_cleaned_and_cut() {
        assert_eq!(clean("a\r\n\u{1b}[31mb\u{202e}c\0"), "a [31mbc");
        assert_eq!(clean("a\u{feff}\u{61c}\u{2060}\u{e0041}b"), "ab");
        assert_eq!(clean("see https://s3.example/x?X-Amz-Signature=abc now"), "see https://s3.example/x now");
        assert_eq!(clean(r#"{"url":"https:\/\/s3.example\/x?sig=abc"}"#), r#"{"url":"https:\/\/s3.example\/x"#);
        assert_eq!(clean("at /v2/x?sig=abc&b is it there? no"), "at /v2/x is it there? no");
        assert_eq!(clean("https://user:secret@r.example/x@y mail@example"), "https://r.example/x@y mail@example");
        assert_eq!(clean(&"é".repeat(1000)).chars().count(), MAX_SAID);
    }
}
