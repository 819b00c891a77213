//! Maps the errors of a copy to the closed set of failure codes.

use std::time::Duration;

use super::authority::REPOSITORY_NOT_FOUND;
use super::task::CopyError;
use crate::registry::{ErrorKind, RegistryError};
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
}

impl CodedError {
    /// Returns an error without a wait.
    pub fn new(code: FailureCode, message: String) -> Self {
        Self { code, message, retry_after: None }
    }

    fn at_registry(error: &RegistryError, codes: [FailureCode; 3]) -> Self {
        let [denied, unavailable, rejected] = codes;
        let code = match error.kind {
            ErrorKind::Unauthorized | ErrorKind::Denied => denied,
            ErrorKind::InvalidContent => FailureCode::InvalidContent,
            ErrorKind::TooLarge => FailureCode::LimitExceeded,
            ErrorKind::TlsRefused | ErrorKind::EgressRefused | ErrorKind::HostUnknown | ErrorKind::Configuration => {
                FailureCode::RegistryNotReady
            }
            kind if kind.is_transient() => unavailable,
            _ => rejected,
        };
        Self { code, message: error.message.clone(), retry_after: error.retry_after }
    }
}

impl From<CopyError> for CodedError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Destination(error) => Self::at_registry(
                &error,
                [FailureCode::DestinationDenied, FailureCode::DestinationUnavailable, FailureCode::DestinationRejected],
            ),
            CopyError::LimitExceeded(message) => Self::new(FailureCode::LimitExceeded, message),
            CopyError::PlatformNotFound(message) => Self::new(FailureCode::PlatformNotFound, message),
            CopyError::Denied(denied) if denied.reason == REPOSITORY_NOT_FOUND => {
                Self::new(FailureCode::RepositoryNotFound, denied.message)
            }
            CopyError::Denied(denied) => Self::new(FailureCode::RegistryPermissionDenied, denied.message),
            CopyError::Source(error) => Self::at_registry(
                &error,
                [FailureCode::SourceDenied, FailureCode::SourceUnavailable, FailureCode::ImageNotFound],
            ),
            CopyError::SourceChanged => {
                Self::new(FailureCode::ImageNotFound, "the image is not at the source any more".to_owned())
            }
            error @ CopyError::SparseIndexRefused(_) => Self::new(FailureCode::SparseIndexRefused, error.to_string()),
            CopyError::VerificationFailed(message) => Self::new(FailureCode::VerificationFailed, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Denied;

    #[test]
    fn every_kind_of_failure_has_its_code() {
        let error = |kind| RegistryError { kind, message: "m".to_owned(), retry_after: None };
        let code = |error: CopyError| CodedError::from(error).code;
        assert_eq!(code(CopyError::Source(error(ErrorKind::Unauthorized))), FailureCode::SourceDenied);
        assert_eq!(code(CopyError::Source(error(ErrorKind::NotFound))), FailureCode::ImageNotFound);
        assert_eq!(code(CopyError::Destination(error(ErrorKind::RateLimited))), FailureCode::DestinationUnavailable);
        assert_eq!(code(CopyError::Destination(error(ErrorKind::Rejected))), FailureCode::DestinationRejected);
        assert_eq!(code(CopyError::Destination(error(ErrorKind::TlsRefused))), FailureCode::RegistryNotReady);
        let sparse = CodedError::from(CopyError::SparseIndexRefused(error(ErrorKind::ContentMissing)));
        assert_eq!(sparse.code, FailureCode::SparseIndexRefused);
        assert!(sparse.message.ends_with("set platformIndex: Rewrite"), "the remedy is named: {}", sparse.message);
        let denied = |reason: &str| CopyError::Denied(Denied { reason: reason.to_owned(), message: String::new() });
        assert_eq!(code(denied("RepositoryNotFound")), FailureCode::RepositoryNotFound);
        assert_eq!(code(denied("StatementDenies")), FailureCode::RegistryPermissionDenied);
    }
}
