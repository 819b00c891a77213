//! Maps the errors of a copy to the closed set of failure codes.

use super::authority::REPOSITORY_NOT_FOUND;
use super::task::CopyError;
use crate::plan::{CodedError, passes_by_itself};
use crate::registry::{ErrorKind, RegistryError};
use crate::terms::{FailureCode, Side};

impl CodedError {
    /// Returns the error with the code for its kind on one side of a copy.
    fn at(side: Side, error: &RegistryError) -> Self {
        use ErrorKind::{Configuration, Denied, EgressRefused, HostUnknown, InvalidContent, TlsRefused, TooLarge};
        let code = match (side, error.kind) {
            (Side::Source, ErrorKind::Unauthorized | Denied) => FailureCode::SourceDenied,
            (Side::Destination, ErrorKind::Unauthorized | Denied) => FailureCode::DestinationDenied,
            (Side::Source, TlsRefused | EgressRefused | HostUnknown | Configuration) => FailureCode::SourceNotReady,
            (Side::Destination, TlsRefused | EgressRefused | HostUnknown | Configuration) => {
                FailureCode::DestinationNotReady
            }
            (Side::Source, InvalidContent) => FailureCode::InvalidContent,
            (Side::Source, TooLarge) => FailureCode::LimitExceeded,
            (Side::Destination, InvalidContent | TooLarge) => FailureCode::DestinationInvalid,
            (Side::Source, kind) if kind.is_transient() => FailureCode::SourceUnavailable,
            (Side::Destination, kind) if kind.is_transient() => FailureCode::DestinationUnavailable,
            (Side::Source, ErrorKind::NotFound) => FailureCode::ImageNotFound,
            (Side::Source, _) => FailureCode::SourceRejected,
            (Side::Destination, _) => FailureCode::DestinationRejected,
        };
        // A name that does not resolve now may do so in a moment, though its code is that of a wrong Registry.
        let is_transient = passes_by_itself(code) || error.kind == HostUnknown;
        Self { code, message: error.message.clone(), retry_after: error.retry_after, is_transient }
    }
}

impl From<CopyError> for CodedError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Destination(error) => Self::at(Side::Destination, &error),
            CopyError::LimitExceeded(message) => Self::new(FailureCode::LimitExceeded, message),
            CopyError::PlatformNotFound(message) => Self::new(FailureCode::PlatformNotFound, message),
            CopyError::Denied(denied) if denied.reason == REPOSITORY_NOT_FOUND => {
                Self::new(FailureCode::RepositoryNotFound, denied.message)
            }
            CopyError::Denied(denied) if denied.is_taken() => {
                Self::new(FailureCode::DestinationConflict, denied.message)
            }
            CopyError::Denied(denied) => Self::new(FailureCode::RegistryPermissionDenied, denied.message),
            CopyError::ReferrerNotFound(message) => Self::new(FailureCode::ImageNotFound, message),
            CopyError::Source(error) => Self::at(Side::Source, &error),
            CopyError::SourceChanged => {
                Self::new(FailureCode::ImageNotFound, "the image is not at the source any more".to_owned())
            }
            CopyError::SignatureInvalid(message) => Self::new(FailureCode::SignatureInvalid, message),
            CopyError::SignatureMissing(message) => Self::new(FailureCode::SignatureMissing, message),
            error @ CopyError::SparseIndexRefused(_) => Self::new(FailureCode::SparseIndexRefused, error.to_string()),
            CopyError::TagExists(message) => Self::new(FailureCode::TagExists, message),
            CopyError::TagImmutable(message) => Self::new(FailureCode::TagImmutable, message),
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
        assert_eq!(code(CopyError::Destination(error(ErrorKind::TlsRefused))), FailureCode::DestinationNotReady);
        let sparse = CodedError::from(CopyError::SparseIndexRefused(error(ErrorKind::ContentMissing)));
        assert_eq!(sparse.code, FailureCode::SparseIndexRefused);
        assert!(sparse.message.ends_with("set platformIndex: Rewrite"), "the remedy is named: {}", sparse.message);
        let denied = |reason: &str| CopyError::Denied(Denied { reason: reason.to_owned(), message: String::new() });
        assert_eq!(code(denied("RepositoryNotFound")), FailureCode::RepositoryNotFound);
        assert_eq!(code(CopyError::Denied(Denied::destination_taken())), FailureCode::DestinationConflict);
        assert_eq!(code(denied("StatementDenies")), FailureCode::RegistryPermissionDenied);
    }

    #[test]
    fn a_code_blames_the_side_that_failed_and_no_other() {
        use FailureCode::*;
        // kind; code at the source; code at the destination
        let table = [
            (ErrorKind::Unauthorized, SourceDenied, DestinationDenied),
            (ErrorKind::Denied, SourceDenied, DestinationDenied),
            (ErrorKind::NotFound, ImageNotFound, DestinationRejected),
            (ErrorKind::Unsupported, SourceRejected, DestinationRejected),
            (ErrorKind::RateLimited, SourceUnavailable, DestinationUnavailable),
            (ErrorKind::Unavailable, SourceUnavailable, DestinationUnavailable),
            (ErrorKind::HostUnknown, SourceNotReady, DestinationNotReady),
            (ErrorKind::TlsRefused, SourceNotReady, DestinationNotReady),
            (ErrorKind::EgressRefused, SourceNotReady, DestinationNotReady),
            (ErrorKind::Configuration, SourceNotReady, DestinationNotReady),
            (ErrorKind::InvalidContent, InvalidContent, DestinationInvalid),
            (ErrorKind::TooLarge, LimitExceeded, DestinationInvalid),
            (ErrorKind::Rejected, SourceRejected, DestinationRejected),
            (ErrorKind::ManifestInvalid, SourceRejected, DestinationRejected),
        ];
        for (kind, at_source, at_destination) in table {
            let error = || RegistryError::new(kind, "m");
            assert_eq!(CodedError::from(CopyError::Source(error())).code, at_source, "{kind:?}");
            let failed = CodedError::from(CopyError::Destination(error()));
            assert_eq!(failed.code, at_destination, "{kind:?}");
            let passes = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::HostUnknown);
            assert_eq!(failed.is_transient, passes, "{kind:?}");
        }
    }
}
