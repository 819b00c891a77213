//! Responses, and the errors that refusals among them are: status, error code, message.

use http::{HeaderMap, StatusCode};
use url::Url;

use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::text::{MAX_SAID, clean};
use crate::registry::http::{body, retry};

/// A response whose body has not been read.
pub(crate) struct HttpResponse {
    pub(crate) response: reqwest::Response,
    /// The URL that it came from, after redirects.
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

    /// Returns the value of a header, if it is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns the value of `Content-Length`, also of a response to HEAD.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Reads the body as a refusal.
    pub(crate) async fn into_error_response(self, deadlines: &Deadlines) -> ErrorResponse {
        let (status, elsewhere) = (self.status(), self.elsewhere);
        let retry_after = retry::retry_after(self.response.headers());
        let text = body::read(self.response, MAX_ERROR_BYTES, deadlines).await.unwrap_or_default();
        let (codes, said) = said(&text);
        ErrorResponse { status, elsewhere, retry_after, is_of_registry: !codes.is_empty(), codes, said }
    }
}

/// A response that refuses the request, with its body.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    /// The host that it came from, if that is not the registry's own origin.
    elsewhere: Option<String>,
    retry_after: Option<std::time::Duration>,
    codes: Vec<String>,
    /// The text of the body, cleaned.
    said: String,
    /// True if the body is an error document of the distribution specification.
    pub(crate) is_of_registry: bool,
}

impl ErrorResponse {
    /// Returns true if one of the error codes is among `codes`.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|found| codes.contains(&found.as_str()))
    }

    /// Returns the error of `operation` that this response means.
    pub(crate) fn error(&self, operation: &Operation) -> RegistryError {
        self.error_as(self.kind(), operation)
    }

    /// Returns the same error under another kind.
    pub(crate) fn error_as(&self, kind: ErrorKind, operation: &Operation) -> RegistryError {
        let by = self.elsewhere.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
        let said = if self.said.is_empty() { String::new() } else { format!(" ({})", self.said) };
        let error = operation.error(kind, format!("{by}answered {}{said}", self.status.as_u16()));
        let retry_after = if kind.is_transient() { self.retry_after } else { None };
        RegistryError { retry_after, ..error }
    }

    fn kind(&self) -> ErrorKind {
        match self.status.as_u16() {
            _ if self.status.is_client_error() && self.has_code(&["TOOMANYREQUESTS"]) => ErrorKind::RateLimited,
            // A signed URL has expired, or the like: the registry makes a new one.
            401 | 403 if self.elsewhere.is_some() => ErrorKind::Unavailable,
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::Unsupported,
            408 | 500.. => ErrorKind::Unavailable,
            // Not the fault of the content, whatever the code says.
            413 => ErrorKind::Rejected,
            429 => ErrorKind::RateLimited,
            _ if self.has_code(&["UNSUPPORTED"]) => ErrorKind::Unsupported,
            _ if self.has_code(&["DIGEST_INVALID", "SIZE_INVALID"]) => ErrorKind::InvalidContent,
            _ => ErrorKind::Rejected,
        }
    }

    /// Returns the failure of one attempt: only statuses that are known to pass are worth another one.
    pub(crate) fn attempt_error(&self, operation: &Operation) -> AttemptError {
        let error = self.error(operation);
        let passes = is_passing(self.status) || error.kind == ErrorKind::RateLimited;
        if passes || self.elsewhere.is_some() { error.into() } else { AttemptError::last(error) }
    }
}

/// Returns true if a status means that the same request may succeed in a moment.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns the codes of an error document, and the cleaned text of a refusal: the first error, or a body that is no
/// document.
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

/// Returns the code and message of each entry of an error document; none if `text` is no such document.
fn errors_of(text: &[u8]) -> Vec<(String, String)> {
    let document: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let entries = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text_of = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    entries.iter().take(MAX_CODES).map(|entry| (text_of(&entry["code"]), text_of(&entry["message"]))).collect()
}

const MAX_ERROR_BYTES: usize = 64 * 1024;
const MAX_CODES: usize = 100;
