//! The closed set of causes for which an image is not replicated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cause of a failed replication: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FailureCode {
    /// Another configuration writes to the destination repository, and the registry would take the image of this one,
    /// too. The configuration is `Stalled` with `DestinationConflict`.
    DestinationConflict,
    /// The destination registry refuses the credentials, or they do not permit a push.
    DestinationDenied,
    /// The destination does not answer as a registry: with a web page, other digests or sizes than those written, or
    /// more than any registry sends.
    DestinationInvalid,
    /// The destination's Registry is absent or not ready, or its host cannot be used: the name does not resolve, the
    /// certificate is refused, or the operator's egress settings refuse the address.
    #[serde(alias = "RegistryNotReady")]
    DestinationNotReady,
    /// The destination registry refuses the image: a format that it does not support, a quota.
    DestinationRejected,
    /// The destination registry does not answer, or is overloaded.
    DestinationUnavailable,
    /// The source lists the tag and has no manifest for it; or the image disappeared, or its tag moved, while it was
    /// copied. The next comparison decides.
    ImageNotFound,
    /// Content at the source does not match its digest, its size or its format, however often it is read.
    InvalidContent,
    /// The image exceeds a bound of the operator: too many manifests, blobs or bytes of manifest.
    LimitExceeded,
    /// A RegistryPermissionPolicy changed or was deleted during the copy, which was aborted.
    PolicyRevoked,
    /// A multi-platform image has none of the rule's `platforms`. The message names the platforms that it has.
    PlatformNotFound,
    /// A RegistryPermissionPolicy denies the replication, or none allows it.
    RegistryPermissionDenied,
    /// The destination repository does not exist and `createRepositories` is `Never`.
    RepositoryNotFound,
    /// The source registry refuses the credentials, or they do not permit a pull.
    SourceDenied,
    /// The rule wants a signature, and no signature that the source has for the image is valid: it was made with another
    /// key, signs another image, or was changed. The message says which.
    SignatureInvalid,
    /// The rule wants a signature, and the source has none for the image. The image is `SKIPPED`, and looked at again
    /// every few minutes.
    SignatureMissing,
    /// The source's Registry is absent or not ready, or a host that serves its content cannot be used: the name does
    /// not resolve, the certificate is refused, or the operator's egress settings refuse the address.
    SourceNotReady,
    /// The source registry refuses to serve the image, or leads to a place that may not be followed.
    SourceRejected,
    /// The source registry does not answer, or is overloaded.
    SourceUnavailable,
    /// The destination registry refuses an index that names platforms it does not have: the rule needs `platformIndex:
    /// Rewrite`.
    SparseIndexRefused,
    /// The destination has the tag with content that this configuration did not write, and the rule says `onTagConflict:
    /// Keep`. The image is `SKIPPED`.
    TagExists,
    /// The destination registry does not let the tag be moved, and has it with another digest. The image is `SKIPPED`.
    TagImmutable,
    /// The content read back from the destination differs from the content written.
    VerificationFailed,
    /// The pods that copied the image ended early: out of memory, evicted, or their node was lost. The message names
    /// the last cause.
    WorkerFailed,
}

impl FailureCode {
    /// Returns true if the image is `SKIPPED`, not `FAILED`: it is not to be copied, as the owner of the destination or
    /// the rule wants.
    pub fn is_skip(self) -> bool {
        matches!(self, Self::SignatureMissing | Self::TagExists | Self::TagImmutable)
    }

    /// Returns true if another signature at the source may end the failure.
    pub fn is_of_signature(self) -> bool {
        matches!(self, Self::SignatureInvalid | Self::SignatureMissing)
    }

    /// Returns true if the image stays `FAILED` until a user changes something: an object of the cluster, the rights of
    /// a credential, or the image.
    pub fn needs_user(self) -> bool {
        matches!(
            self,
            Self::DestinationConflict
                | Self::DestinationDenied
                | Self::DestinationRejected
                | Self::InvalidContent
                | Self::LimitExceeded
                | Self::PlatformNotFound
                | Self::PolicyRevoked
                | Self::RegistryPermissionDenied
                | Self::RepositoryNotFound
                | Self::SignatureInvalid
                | Self::SourceDenied
                | Self::SourceRejected
                | Self::SparseIndexRefused
        )
    }
}
