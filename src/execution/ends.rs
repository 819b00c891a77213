//! The clients of both ends of a copy.

use crate::copy::Failed;
use crate::plan::DestinationReference;
use crate::registry::Client;
use crate::replication::Access;
use crate::replication::machine::Assignment;
use crate::terms::FailureCode;

/// The clients of both ends of a copy.
pub(super) struct Ends {
    pub(super) source: Client,
    pub(super) destination: Client,
}

impl Ends {
    /// Returns the clients of both Registries. The cause in the Registry of another namespace is for its owner to read.
    ///
    /// # Errors
    /// [`FailureCode::RegistryNotReady`].
    pub(super) async fn of(access: &dyn Access, assignment: &Assignment) -> Result<Self, Failed> {
        let not_ready = |message| Failed::new(FailureCode::RegistryNotReady, message);
        let DestinationReference { namespace, name } = &assignment.destination;
        let destination = access.client(&assignment.destination).await.map_err(|unusable| {
            not_ready(if *namespace == assignment.configuration.0 {
                format!("Registry {name}: {}", unusable.message)
            } else {
                format!("Registry {namespace}/{name} is not ready")
            })
        })?;
        let source = access.client(&assignment.source).await.map_err(|unusable| not_ready(unusable.message))?;
        Ok(Self { source, destination })
    }
}
