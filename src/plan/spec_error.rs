//! The error of a spec that cannot be carried out.

use crate::terms::{ValidationRules, broken, reason};

/// The error of a spec that cannot be carried out, with the reason of the `Stalled` condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// One of [`crate::terms::reason`].
    pub reason: &'static str,
    /// A sentence that names the field and the remedy.
    pub message: String,
}

impl SpecError {
    /// Returns an error with the reason `InvalidSpec`.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { reason: reason::INVALID_SPEC, message: message.into() }
    }
}

/// Checks a value whose rules name its field in their messages.
pub(super) fn check<T: ?Sized>(rules: &ValidationRules<T>, value: &T) -> Result<(), SpecError> {
    broken(rules, value).map_or(Ok(()), |message| Err(SpecError::invalid(message)))
}

/// Checks the value of `field`, which an error begins with.
pub(super) fn check_field<T: ?Sized>(rules: &ValidationRules<T>, value: &T, field: &str) -> Result<(), SpecError> {
    broken(rules, value).map_or(Ok(()), |message| Err(SpecError::invalid(format!("{field}: {message}"))))
}
