//! Responses, and the errors that refusals among them are: status, error code, message.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use url::Url;

use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::said::Said;
use crate::registry::http::{advice, body, retry};

/// A response whose body has not been read.
pub(crate) struct HttpResponse {
    pub(crate) response: reqwest::Response,
    /// The URL that it came from, after redirects.
    pub(crate) url: Url,
    /// The host that it came from, if that is not the registry's own origin.
    pub(crate) elsewhere: Option<String>,
    /// A clause about the credentials of the request, if it was refused for them.
    remark: Option<String>,
}

impl HttpResponse {
    pub(crate) fn new(response: reqwest::Response, url: Url, elsewhere: Option<String>) -> Self {
        Self { response, url, elsewhere, remark: None }
    }

    /// Adds a clause about the credentials of the request, if it was refused for them.
    pub(crate) fn explained_by(mut self, remark: impl FnOnce() -> Option<String>) -> Self {
        if matches!(self.status().as_u16(), 401 | 403) && self.elsewhere.is_none() {
            self.remark = remark();
        }
        self
    }

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

    /// Reads the body as a refusal. A body that does not end is read for a moment only: the status has its meaning
    /// without it.
    pub(crate) async fn into_error_response(self, deadlines: &Deadlines) -> ErrorResponse {
        let (status, elsewhere, remark) = (self.status(), self.elsewhere, self.remark);
        let asked_wait = retry::asked_wait(self.response.headers());
        let body = body::read_beginning(self.response, MAX_ERROR_BYTES, deadlines.refusal).await;
        // Words of another host may be those of a service that the owner of the registry cannot reach.
        let said = if elsewhere.is_some() { Said::of_other_host(&body) } else { Said::of(&body) };
        ErrorResponse { status, elsewhere, remark, asked_wait, said }
    }
}

/// A response that refuses the request, with its body.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    /// The host that it came from, if that is not the registry's own origin.
    elsewhere: Option<String>,
    /// A clause about the credentials of the request, if it was refused for them.
    remark: Option<String>,
    /// The wait that the registry asks for, however long it is.
    asked_wait: Option<Duration>,
    said: Said,
}

impl ErrorResponse {
    /// Returns true if one of the error codes is among `codes`.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.said.codes.iter().any(|found| codes.contains(&found.as_str()))
    }

    /// Returns true if the body is a web page: a registry answers with none.
    pub(crate) fn is_web_page(&self) -> bool {
        self.said.is_page
    }

    /// Returns true if the body is an error document of the distribution specification.
    pub(crate) fn is_of_registry(&self) -> bool {
        !self.said.codes.is_empty()
    }

    /// Returns the error of `operation` that this response means.
    pub(crate) fn error(&self, operation: &Operation) -> RegistryError {
        self.error_as(self.kind(), operation)
    }

    /// Returns the same error under another kind.
    pub(crate) fn error_as(&self, kind: ErrorKind, operation: &Operation) -> RegistryError {
        let by = self.elsewhere.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
        let (page, said) = match &self.said {
            Said { text, .. } if text.is_empty() => (String::new(), String::new()),
            Said { text, is_page: true, .. } => (format!(" with {text}"), String::new()),
            Said { text, .. } => (String::new(), format!(" ({text})")),
        };
        let mut detail = format!("{by}answered {}{page}", self.status.as_u16());
        let asked_wait = self.asked_wait.filter(|_| kind.is_transient());
        if let Some(wait) = asked_wait.filter(|wait| *wait >= LONG_WAIT) {
            detail = format!("{detail}; it asks to wait until {}", retry::until(wait));
        }
        if let Some(advice) = advice::on_refusal(self.status, &self.said, self.elsewhere.is_none(), kind, operation) {
            detail = format!("{detail}; {advice}");
        }
        let is_about_login = matches!(kind, ErrorKind::Unauthorized | ErrorKind::Denied);
        if let Some(remark) = self.remark.as_ref().filter(|_| is_about_login) {
            detail = format!("{detail}; {remark}");
        }
        // The registry's own words come last: a status cuts long messages.
        let retry_after = asked_wait.map(|wait| wait.min(retry::MAX_RETRY_AFTER));
        RegistryError { retry_after, ..operation.error(kind, detail + &said) }
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

const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A wait from which on a message says when it ends.
const LONG_WAIT: Duration = Duration::from_secs(60);
