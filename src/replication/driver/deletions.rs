//! Carries out the deletions of images.

use std::sync::Arc;

use super::Driver;
use crate::plan::Removal;
use crate::replication::machine::{Assignment, CopyId, Deletion, DeletionOutcome, Event};

impl Driver {
    pub(super) fn delete_tag(&mut self, copy: CopyId, deletion: Arc<Deletion>) {
        let executor = self.core.executor.clone();
        self.deletions.retain(|_, handle| !handle.is_finished());
        let delete = async move {
            let outcome = executor.delete(deletion.clone()).await;
            log(&deletion.assignment, &outcome);
            Event::TagDeleted(copy, Some(outcome), rand::random())
        };
        let handle = self.spawn(delete, Event::TagDeleted(copy, None, 0.5));
        self.deletions.insert(copy, handle);
    }
}

fn log(assignment: &Assignment, outcome: &DeletionOutcome) {
    let Assignment { repository, place, tag, destination, written, .. } = assignment;
    let (target, destination) = (&place.repository, &destination.name);
    let digest = written.as_ref().map(ToString::to_string).unwrap_or_default();
    match &outcome.result {
        Ok(Removal::Done) => tracing::info!(%repository, %tag, destination, %target, digest, "an image is deleted"),
        Ok(kept) => tracing::info!(%repository, %tag, destination, %target, digest, ?kept, "nothing is to be deleted"),
        Err(failed) => {
            let (code, message) = (failed.code, &failed.message);
            tracing::info!(%repository, %tag, destination, %target, ?code, "a deletion failed: {message}");
        }
    }
}
