//! The consent to one copy: the Registry, the claim and the policies at this moment.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::clock::Clock;
use super::machine::Assignment;
use super::ports::Access;
use super::shared_claims::SharedClaims;
use crate::copy::{Authority, CONSENT_LASTS, Denied, Mutation};
use crate::plan::ImageRequest;
use crate::policy::PermissionRequest;
use crate::terms::{Action, CreateRepositories};

/// Asks for consent before every effect on the destination.
#[derive(Clone)]
pub(crate) struct Consent {
    access: Arc<dyn Access>,
    claims: SharedClaims,
    clock: Clock,
    stops: u64,
    /// The copy that it is about.
    pub assignment: Arc<Assignment>,
}

impl Consent {
    /// Returns the consent to `assignment`, which was decided just now.
    pub(crate) fn new(
        access: Arc<dyn Access>,
        claims: SharedClaims,
        clock: Clock,
        assignment: Arc<Assignment>,
    ) -> Self {
        let stops = clock.stops();
        Self { access, claims, clock, stops, assignment }
    }

    async fn decide(&self, effect: Mutation<'_>) -> Result<Instant, Denied> {
        if self.clock.stops() != self.stops {
            // What was decided before the process was stopped is void. The state machine stops this copy.
            std::future::pending::<()>().await;
        }
        let asked = Instant::now();
        let Assignment { place, destination, .. } = self.assignment.as_ref();
        let registry = self.access.registry(destination).filter(|(uid, _)| *uid == self.assignment.destination_uid);
        let Some((_, create)) = registry else {
            return Err(refusal(format!("Registry {} does not exist any more", destination.name)));
        };
        if matches!(effect, Mutation::CreateRepository { .. }) && create == CreateRepositories::Never {
            return Err(Denied::repository_not_found(&place.repository, &destination.name));
        }
        for action in effect.actions() {
            let decision = self.access.decide(self.assignment.policy_request(*action)).await;
            if !decision.allowed {
                return Err(Denied { reason: decision.reason.to_owned(), message: decision.message });
            }
        }
        // All that comes before a tag is for the registry to refuse: it reads the same, whether another one writes there.
        let needs_claim = matches!(effect, Mutation::WriteTag { .. } | Mutation::DeleteTag { .. });
        let holds = || self.claims.lock().holds(&self.assignment.uid, &self.assignment.place);
        if needs_claim && !holds() {
            return Err(Denied::destination_taken());
        }
        Ok(asked + CONSENT_LASTS)
    }
}

impl Authority for Consent {
    fn permit<'a>(&'a self, effect: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        self.decide(effect).boxed()
    }
}

fn refusal(message: String) -> Denied {
    Denied { reason: String::new(), message }
}

impl Assignment {
    /// Returns the question to the policies.
    pub(crate) fn policy_request(&self, action: Action) -> PermissionRequest<'_> {
        PermissionRequest {
            namespace: &self.configuration.0,
            configuration: &self.configuration.1,
            action,
            registry_namespace: &self.destination.namespace,
            registry: &self.destination.name,
            repository: self.place.repository.as_str(),
        }
    }

    /// Returns the part that any process can carry out.
    pub(crate) fn image_request(&self) -> ImageRequest {
        ImageRequest {
            repository: self.repository.clone(),
            target: self.place.repository.clone(),
            tag: self.tag.clone(),
            digest: self.digest.clone(),
            options: self.options.clone(),
            was_there: self.was_there,
            written: self.written.clone(),
            referrer_tags: self.referrer_tags.clone(),
            scope: self.uid.clone(),
            across_owners: self.destination.namespace != self.configuration.0,
        }
    }
}
