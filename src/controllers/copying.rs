//! Copies one image for a configuration: asks for consent, resolves both registries, and tells the outcome.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Context;
use crate::api::{Action, CreateRepositories, FailureCode, Registry};
use crate::copy::{Authority, CopyError, Effect, Failed, ImageCopy, MountScope, Progress, Refusal};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{DestinationReference, Place};
use crate::policy::{Decision, Request};
use crate::registry::ErrorKind;

/// One image to copy.
pub struct Assignment {
    /// The namespace and name of the configuration.
    pub configuration: (String, String),
    /// Its uid.
    pub uid: String,
    /// The source.
    pub source: Arc<Registry>,
    /// The destination.
    pub destination: DestinationReference,
    /// The destination as it is claimed.
    pub place: Place,
    /// The repository, of the same name at both ends.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it points at at the source.
    pub digest: Digest,
}

/// How a copy ended.
pub struct Outcome {
    /// The decision about the destination, as far as it came to one.
    pub permission: Decision,
    /// The bytes of the image, or why it failed.
    pub result: Result<u64, Failed>,
}

/// Copies the image and reads it back. Without consent no request reaches the destination.
pub async fn copy(context: &Context, assignment: &Assignment) -> Outcome {
    let permission = context.policies.decide(&assignment.request(Action::ReplicateImage)).await;
    let result = if permission.allowed {
        carry_out(context, assignment).await
    } else {
        Err(Failed::new(FailureCode::RegistryPermissionDenied, permission.message.clone()))
    };
    Outcome { permission, result }
}

async fn carry_out(context: &Context, assignment: &Assignment) -> Result<u64, Failed> {
    let DestinationReference { namespace, name } = &assignment.destination;
    let not_ready = |message| Failed::new(FailureCode::RegistryNotReady, message);
    let registry = context
        .registry(namespace, name)
        .ok_or_else(|| not_ready(format!("there is no Registry {namespace}/{name}")))?;
    // What is wrong with a Registry of another namespace is its owner's to read, not ours.
    let own = *namespace == assignment.configuration.0;
    let destination = context.registries.client(&registry).await.map_err(|unusable| {
        not_ready(if own {
            format!("Registry {name}: {}", unusable.message)
        } else {
            format!("Registry {namespace}/{name} is not ready")
        })
    })?;
    let source = context.registries.client(&assignment.source).await.map_err(|unusable| not_ready(unusable.message))?;
    let authority = Consent { context, assignment, create: registry.spec.create_repositories };
    let progress = Progress::default();
    let task = ImageCopy {
        source: &source,
        source_repository: &assignment.repository,
        destination: &destination,
        destination_repository: &assignment.repository,
        tag: &assignment.tag,
        digest: &assignment.digest,
        scope: MountScope::new(&assignment.uid),
        across_owners: !own,
        authority: &authority,
        progress: &progress,
    };
    let copied = context.engine.copy(&task).await;
    context.metrics.bytes.inc_by(progress.bytes());
    copied.map(|copied| copied.size).map_err(|error| {
        if let CopyError::Source(cause) | CopyError::Destination(cause) = &error
            && matches!(
                cause.kind,
                ErrorKind::Unauthorized | ErrorKind::HostUnknown | ErrorKind::TlsRefused | ErrorKind::EgressRefused
            )
        {
            let at_source = matches!(error, CopyError::Source(_));
            context.check_registry(if at_source { &assignment.source } else { &registry });
        }
        Failed::from(error)
    })
}

impl Assignment {
    fn request(&self, action: Action) -> Request<'_> {
        Request {
            namespace: &self.configuration.0,
            configuration: &self.configuration.1,
            action,
            registry_namespace: &self.destination.namespace,
            registry: &self.destination.name,
            repository: self.repository.as_str(),
        }
    }
}

/// Asks for consent before every effect on the destination.
struct Consent<'a> {
    context: &'a Context,
    assignment: &'a Assignment,
    create: CreateRepositories,
}

impl Authority for Consent<'_> {
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<(), Refusal>> {
        async move {
            if matches!(effect, Effect::CreateRepository { .. }) && self.create == CreateRepositories::Never {
                let Assignment { repository, destination, .. } = self.assignment;
                return Err(Refusal::repository_not_found(repository, &destination.name));
            }
            if !self.context.claims(|claims| claims.holds(&self.assignment.uid, &self.assignment.place)) {
                let message = "an older configuration writes to the destination repository".to_owned();
                return Err(Refusal { reason: String::new(), message });
            }
            for action in effect.actions() {
                let decision = self.context.policies.decide(&self.assignment.request(*action)).await;
                if !decision.allowed {
                    return Err(Refusal { reason: decision.reason.to_owned(), message: decision.message });
                }
            }
            Ok(())
        }
        .boxed()
    }
}
