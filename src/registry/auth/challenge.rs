//! Parses `WWW-Authenticate`: the authentication schemes that a registry offers.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One offered scheme (RFC 9110, 11.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case: `basic`, `bearer`, or an unknown scheme.
    pub(crate) scheme: String,
    /// Names in lower case, values without quotes.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the value of the first parameter called `name`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// As a server would write it.
#[cfg(any(test, fuzzing))]
impl std::fmt::Display for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.scheme)?;
        self.parameters.iter().enumerate().try_for_each(|(at, (name, value))| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{}{name}=\"{value}\"", if at == 0 { " " } else { ", " })
        })
    }
}

/// Parses all challenges of a response, up to the first that is malformed or beyond 8 KiB.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut budget = MAX_BYTES;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let text = String::from_utf8_lossy(value.as_bytes());
        if text.len() > budget {
            break;
        }
        budget -= text.len();
        parse(&text, &mut found);
    }
    found
}

fn parse(text: &str, found: &mut Vec<Challenge>) {
    let mut rest = text;
    let mut current: Option<Challenge> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, tail) = token(rest);
        if name.is_empty() {
            break;
        }
        let after = tail.trim_start_matches([' ', '\t']);
        rest = match (after.strip_prefix('='), &mut current) {
            (Some(value), Some(challenge)) => {
                let Some((value, tail)) = parameter_value(value.trim_start_matches([' ', '\t'])) else {
                    break;
                };
                if challenge.parameters.len() < MAX_PARAMETERS {
                    challenge.parameters.push((name.to_ascii_lowercase(), value));
                }
                tail
            }
            (Some(_), None) => break,
            (None, _) => {
                found.extend(current.take());
                current = Some(Challenge { scheme: name.to_ascii_lowercase(), parameters: Vec::new() });
                skip_token68(tail)
            }
        };
        if found.len() >= MAX_CHALLENGES {
            return;
        }
    }
    found.extend(current);
}

/// Splits off a token (RFC 9110, 5.6.2), which may be empty.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c: char| !is_token(c)).unwrap_or(text.len()))
}

/// Splits off a token or a quoted string; `None` if the string does not end.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted values with characters that are no token, such as URLs, are common enough to be read.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Skips the opaque text that some schemes have in place of parameters (`Negotiate YII=`).
fn skip_token68(text: &str) -> &str {
    let start = text.trim_start_matches([' ', '\t']);
    let end = start.find([',', ' ', '\t']).unwrap_or(start.len());
    let word = &start[..end];
    let stem = word.trim_end_matches('=');
    let is_token68 = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let ends = start[end..].trim_start().is_empty() || start[end..].trim_start().starts_with(',');
    if !stem.is_empty() && ends && stem.chars().all(is_token68) { &start[end..] } else { text }
}

const MAX_BYTES: usize = 8 * 1024;
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        let show = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}<{value}>"));
            format!("{}{}", challenge.scheme, parameters.collect::<String>())
        };
        challenges(&headers).iter().map(show).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let table: [(&[&str], &str); 15] = [
            (&["Basic realm=\"x\""], "basic realm<x>"),
            (&["bearer Realm=\"https://a/t\",Service=s"], "bearer realm<https://a/t> service<s>"),
            (&["Bearer realm=https://a/t,service=s"], "bearer realm<https://a/t> service<s>"),
            (&["Bearer realm = \"r\" , scope=\"a:b:pull,push c\""], "bearer realm<r> scope<a:b:pull,push c>"),
            (&["Basic realm=\"a\", Bearer realm=\"b\",service=\"c\""], "basic realm<a>; bearer realm<b> service<c>"),
            (&["Basic realm=\"a\"", "Bearer realm=\"b\""], "basic realm<a>; bearer realm<b>"),
            (&["Negotiate, Basic realm=\"a\""], "negotiate; basic realm<a>"),
            (&["Negotiate YII=, Basic realm=\"a\""], "negotiate; basic realm<a>"),
            (&["Negotiate abc/d==, Basic"], "negotiate; basic"),
            (&["Basic"], "basic"),
            (&["Bearer realm=\"a \\\"quoted\\\" one\""], "bearer realm<a \"quoted\" one>"),
            (&["Bearer realm=\"open"], "bearer"),
            (&[",,, Basic realm=\"\",,"], "basic realm<>"),
            (&["realm=\"x\""], ""),
            (&["", "\"", "=="], ""),
        ];
        for (values, expected) in table {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn oversize_challenges_are_not_read() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(9000));
        assert_eq!(read(&[&long]), "");
    }
}
