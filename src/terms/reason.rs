//! The reasons of conditions, the one place where they are spelled.

/// The registry answers and accepts the credentials.
pub const REACHABLE: &str = "Reachable";
/// The Secret is absent, or the operator may not read it: both cases have the same message.
pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
/// The type of the Secret holds no registry credentials, or their keys are missing.
pub const SECRET_INVALID: &str = "SecretInvalid";
/// The Secret is not bound to the host of the Registry.
pub const SECRET_NOT_BOUND_TO_HOST: &str = "SecretNotBoundToHost";
/// The CA certificates are absent or are not PEM certificates.
pub const CA_INVALID: &str = "CaInvalid";
/// The registry refuses the credentials.
pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
/// The host name does not resolve.
pub const HOST_UNKNOWN: &str = "HostUnknown";
/// The certificate of the registry is refused.
pub const TLS_REFUSED: &str = "TlsRefused";
/// The operator's egress settings refuse the address.
pub const EGRESS_REFUSED: &str = "EgressRefused";
/// The registry does not answer, or its answers are not those of a registry.
pub const UNREACHABLE: &str = "Unreachable";
/// A template of repositories has settings that the registry does not have.
pub const REPOSITORY_TEMPLATE_UNSUPPORTED: &str = "RepositoryTemplateUnsupported";
/// The spec cannot be carried out.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// The referenced Registry does not exist.
pub const REGISTRY_NOT_FOUND: &str = "RegistryNotFound";
/// The referenced Registry is not ready.
pub const REGISTRY_NOT_READY: &str = "RegistryNotReady";
/// The policy is in force.
pub const IN_FORCE: &str = "InForce";
/// The last complete comparison left nothing failed.
pub const REPLICATED: &str = "Replicated";
/// A comparison or copies are under way.
pub const PROGRESSING: &str = "Progressing";
/// Images wait until a window of `spec.allowedWindows` opens.
pub const WINDOW_CLOSED: &str = "WindowClosed";
/// An image waits for longer than `spec.lagObjective`.
pub const IMAGE_WAITS_TOO_LONG: &str = "ImageWaitsTooLong";
/// A sweep of known tags takes longer than `spec.lagObjective`.
pub const SWEEP_TAKES_LONGER: &str = "SweepTakesLonger";
/// Some images could not be replicated.
pub const IMAGES_FAILED: &str = "ImagesFailed";
/// At least half of the first images at a destination failed.
pub const TOO_MANY_FAILED: &str = "TooManyFailed";
/// The destination keeps the tags of some images with other content.
pub const IMAGES_SKIPPED: &str = "ImagesSkipped";
/// More deletions are due than `deleteReplication` allows within 24 hours.
pub const DELETION_LIMIT: &str = "DeletionLimit";
/// No statement allows `DeleteImage`, or one denies it.
pub const DELETION_NOT_PERMITTED: &str = "DeletionNotPermitted";
/// A destination did not delete an image.
pub const DELETION_FAILED: &str = "DeletionFailed";
/// The source could not be read.
pub const SOURCE_UNREADABLE: &str = "SourceUnreadable";
/// The source lists names that no repository, or no tag, can have.
pub const INVALID_NAMES: &str = "InvalidNames";
/// There are more pairs than the administrator lets have a ReplicationStatus.
pub const TOO_MANY_PAIRS: &str = "TooManyPairs";
/// The statuses of the namespace are larger than the administrator lets be written.
pub const STATUSES_TOO_LARGE: &str = "StatusesTooLarge";
/// The source lacks a repository that an EXACT_MATCH filter names.
pub const REPOSITORY_NOT_FOUND: &str = "RepositoryNotFound";
/// The source cannot list its repositories.
pub const REPOSITORY_LISTING_UNSUPPORTED: &str = "RepositoryListingUnsupported";
/// An older configuration writes to the same destination repository.
pub const DESTINATION_CONFLICT: &str = "DestinationConflict";
/// A template gives a repository no valid name at the destination.
pub const DESTINATION_NAME_INVALID: &str = "DestinationNameInvalid";
/// Two repositories of the source would get one name at the destination.
pub const DESTINATION_NAME_COLLISION: &str = "DestinationNameCollision";
/// A rule would copy a repository onto itself, or in a circle.
pub const SELF_REPLICATION: &str = "SelfReplication";
/// The execution class does not exist, or this namespace may not use it: both cases have the same message.
pub const EXECUTION_CLASS_NOT_ALLOWED: &str = "ExecutionClassNotAllowed";
/// The operator is not set up to start Jobs.
pub const JOBS_UNAVAILABLE: &str = "JobsUnavailable";
/// The pod of a copy Job does not run, or does not reach the operator: images wait.
pub const WORKER_PENDING: &str = "WorkerPending";
/// `spec.suspend` is true.
pub const SUSPENDED: &str = "Suspended";
/// The destination belongs to the same namespace and no statement denies the action.
pub const SAME_NAMESPACE: &str = "SameNamespace";
/// A statement allows the action.
pub const STATEMENT_ALLOWS: &str = "StatementAllows";
/// A statement denies the action.
pub const STATEMENT_DENIES: &str = "StatementDenies";
/// No statement allows the action.
pub const NO_STATEMENT_ALLOWS: &str = "NoStatementAllows";
/// The policies could not be read: nothing is allowed.
pub const POLICY_UNREADABLE: &str = "PolicyUnreadable";
