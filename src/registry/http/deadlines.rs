//! The deadlines and waits of requests to registries.

use std::time::Duration;

/// How long anything may take.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    /// DNS, TCP and TLS together.
    pub(crate) connect: Duration,
    /// From sending a request to the headers of its answer.
    pub(crate) headers: Duration,
    /// Between two pieces of a body, in either direction, and from the end of an upload to its answer.
    pub(crate) idle: Duration,
    /// A body that is read into memory.
    pub(crate) whole_body: Duration,
    /// A page of a list, with what is tried again.
    pub(crate) page: Duration,
    /// A list with all its pages: of two million names, when pages are short.
    pub(crate) listing: Duration,
    /// What refers to a manifest, with all pages.
    pub(crate) referrers: Duration,
    /// Getting a token.
    pub(crate) token: Duration,
    /// Giving up an upload session.
    pub(crate) cancel: Duration,
    /// The bound of the first wait before another try, and of the last one.
    pub(crate) first_backoff: Duration,
    pub(crate) last_backoff: Duration,
    /// No pause after a 429 is shorter, whatever the registry asks for.
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
