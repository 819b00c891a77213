//! Turns the answer of a registry that did not work out into an error: status, error code, message.

use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::text::{MAX_SAID, clean};
use crate::registry::http::{body, retry};
use http::{HeaderMap, StatusCode};
use url::Url;

/// The headers of an answer, and its body on its way.
pub(crate) struct HttpResponse {
    pub(crate) response: reqwest::Response,
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    /// The host that it came from, if that is not the registry's own origin.
    pub(crate) elsewhere: Option<String>,
}

impl HttpResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The value of `Content-Length`, also of an answer to HEAD.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Reads the rest of this answer as a refusal.
    pub(crate) async fn refusal(self, deadlines: &Deadlines) -> ErrorResponse {
        let (status, elsewhere) = (self.status(), self.elsewhere);
        let retry_after = retry::retry_after(self.response.headers());
        let text = body::read(self.response, MAX_ERROR_BYTES, deadlines).await.unwrap_or_default();
        let (codes, said) = said(&text);
        ErrorResponse { status, elsewhere, retry_after, is_of_registry: !codes.is_empty(), codes, said }
    }
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    /// The host that said so, if not the registry.
    elsewhere: Option<String>,
    retry_after: Option<std::time::Duration>,
    codes: Vec<String>,
    /// What was said, cleaned.
    said: String,
    /// Whether it is an error document as the distribution specification describes it.
    pub(crate) is_of_registry: bool,
}

impl ErrorResponse {
    /// Whether one of the error codes is among `codes`.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|found| codes.contains(&found.as_str()))
    }

    /// The error that this is to `task`.
    pub(crate) fn error(&self, task: &Operation) -> RegistryError {
        self.error_of(self.kind(), task)
    }

    /// The same under another kind.
    pub(crate) fn error_of(&self, kind: ErrorKind, task: &Operation) -> RegistryError {
        let by = self.elsewhere.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
        let said = if self.said.is_empty() { String::new() } else { format!(" ({})", self.said) };
        let error = task.error(kind, format!("{by}answered {}{said}", self.status.as_u16()));
        let retry_after = if kind.is_transient() { self.retry_after } else { None };
        RegistryError { retry_after, ..error }
    }

    fn kind(&self) -> ErrorKind {
        match self.status.as_u16() {
            _ if self.status.is_client_error() && self.has_code(&["TOOMANYREQUESTS"]) => ErrorKind::RateLimited,
            // A signed URL has run out, or the like: the registry makes a new one.
            401 | 403 if self.elsewhere.is_some() => ErrorKind::Unavailable,
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::Unsupported,
            408 | 500.. => ErrorKind::Unavailable,
            // It is no fault of the content, whatever the code says.
            413 => ErrorKind::Rejected,
            429 => ErrorKind::RateLimited,
            _ if self.has_code(&["UNSUPPORTED"]) => ErrorKind::Unsupported,
            _ if self.has_code(&["DIGEST_INVALID", "SIZE_INVALID"]) => ErrorKind::InvalidContent,
            _ => ErrorKind::Rejected,
        }
    }

    /// This as a failure of one attempt: only statuses that are known to pass are worth another one.
    pub(crate) fn failure(&self, task: &Operation) -> AttemptError {
        let failure = AttemptError::from(self.error(task));
        let passes = is_passing(self.status) || failure.error.kind == ErrorKind::RateLimited;
        if passes || self.elsewhere.is_some() { failure } else { AttemptError { max_tries: 1, ..failure } }
    }
}

/// Whether a status says that the same request may work out in a moment.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The codes of an error document, and what the body of a refusal says, cleaned: the first error, or the text of no document.
pub(crate) fn said(text: &[u8]) -> (Vec<String>, String) {
    let errors = errors_of(text);
    let said = match errors.first() {
        Some((code, message)) if message.is_empty() => clean(code),
        Some((code, message)) => format!("{}: {}", clean(code), clean(message)).chars().take(MAX_SAID).collect(),
        None if text.trim_ascii_start().starts_with(b"<") => String::new(),
        None => clean(&String::from_utf8_lossy(text)),
    };
    (errors.into_iter().map(|(code, _)| code).collect(), said)
}

/// The code and message of each entry of an error document; none if `text` is no such document.
fn errors_of(text: &[u8]) -> Vec<(String, String)> {
    let document: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let entries = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text_of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    entries.iter().take(MAX_CODES).map(|entry| (text_of(&entry["code"]), text_of(&entry["message"]))).collect()
}

const MAX_ERROR_BYTES: usize = 64 * 1024;
const MAX_CODES: usize = 100;
