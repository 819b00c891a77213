//! Carries out a plan: copies each image with consent, and remembers what was verified.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use super::files::Documents;
use super::output::Printer;
use super::planning::{Plan, PlannedAction, PlannedImage, Route, ends, name_of, policies_of, request};
use super::registries::Registries;
use super::state::{Record, State, Verified};
use crate::api::{CreateRepositories, FailureCode};
use crate::copy::{Authority, CONSENT_LASTS, Copied, Effect, Engine, Failed, ImageCopy, MountScope, Progress, Refusal};
use crate::plan::{Configuration, Replica};
use crate::policy::evaluate;

/// How it ended with one image of a plan.
pub(super) struct Outcome<'a> {
    /// The image.
    pub(super) image: &'a PlannedImage,
    /// What was copied; `None` if nothing was to be done or it failed.
    pub(super) copied: Option<Copied>,
    /// Why it failed.
    pub(super) failed: Option<Failed>,
}

/// Copies everything that is to be copied, `at_once` images at a time; tells `printer` of each.
pub(super) async fn copy_all<'a>(
    (documents, registries, state): (&Documents, &Registries, &State),
    engine: Engine,
    plan: &'a Plan,
    at_once: usize,
    printer: &Printer,
) -> Vec<Outcome<'a>> {
    let run = Run { documents, registries, state, engine, ledgers: Mutex::default() };
    for (route, _) in plan.routes() {
        let (source, destination) = ends(registries, route);
        let record = state.load(&name_of(run.configuration(route)), (&source, &destination), &route.options);
        run.lock().insert(route.clone(), Ledger { record, unsaved: 0 });
    }
    let work = futures::stream::iter(&plan.images).map(|image| run.copy(image));
    let mut work = std::pin::pin!(work.buffer_unordered(at_once));
    let mut outcomes = Vec::with_capacity(plan.images.len());
    while let Some(outcome) = work.next().await {
        printer.tell(&outcome);
        outcomes.push(outcome);
    }
    for (route, ledger) in run.lock().iter_mut() {
        // What was copied for the first time was asked for by its copy.
        let is_first = ledger.record.referrers_asked_at.is_none() && !ledger.record.images.is_empty();
        if plan.asked.contains(route) || is_first {
            ledger.record.referrers_asked_at = Some(Timestamp::now());
            ledger.unsaved += 1;
        }
        save(state, ledger);
    }
    outcomes
}

struct Run<'a> {
    documents: &'a Documents,
    registries: &'a Registries,
    state: &'a State,
    engine: Engine,
    ledgers: Mutex<HashMap<Route, Ledger>>,
}

struct Ledger {
    record: Record,
    unsaved: usize,
}

impl Run<'_> {
    async fn copy<'p>(&self, image: &'p PlannedImage) -> Outcome<'p> {
        let ended = match image.action {
            PlannedAction::Nothing => return Outcome { image, copied: None, failed: None },
            PlannedAction::Denied => Err(Failed::new(FailureCode::RegistryPermissionDenied, image.reason.clone())),
            PlannedAction::Copy | PlannedAction::Overwrite => self.carry_out(image).await,
        };
        match ended {
            Ok(copied) => {
                self.remember(image, copied.clone().replica());
                Outcome { image, copied: Some(copied), failed: None }
            }
            Err(failed) => Outcome { image, copied: None, failed: Some(failed) },
        }
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
            referrer_tags: Some(image.referrer_tags.clone()),
            scope: MountScope::new(&name_of(configuration)),
            across_owners: route.destination.namespace != configuration.namespace,
            authority: &authority,
            progress: &Progress::default(),
        };
        self.engine.copy(&task).await.map_err(Failed::from)
    }

    fn remember(&self, image: &PlannedImage, Replica { bytes, destination_digest }: Replica) {
        if let Some(ledger) = self.lock().get_mut(&image.route) {
            let verified = Verified {
                digest: image.digest.to_string(),
                destination_digest,
                bytes,
                completed_at: Timestamp::now(),
                referred: image.referred.clone(),
            };
            ledger.record.images.insert(image.tag.to_string(), verified);
            ledger.unsaved += 1;
            if ledger.unsaved >= SAVE_EVERY {
                save(self.state, ledger);
            }
        }
    }

    fn configuration(&self, route: &Route) -> &Configuration {
        &self.documents.configurations[route.configuration]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Route, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Saves what is new. What cannot be saved is looked at again the next time, so that is no failure of the images.
fn save(state: &State, ledger: &mut Ledger) {
    if ledger.unsaved > 0 {
        ledger.unsaved = 0;
        if let Err(error) = state.save(&ledger.record) {
            eprintln!("transship: {error}");
        }
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

const SAVE_EVERY: usize = 32;
