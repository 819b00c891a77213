//! The error of a copy or deletion with its failure code.

use std::time::Duration;

use super::backoff::passes_by_itself;
use crate::terms::FailureCode;

/// An error of a copy with its failure code, as a status shows it.
#[derive(Clone, Debug)]
pub struct CodedError {
    /// The cause, from the closed set.
    pub code: FailureCode,
    /// One sentence for people.
    pub message: String,
    /// The wait that a registry asked for.
    pub retry_after: Option<Duration>,
    /// True if it may pass without any change by people, within minutes.
    pub is_transient: bool,
}

impl CodedError {
    /// Returns an error without a wait.
    pub fn new(code: FailureCode, message: String) -> Self {
        Self { code, message, retry_after: None, is_transient: passes_by_itself(code) }
    }
}
