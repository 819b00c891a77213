//! Makes text from a registry fit for logs and messages: bounded, and without control characters or secrets.

/// Removes from `text` control characters, characters that hide or reorder others, the queries and users of URLs, and
/// secrets as far as their form shows them; cuts it to [`MAX_SAID`] characters.
pub(crate) fn clean(text: &str) -> String {
    let visible: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !is_invisible(*c)).collect();
    let words = visible.split_whitespace().map(|word| without_user(without_query(word)));
    without_secrets(words).chars().take(MAX_SAID).collect()
}

/// Joins `words`, with [`REDACTED`] in place of tokens and of values that are secret by their names.
fn without_secrets(words: impl Iterator<Item = String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut is_after_scheme = false;
    for word in words {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_token = (is_after_scheme && is_token_like(bare)) || is_jwt(bare);
        is_after_scheme = ["bearer", "basic", "token"].contains(&bare.to_ascii_lowercase().as_str())
            || (word.ends_with([':', '=']) && is_secret_name(bare));
        let value_at = word.find([':', '=']).map(|at| at + 1).filter(|at| *at < word.len());
        kept.push(match value_at {
            _ if is_token => REDACTED.to_owned(),
            Some(at) if is_secret_name(&word[..at - 1]) => format!("{}{REDACTED}", &word[..at]),
            _ => word,
        });
    }
    kept.join(" ")
}

/// Returns true if a field or parameter of this name holds a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

fn is_jwt(word: &str) -> bool {
    word.starts_with("eyJ") && word.len() >= 20 && word.contains('.')
}

/// Returns true if `word` looks like a password or a token rather than like a word of a sentence.
fn is_token_like(word: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "+/_.~=-".contains(c);
    let is_mixed = word.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    word.len() >= 16 && is_mixed && word.chars().all(is_of_token)
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

/// The end of the names of fields, parameters and headers whose values are secret.
const SECRET_NAMES: [&str; 10] = [
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "credential",
    "credentials",
    "signature",
    "cookie",
    "apikey",
];

pub(super) const REDACTED: &str = "[redacted]";

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

    #[test]
    fn secrets_are_recognised_by_their_form_and_words_are_kept() {
        let table = [
            ("Authorization: Bearer abcdef0123456789XYZ=", "Authorization: Bearer [redacted]"),
            ("Authorization: Basic dXNlcjpzZWNyZXQtd29yZA==", "Authorization: Basic [redacted]"),
            ("got eyJhbGciOiJIUzI1NiJ9.e30.c2ln, which is old", "got [redacted] which is old"),
            ("password=hunter2 user=me", "password=[redacted] user=me"),
            (r#"{"access_token":"abc"}"#, r#"{"access_token":[redacted]"#),
            ("invalid secret", "invalid secret"),
            ("Bearer token required", "Bearer token required"),
            ("basic authentication required", "basic authentication required"),
            ("TOKEN_EXPIRED: the token has expired", "TOKEN_EXPIRED: the token has expired"),
            (
                "sha256:0123456789abcdef0123456789abcdef is unknown",
                "sha256:0123456789abcdef0123456789abcdef is unknown",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(clean(text), expected, "{text}");
        }
    }
}
