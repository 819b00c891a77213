//! The registry's own words in an answer: the errors of its document, the title of a web page, or the body as it is.

use serde_json::Value;

use crate::registry::http::text::{MAX_SAID, REDACTED, clean, is_secret_name};

/// The words of a refusal.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The codes of an error document of the distribution specification.
    pub(crate) codes: Vec<String>,
    /// The cleaned text.
    pub(crate) text: String,
    /// True if the body is a web page.
    pub(crate) is_page: bool,
}

impl Said {
    /// Reads the body of a refusal. Shows the first three errors of a document with their details.
    pub(crate) fn of(body: &[u8]) -> Self {
        if let Some(text) = web_page(body) {
            return Self { codes: Vec::new(), text, is_page: true };
        }
        if let Some(text) = storage_error(body) {
            return Self { text, ..Self::default() };
        }
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let entries = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let codes = entries.iter().take(MAX_CODES).map(|entry| text_of(&entry["code"])).collect();
        let text = match (entries, &document) {
            ([], Value::Null | Value::String(_)) => clean(&String::from_utf8_lossy(body)),
            ([], document) => clean(&plain(document, MAX_DEPTH)),
            (entries, _) => texts_of(entries),
        };
        Self { codes, text, is_page: false }
    }
}

impl Said {
    /// Reads the body of a refusal by another host than the registry's: of its words only the code of a storage service
    /// is kept, and of its codes only those of the distribution specification.
    pub(crate) fn of_other_host(body: &[u8]) -> Self {
        let Self { mut codes, is_page, .. } = Self::of(body);
        codes.retain(|code| SPECIFIED_CODES.contains(&code.as_str()));
        let text = match is_page {
            true => "a web page".to_owned(),
            false => storage_code(body).or_else(|| codes.first().cloned()).unwrap_or_default(),
        };
        Self { codes, text, is_page }
    }
}

/// Returns the code of an error document in XML if it is a well-known one.
fn storage_code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE_HEAD)]);
    let code = between(&text, &text, "<Code>", "</Code>").filter(|_| text.trim_start().starts_with('<'))?;
    STORAGE_CODES.contains(&code).then(|| code.to_owned())
}

/// Describes `body` if it is a web page: `a web page "Sign in"`.
pub(crate) fn web_page(body: &[u8]) -> Option<String> {
    let start = String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE_HEAD)]);
    // ASCII only, so that places in both are the same.
    let lower = start.to_ascii_lowercase();
    let is_page = ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| lower.contains(tag));
    if !lower.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with('<') || !is_page {
        return None;
    }
    let title = between(&start, &lower, "<title", "</title").and_then(|tail| Some(tail.split_once('>')?.1));
    let title = title.map(clean).filter(|title| !title.is_empty());
    let title = title.map(|title| title.chars().take(MAX_TITLE).collect::<String>());
    Some(title.map_or_else(|| "a web page".to_owned(), |title| format!("a web page {title:?}")))
}

/// Returns the code and message of an error document in XML, as storage services write it.
fn storage_error(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_PAGE_HEAD)]);
    if !text.trim_start().starts_with('<') {
        return None;
    }
    let fields =
        [("<Code>", "</Code>"), ("<Message>", "</Message>")].map(|(start, end)| between(&text, &text, start, end));
    let words: Vec<String> = fields.into_iter().flatten().map(clean).collect();
    Some(words.join(": ").chars().take(MAX_SAID).collect())
}

/// Returns the text between the first `start` and the `end` behind it; both are looked for in `lower`.
fn between<'a>(text: &'a str, lower: &str, start: &str, end: &str) -> Option<&'a str> {
    let from = lower.find(start)? + start.len();
    let length = lower[from..].find(end)?;
    text.get(from..from + length)
}

