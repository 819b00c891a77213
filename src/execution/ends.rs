//! The Registries at both ends of a copy.

use crate::copy::Ends;
use crate::plan::{CodedError, NamespacedName};
use crate::replication::Access;
use crate::replication::machine::Assignment;
use crate::terms::{FailureCode, Side};

/// Returns the clients of both Registries. The cause in the Registry of another namespace is for its owner to read.
///
/// # Errors
/// [`FailureCode::SourceNotReady`] or [`FailureCode::DestinationNotReady`].
pub(super) async fn ends_of(access: &dyn Access, assignment: &Assignment) -> Result<Ends, CodedError> {
    let NamespacedName { namespace, name } = &assignment.destination;
    let destination = access.client(&assignment.destination).await.map_err(|unusable| {
        let message = if *namespace == assignment.configuration.0 {
            format!("Registry {name}: {}", unusable.message)
        } else {
            format!("Registry {namespace}/{name} is not ready")
        };
        CodedError::new(FailureCode::DestinationNotReady, message)
    })?;
    let source = access.client(&assignment.source).await;
    let source = source.map_err(|unusable| CodedError::new(FailureCode::SourceNotReady, unusable.message))?;
    Ok(Ends { source, destination })
}

/// Has the Registry of one side checked soon.
pub(super) fn suspect(access: &dyn Access, assignment: &Assignment, side: Side) {
    access.suspect(match side {
        Side::Source => &assignment.source,
        Side::Destination => &assignment.destination,
    });
}
