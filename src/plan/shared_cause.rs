//! The causes of failures that many images share.

use crate::terms::FailureCode;

/// A cause that images of a pair share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedCause {
    /// The code of their failures.
    pub code: FailureCode,
    /// The images that share it.
    pub sharing: Sharing,
}

/// The images for which one failure speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// All of the pair: a policy denies them, or a Registry cannot be used.
    All,
    /// All of the pair once several have failed in a row: a registry may refuse single ones.
    InARow,
    /// Those that have failed: a policy forbids to overwrite tags, or to create the repository.
    Failed,
}

impl SharedCause {
    /// Returns the cause of a failure; `None` if that concerns its image alone. `is_permitted` if the destination's
    /// owner permits the pair as such.
    pub fn of(code: FailureCode, is_permitted: bool) -> Option<Self> {
        use FailureCode::{
            DestinationConflict, DestinationDenied, DestinationNotReady, PolicyRevoked, RegistryPermissionDenied,
            SourceDenied, SourceNotReady,
        };
        let sharing = match code {
            PolicyRevoked | RegistryPermissionDenied if is_permitted => Sharing::Failed,
            PolicyRevoked | RegistryPermissionDenied | DestinationNotReady | SourceNotReady | DestinationConflict => {
                Sharing::All
            }
            DestinationDenied | SourceDenied => Sharing::InARow,
            _ => return None,
        };
        // Images that come after the one whose copy was stopped are denied before they begin.
        let code = if code == PolicyRevoked { RegistryPermissionDenied } else { code };
        Some(Self { code, sharing })
    }

    /// Returns true if an image that failed with `code` has the cause.
    pub fn covers(self, code: FailureCode) -> bool {
        let is_revoked = code == FailureCode::PolicyRevoked;
        code == self.code || is_revoked && self.code == FailureCode::RegistryPermissionDenied
    }

    /// Returns true if the check of a Registry meets the cause as well.
    pub fn is_checked(self) -> bool {
        self.is_of_source() || matches!(self.code, FailureCode::DestinationDenied | FailureCode::DestinationNotReady)
    }

    /// Returns true if the source is the cause.
    pub fn is_of_source(self) -> bool {
        matches!(self.code, FailureCode::SourceDenied | FailureCode::SourceNotReady)
    }
}
