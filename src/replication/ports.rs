//! The ports of the core: Kubernetes and files implement them.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::machine::{Assignment, CopyProgress, Deletion, DeletionOutcome, Outcome, Record};
use crate::plan::{ConfigurationReport, NamespacedName, PairIdentity};
use crate::policy::{Decision, PermissionRequest};
use crate::registry::Client;
use crate::terms::{CreateRepositories, ImageStatus, ReplicationStatusStatus};

/// Registries and policies.
pub(crate) trait Access: Send + Sync {
    /// Returns the client of a Registry, with its present credentials.
    ///
    /// # Errors
    /// [`Unusable`] if the Registry does not exist, or its spec or credentials cannot be used.
    fn client<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Result<Client, Unusable>>;

    /// Returns the uid of a Registry and whether repositories may be created there; `None` if it does not exist.
    fn registry(&self, registry: &NamespacedName) -> Option<(String, CreateRepositories)>;

    /// Returns the looks a second at known tags that a Registry sets; 0 for any number.
    fn sweep_rate(&self, registry: &NamespacedName) -> u32;

    /// Has a Registry checked soon: its credentials, name or certificate failed in use.
    fn suspect(&self, registry: &NamespacedName);

    /// Records that a Registry gave a list or an image, or took one: its check may be refused although it works.
    fn served(&self, registry: &NamespacedName);

    /// Returns the token that the sender of notifications for a Registry has to show; `None` if it takes none.
    fn notification_token<'a>(&'a self, registry: &'a NamespacedName) -> BoxFuture<'a, Option<Vec<u8>>>;

    /// Decides by the present policies of the destination's owner. Doubt denies.
    fn decide<'a>(&'a self, request: PermissionRequest<'a>) -> BoxFuture<'a, Decision>;
}

/// The reason why a Registry cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unusable {
    /// One of [`crate::terms::reason`].
    pub reason: &'static str,
    /// A sentence that names the remedy.
    pub message: String,
}

/// Statuses and records.
pub(crate) trait Store: Send + Sync {
    /// Publishes the status of a pair.
    ///
    /// # Errors
    /// A sentence; it is tried again later, so nothing is lost.
    fn publish<'a>(
        &'a self,
        pair: &'a PairIdentity,
        status: &'a ReplicationStatusStatus,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Deletes the status of a pair, and its record.
    ///
    /// # Errors
    /// A sentence.
    fn delete<'a>(&'a self, pair: &'a PairIdentity) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds to the record of a pair; called before anything that depends on it is published. Must not block for long.
    fn record(&self, pair: &PairIdentity, record: &Record);

    /// Called before each publication of `status`, with a way to all verified `images` of the pair, for a store that keeps
    /// a record of those pairs alone whose status does not show them all. Must not block for long.
    fn begin_record(
        &self,
        _pair: &PairIdentity,
        _status: &ReplicationStatusStatus,
        _images: &dyn Fn() -> Vec<ImageStatus>,
    ) {
    }

    /// Takes the state of the configuration `namespace`/`name` with this uid, to be published soon. Must not block.
    fn report(&self, namespace: &str, name: &str, uid: &str, report: Arc<ConfigurationReport>);
}

/// The error of a write to the store.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreError(pub String);

/// A callback for the progress of a copy.
pub(crate) type ReportProgress = dyn Fn(CopyProgress) + Send + Sync;

/// Carries out copies and deletions.
pub(crate) trait Executor: Send + Sync {
    /// Copies an image with the consent of the destination's owner, and reads it back. `report` is called when the
    /// copy begins, now and then while it reads, and when it waits again. Dropping the future stops the copy.
    fn copy<'a>(&'a self, assignment: Arc<Assignment>, report: &'a ReportProgress) -> BoxFuture<'a, Outcome>;

    /// Deletes an image at a destination, with the consent of its owner. Dropping the future stops that.
    fn delete(&self, deletion: Arc<Deletion>) -> BoxFuture<'_, DeletionOutcome>;
}