fn texts_of(entries: &[Value]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for entry in entries.iter().take(MAX_CODES) {
        let text = error_text(entry);
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(MAX_ERRORS);
    texts.truncate(MAX_ERRORS);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}

/// Returns the code, message and detail of one error.
fn error_text(entry: &Value) -> String {
    let (code, message) = (text_of(&entry["code"]), text_of(&entry["message"]));
    let detail = plain(&entry["detail"], MAX_DEPTH);
    let mut text = [code, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    if !detail.is_empty() && !text.contains(&detail) {
        text = if text.is_empty() { detail } else { format!("{text} ({detail})") };
    }
    clean(&text)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns a value without the punctuation of JSON, and without values that are secret by their names.
fn plain(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) if depth == 0 => "...".to_owned(),
        Value::Array(items) => {
            let items = items.iter().take(MAX_ERRORS).map(|item| plain(item, depth - 1));
            items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join("; ")
        }
        Value::Object(fields) => {
            let shown = |name: &str, value: &Value| match is_secret_name(name) {
                true => REDACTED.to_owned(),
                false => plain(value, depth - 1),
            };
            let fields = fields.iter().take(MAX_FIELDS).map(|(name, value)| (name, shown(name, value)));
            let fields = fields.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}: {value}"));
            clean(&fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The error codes of the distribution specification, and that of its rate limits.
const SPECIFIED_CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "UNKNOWN",
];
/// Error codes of Amazon S3, Google Cloud Storage and Azure Blob Storage that a user can act on.
const STORAGE_CODES: [&str; 16] = [
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "BlobNotFound",
    "ExpiredToken",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchBucket",
    "NoSuchKey",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServerBusy",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
];
const MAX_CODES: usize = 100;
/// The errors of a document that are shown.
const MAX_ERRORS: usize = 3;
const MAX_FIELDS: usize = 8;
const MAX_DEPTH: usize = 4;
const MAX_TITLE: usize = 80;
/// The bytes of a web page that are searched for its title.
const MAX_PAGE_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> String {
        Said::of(body.as_bytes()).text
    }

    #[test]
    fn all_errors_of_an_answer_are_shown_with_their_details() {
        let table = [
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#, "DENIED: no"),
            (
                r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"invalid URL on layer"}]}"#,
                "MANIFEST_INVALID: manifest invalid (invalid URL on layer)",
            ),
            (
                r#"{"errors":[{"code":"A","message":"a","detail":"invalid secret"},{"code":"B","message":"b"}]}"#,
                "A: a (invalid secret); B: b",
            ),
            (
                r#"{"errors":[{"code":"X","detail":1},{"code":"X","detail":2},{"code":"X","detail":2},{"code":"X","detail":3},{"code":"X","detail":4}]}"#,
                "X (1); X (2); X (3); and 1 more",
            ),
            (
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in","detail":[{"Type":"repository","Class":"","Name":"a/b","Action":"pull"}]}]}"#,
                "UNAUTHORIZED: log in (Action: pull, Name: a/b, Type: repository)",
            ),
            (r#"{"errors":[{"code":"A","message":"the same","detail":"the same"}]}"#, "A: the same"),
            (r#"{"errors":[7,{}]}"#, ""),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                "error: invalid_grant, error_description: expired",
            ),
            ("toomanyrequests: wait", "toomanyrequests: wait"),
        ];
        for (body, expected) in table {
            assert_eq!(said(body), expected, "{body}");
        }
        assert_eq!(Said::of(br#"{"errors":[{"code":"A"},{"code":"B"}]}"#).codes, ["A", "B"]);
    }

    #[test]
    fn secrets_and_signed_urls_of_a_detail_are_not_shown() {
        let body = r#"{"errors":[{"code":"X","detail":{"url":"https://s3.example/x?sig=canary&a=b","token":"canary",
            "headers":{"Authorization":"Bearer canary0123456789abcdef","Cookie":"canary"},"why":"password=canary",
            "jwt":"eyJhbGciOiJIUzI1NiJ9.canary.canary"}}]}"#;
        let text = said(body);
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("url: https://s3.example/x") && text.contains("token: [redacted]"), "{text}");
    }

    #[test]
    fn of_another_host_only_known_codes_are_repeated() {
        // body; what is shown of it
        let table = [
            ("internal: secret detail of the service, 42", ""),
            (r#"{"errors":[{"code":"X-SECRET","message":"secret"}]}"#, ""),
            (r#"{"errors":[{"code":"DENIED","message":"secret"}]}"#, "DENIED"),
            (r#"{"key":"secret"}"#, ""),
            ("<html><title>secret</title>", "a web page"),
            ("<Error><Code>AccessDenied</Code><Message>secret</Message></Error>", "AccessDenied"),
            ("<Error><Code>secret</Code></Error>", ""),
            ("secret <Code>AccessDenied</Code>", ""),
        ];
        for (body, expected) in table {
            let Said { text, codes, .. } = Said::of_other_host(body.as_bytes());
            assert_eq!(text, expected, "{body}");
            assert!(!codes.iter().any(|code| code.contains("SECRET")), "{codes:?}");
        }
    }

    #[test]
    fn what_a_registry_says_is_bounded() {
        let error = format!(r#"{{"code":"X","message":"{}","detail":"{}"}}"#, "m".repeat(500), "d".repeat(500));
        let other = error.replace('m', "n");
        for body in [format!(r#"{{"errors":[{error},{other}]}}"#), "x".repeat(5_000), format!("[{}]", "[".repeat(90))] {
            let text = said(&body);
            assert!(text.chars().count() <= MAX_ERRORS * (MAX_SAID + 2) + 20, "{text}");
        }
    }

    #[test]
    fn a_web_page_is_shown_by_its_title() {
        let table = [
            ("<html><head><title>Sign in</title></head>", Some("a web page \"Sign in\"")),
            (
                "\n<!DOCTYPE HTML>\n<HTML><TITLE lang=en>\n502 Bad\n Gateway</TITLE>",
                Some("a web page \"502 Bad Gateway\""),
            ),
            ("<html>", Some("a web page")),
            ("<title>x", None),
            ("{\"a\":\"<html>\"}", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(web_page(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let of_storage =
            "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message>";
        assert_eq!(said(of_storage), "AccessDenied: Request has expired");
    }
}
