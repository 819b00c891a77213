//! Questions that tests have about an error of a copy.

use transship::copy::CopyError;

/// Returns true if the same copy may succeed later without a change by people.
pub fn is_transient(error: &CopyError) -> bool {
    match error {
        CopyError::Source(error) | CopyError::Destination(error) => error.kind.is_transient(),
        CopyError::VerificationFailed(_) => true,
        _ => false,
    }
}
