//! The line of the log for each image whose copy has ended.

use crate::plan::{CodedError, Replica};
use crate::replication::machine::Assignment;

/// Logs the end of a copy, with everything by which the image is found; `job` is the Job that carried it out.
pub(super) fn log(assignment: &Assignment, result: &Result<Replica, CodedError>, job: Option<&str>) {
    let Assignment { configuration: (namespace, configuration), repository, tag, digest, .. } = assignment;
    let (destination, target) = (&assignment.destination, &assignment.place.repository);
    let destination = format!("{}/{}", destination.namespace, destination.name);
    match result {
        Ok(Replica { bytes, .. }) => {
            tracing::info!(
                namespace, configuration, %repository, destination, %target, %tag, %digest, bytes, job,
                "an image is complete"
            );
        }
        Err(CodedError { code, message, .. }) => {
            let what = if code.is_skip() { "an image is skipped" } else { "an image failed" };
            tracing::info!(
                namespace, configuration, %repository, destination, %target, %tag, %digest, ?code, job,
                "{what}: {message}"
            );
        }
    }
}
