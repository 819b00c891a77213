//! The Registries at both ends of a copy.

use crate::copy::{CodedError, Ends};
use crate::plan::NamespacedName;
use crate::replication::Access;
use crate::replication::machine::Assignment;
use crate::terms::{FailureCode, Side};

/// Returns the clients of both Registries. The cause in the Registry of another namespace is for its owner to read.
///
/// # Errors
/// [`FailureCode::RegistryNotReady`].
pub(super) async fn ends_of(access: &dyn Access, assignment: &Assignment) -> Result<Ends, CodedError> {
    let not_ready = |message| CodedError::new(FailureCode::RegistryNotReady, message);
    let NamespacedName { namespace, name } = &assignment.destination;
    let destination = access.client(&assignment.destination).await.map_err(|unusable| {
        not_ready(if *namespace == assignment.configuration.0 {
            format!("Registry {name}: {}", unusable.message)
        } else {
            format!("Registry {namespace}/{name} is not ready")
        })
    })?;
    let source = access.client(&assignment.source).await.map_err(|unusable| not_ready(unusable.message))?;
    Ok(Ends { source, destination })
}

/// Has the Registry of one side checked soon.
pub(super) fn suspect(access: &dyn Access, assignment: &Assignment, side: Side) {
    access.suspect(match side {
        Side::Source => &assignment.source,
        Side::Destination => &assignment.destination,
    });
}
