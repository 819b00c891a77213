//! Consent to one copy: claims, Registry and policies at this moment; and the grants that a copy in this process takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Context;
use super::copying::Assignment;
use crate::api::{Action, CreateRepositories};
use crate::channel::{Ask, Holder, Subject};
use crate::copy::{Authority, CONSENT_LASTS, Effect, Refusal};
use crate::policy::Request;

/// Asks for consent before every effect on the destination.
pub struct Consent {
    pub(super) context: Arc<Context>,
    pub(super) assignment: Arc<Assignment>,
    pub(super) create: CreateRepositories,
}

impl Consent {
    /// What a grant for `effect` is about; `None` if it needs none.
    pub fn subject(&self, effect: Effect<'_>) -> Option<Subject> {
        let subject = |tag| Subject {
            host: self.assignment.place.host.clone(),
            repository: self.assignment.repository.clone(),
            tag,
        };
        match effect {
            Effect::Upload { .. } => None,
            Effect::CreateRepository { .. } => Some(subject(None)),
            Effect::WriteTag { tag, .. } => Some(subject(Some(tag.clone()))),
        }
    }
}

impl Authority for Consent {
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<Instant, Refusal>> {
        async move {
            let asked = Instant::now();
            if matches!(effect, Effect::CreateRepository { .. }) && self.create == CreateRepositories::Never {
                let Assignment { repository, destination, .. } = self.assignment.as_ref();
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
            Ok(asked + CONSENT_LASTS)
        }
        .boxed()
    }
}

impl Assignment {
    /// What the policies are asked.
    pub(super) fn request(&self, action: Action) -> Request<'_> {
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

/// Consent and grants of a copy in this process.
pub struct Granted {
    pub(super) consent: Consent,
    pub(super) holder: Holder,
}

impl Authority for Granted {
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<Instant, Refusal>> {
        async move {
            loop {
                let until = self.consent.permit(effect).await?;
                let Some(subject) = self.consent.subject(effect) else { return Ok(until) };
                match self.consent.context.office.ask(&subject, &self.holder) {
                    Ask::Granted(granted) => return Ok(until.min(granted)),
                    Ask::Busy(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        }
        .boxed()
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(250);
