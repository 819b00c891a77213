//! The deadlines and waits of requests to registries.

use std::time::Duration;

/// The deadlines and waits of one client.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    /// DNS, TCP and TLS together.
    pub(crate) connect: Duration,
    /// From sending a request to the headers of its response.
    pub(crate) headers: Duration,
    /// Between two pieces of a body, in either direction, and from the end of an upload to its response.
    pub(crate) idle: Duration,
    /// A body that is read into memory.
    pub(crate) whole_body: Duration,
    /// The body of a refusal, which ends then at whatever has come.
    pub(crate) refusal: Duration,
    /// A page of a list, with its retries.
    pub(crate) page: Duration,
    /// A list with all its pages: of two million names, when pages are short.
    pub(crate) listing: Duration,
    /// The referrers of a manifest, with all pages.
    pub(crate) referrers: Duration,
    /// Fetching a token, with its retries.
    pub(crate) token: Duration,
    /// Cancelling an upload session.
    pub(crate) cancel: Duration,
    /// The bounds of the first and of the longest backoff.
    pub(crate) first_backoff: Duration,
    pub(crate) last_backoff: Duration,
    /// The shortest pause after a 429, whatever the registry asks for.
    pub(crate) min_pause: Duration,
    /// A longer wait than this is left to the caller.
    pub(crate) max_wait: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            whole_body: Duration::from_secs(120),
            refusal: Duration::from_secs(5),
            page: Duration::from_secs(120),
            listing: Duration::from_secs(3600),
            referrers: Duration::from_secs(120),
            token: Duration::from_secs(20),
            cancel: Duration::from_secs(5),
            first_backoff: Duration::from_millis(200),
            last_backoff: Duration::from_secs(10),
            min_pause: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
        }
    }
}
