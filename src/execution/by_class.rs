//! Chooses how an image is copied: by a Job where its configuration names an execution class, else in this process.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::dispatcher::Dispatcher;
use super::in_process::InProcess;
use super::job;
use crate::replication::machine::{Assignment, Deletion, DeletionOutcome, Outcome};
use crate::replication::{Executor, ReportProgress};

/// Copies by Jobs where the configuration says so, and in this process elsewhere.
pub(crate) struct ByClass {
    /// Copies in this process.
    pub in_process: InProcess,
    /// Hands images to Jobs.
    pub dispatcher: Arc<Dispatcher>,
}

impl Executor for ByClass {
    fn copy<'a>(&'a self, assignment: Arc<Assignment>, report: &'a ReportProgress) -> BoxFuture<'a, Outcome> {
        match assignment.class {
            Some(_) => Box::pin(job::copy(&self.in_process, &self.dispatcher, assignment, report)),
            None => self.in_process.copy(assignment, report),
        }
    }

    /// Deletes in this process, wherever images are copied: a pod for each deletion would cost more than it saves.
    fn delete(&self, deletion: Arc<Deletion>) -> BoxFuture<'_, DeletionOutcome> {
        self.in_process.delete(deletion)
    }
}
