//! Statuses in the shape of ECR's `describe-image-replication-status`.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde::Serialize;

use crate::api::ReplicationStatus;
use crate::terms::{FailureCode, ImageStatus, ReplicationState};

/// The answer of ECR about one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageReplication {
    /// The repository at the source.
    repository_name: String,
    image_id: ImageId,
    /// One for each destination.
    replication_statuses: Vec<DestinationState>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageId {
    /// Absent if the source has never given it.
    #[serde(skip_serializing_if = "String::is_empty")]
    image_digest: String,
    image_tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DestinationState {
    /// The name of the destination's Registry.
    region: String,
    /// Its namespace.
    registry_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_code: Option<FailureCode>,
}

/// Returns an answer for each image of a source repository, by namespace, source, repository, tag and digest.
pub(super) fn image_replications(objects: &[ReplicationStatus]) -> Vec<ImageReplication> {
    let mut answers: BTreeMap<(String, String, String, ImageId), Vec<DestinationState>> = BTreeMap::new();
    for object in objects {
        let (namespace, spec) = (object.namespace().unwrap_or_default(), &object.spec.0);
        let (source, destination) = (&spec.source, &spec.destination.registry_ref);
        for image in object.status.iter().flat_map(|status| &status.images) {
            let id = ImageId { image_digest: image.digest.clone(), image_tag: image.tag.clone() };
            let key = (namespace.clone(), source.registry_ref.name.clone(), source.repository.clone(), id);
            answers.entry(key).or_default().push(DestinationState {
                region: destination.name.clone(),
                registry_id: destination.namespace.clone().unwrap_or_else(|| namespace.clone()),
                status: word(image),
                failure_code: image.failure_code,
            });
        }
    }
    let answer = |((_, _, repository_name, image_id), replication_statuses)| ImageReplication {
        repository_name,
        image_id,
        replication_statuses,
    };
    answers.into_iter().map(answer).collect()
}

/// Returns the state in the three words of ECR.
fn word(image: &ImageStatus) -> &'static str {
    match image.status {
        ReplicationState::Complete => "COMPLETE",
        ReplicationState::Failed | ReplicationState::Skipped => "FAILED",
        ReplicationState::InProgress | ReplicationState::Pending => "IN_PROGRESS",
    }
}
