//! Carries out a plan: copies each image with consent, and remembers what was verified.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::files::Documents;
use super::ledgers::Ledgers;
use super::output::Printer;
use super::planning::{PlannedAction, PlannedImage, Route, name_of, policies_of, request};
use super::registries::Registries;
use crate::api::{CreateRepositories, FailureCode};
use crate::copy::{Authority, CONSENT_LASTS, Copied, Effect, Engine, Failed, ImageCopy, MountScope, Progress, Refusal};
use crate::plan::Configuration;
use crate::policy::evaluate;

/// How it ended with one image of a plan.
pub(super) struct Outcome {
    /// The image.
    pub(super) image: Arc<PlannedImage>,
    /// What was copied; `None` if nothing was to be done or it failed.
    pub(super) copied: Option<Copied>,
    /// Why it failed.
    pub(super) failed: Option<Failed>,
}

/// Copies every image that comes and is to be copied, `at_once` at a time, each to all of its destinations together so that its source
/// is read once; tells `printer` of each.
pub(super) async fn copy_all(
    (documents, registries, ledgers): (&Documents, &Registries, &Ledgers<'_>),
    engine: &Engine,
    images: mpsc::Receiver<Vec<Arc<PlannedImage>>>,
    at_once: usize,
    printer: &Printer,
) -> Vec<Outcome> {
    let run = Run { documents, registries, ledgers, engine, printer };
    let work = ReceiverStream::new(images)
        .map(|images| futures::future::join_all(images.into_iter().map(|image| run.copy(image))));
    work.buffer_unordered(at_once).concat().await
}

struct Run<'a> {
    documents: &'a Documents,
    registries: &'a Registries,
    ledgers: &'a Ledgers<'a>,
    engine: &'a Engine,
    printer: &'a Printer,
}

impl Run<'_> {
    async fn copy(&self, image: Arc<PlannedImage>) -> Outcome {
        let (copied, failed) = match image.action {
            PlannedAction::Nothing => (None, None),
            PlannedAction::Denied => {
                (None, Some(Failed::new(FailureCode::RegistryPermissionDenied, image.reason.clone())))
            }
            PlannedAction::Copy | PlannedAction::Overwrite => match self.carry_out(&image).await {
                Ok(copied) => (Some(copied), None),
                Err(failed) => (None, Some(failed)),
            },
        };
        if let Some(copied) = &copied {
            self.ledgers.remember(&image, copied.clone().replica());
        }
        let outcome = Outcome { image, copied, failed };
        self.printer.tell(&outcome);
        outcome
    }

    async fn carry_out(&self, image: &PlannedImage) -> Result<Copied, Failed> {
        let route = &image.route;
        let (source, destination) = (self.registries.of(&route.source), self.registries.of(&route.destination));
        let configuration = self.configuration(route);
        let authority = Consent { documents: self.documents, configuration, route, create: destination.create };
        let task = ImageCopy {
            source: &source.client,
            source_repository: &route.repository,
            destination: &destination.client,
            destination_repository: &route.repository,
            tag: &image.tag,
            digest: &image.digest,
            options: &route.options,
            was_there: self.ledgers.with(route, |record| record.images.contains_key(image.tag.as_str())),
            referrer_tags: Some(image.referrer_tags.clone()),
            scope: MountScope::new(&name_of(configuration)),
            across_owners: route.destination.namespace != configuration.namespace,
            authority: &authority,
            progress: &Progress::default(),
        };
        self.engine.copy(&task).await.map_err(Failed::from)
    }

    fn configuration(&self, route: &Route) -> &Configuration {
        &self.documents.configurations[route.configuration]
    }
}

/// Consent by the policies of the files.
struct Consent<'a> {
    documents: &'a Documents,
    configuration: &'a Configuration,
    route: &'a Route,
    create: CreateRepositories,
}

impl Authority for Consent<'_> {
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<Instant, Refusal>> {
        let Route { repository, destination, .. } = self.route;
        let permitted = if matches!(effect, Effect::CreateRepository { .. }) && self.create == CreateRepositories::Never
        {
            Err(Refusal::repository_not_found(repository, &destination.name))
        } else {
            let policies = policies_of(self.documents, destination);
            let decisions = effect.actions().iter();
            let mut decisions =
                decisions.map(|action| evaluate(&request(self.configuration, self.route, *action), policies));
            match decisions.find(|decision| !decision.allowed) {
                Some(denied) => Err(Refusal { reason: denied.reason.to_owned(), message: denied.message }),
                None => Ok(Instant::now() + CONSENT_LASTS),
            }
        };
        std::future::ready(permitted).boxed()
    }
}
