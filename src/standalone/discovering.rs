//! Discovers the images of one repository, says what is to be done about each, and hands them over one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;

use super::files::Documents;
use super::ledgers::Ledgers;
use super::left_out::LeftOut;
use super::observing::{Image, Looks, Observed};
use super::planning::{
    PlannedAction, PlannedImage, Queue, Route, ends, name_of, policies_of, request, short_name, source_of,
};
use super::registries::Registries;
use super::state::{Record, Referred};
use crate::api::{Action, Referrers};
use crate::copy::Engine;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Configuration, REFERRERS_EVERY};
use crate::policy::{Decision, evaluate};

/// Who copies what is planned, while the rest is still planned.
pub(super) struct Taker<'a> {
    /// Is told of manifests that were read already.
    pub(super) engine: &'a Engine,
    /// Takes the images, each together with all destinations that it goes to.
    pub(super) images: Queue,
}

/// Discovers for one configuration.
pub(super) struct Discovery<'a> {
    pub(super) documents: &'a Documents,
    pub(super) registries: &'a Registries,
    pub(super) ledgers: &'a Ledgers<'a>,
    pub(super) configuration: &'a Configuration,
    pub(super) taker: Option<&'a Taker<'a>>,
}

/// What was discovered in one repository.
#[derive(Default)]
pub(super) struct Discovered {
    /// Its images, each to every destination before the next.
    pub(super) images: Vec<Arc<PlannedImage>>,
    /// The routes of which the source was asked for all that refers to their images.
    pub(super) asked: Vec<Arc<Route>>,
    /// What no rule takes.
    pub(super) left_out: Option<LeftOut>,
    /// Why there may be more.
    pub(super) trouble: Option<String>,
}

impl Discovery<'_> {
    /// Reads a repository of the source.
    pub(super) async fn read(&self, repository: RepositoryName, routes: Vec<Arc<Route>>) -> Discovered {
        let name = name_of(self.configuration);
        for route in &routes {
            let (from, to) = ends(self.registries, route);
            self.ledgers.open(route, &name, (&from, &to));
        }
        let decided: Vec<(Arc<Route>, Decision)> = routes.into_iter().map(|route| self.decide(route)).collect();
        let mut discovered = Discovered::default();
        let read = self.read_images(&repository, &decided, &mut discovered);
        let (read, ()) = futures::join!(read, self.look_ahead(&decided));
        match read {
            Ok(true) => discovered.asked = decided.into_iter().map(|(route, _)| route).collect(),
            Ok(false) => {}
            Err(message) => discovered.trouble = Some(message),
        }
        discovered
    }

    /// Whether everything that refers to the images was asked for.
    async fn read_images(
        &self,
        repository: &RepositoryName,
        routes: &[(Arc<Route>, Decision)],
        discovered: &mut Discovered,
    ) -> Result<bool, String> {
        let now = Timestamp::now();
        let is_due = |record: &Record| {
            !record.images.is_empty() && record.referrers_asked_at.is_none_or(|asked| asked + REFERRERS_EVERY <= now)
        };
        let selection = &self.configuration.selection;
        let takes = |route: &Route, tag: &Tag| selection.takes(&route.repository, &route.destination, tag);
        let is_new = |tag: &Tag| {
            let lacks = |record: &Record| !record.images.contains_key(tag.as_str());
            routes.iter().any(|(route, _)| takes(route, tag) && self.ledgers.with(route, lacks))
        };
        let tags = selection.tags_of(repository);
        let looks = Looks {
            tags: &tags,
            referrers: routes.iter().any(|(route, _)| route.options.referrers == Referrers::Replicate),
            api: routes.iter().any(|(route, _)| self.ledgers.with(route, is_due)),
            engine: self.taker.map(|taker| taker.engine),
            settled: self.settled(repository, routes),
            is_first: routes.iter().any(|(route, _)| self.ledgers.with(route, |record| record.images.is_empty())),
            is_new: &is_new,
        };
        let source = self.registries.of(&source_of(self.configuration));
        let observed = Observed::list(source, repository, looks).await?;
        self.note_left_out(repository, &observed, discovered);
        let places = self.taker.map(|taker| &taker.images);
        let mut images = std::pin::pin!(observed.images(places));
        // Nothing is waited for in here: those that look hold connections, which the copies need too.
        while let Some(image) = images.next().await {
            let Some((image, place)) = image? else { continue };
            let wanted = routes.iter().filter(|(route, _)| takes(route, &image.tag));
            let planned = wanted.map(|(route, decision)| Arc::new(self.planned(&observed, &image, route, decision)));
            let planned: Vec<Arc<PlannedImage>> = planned.collect();
            if let Some(place) = place {
                place.send(planned.clone());
            }
            discovered.images.extend(planned);
        }
        Ok(observed.asks())
    }

    fn decide(&self, route: Arc<Route>) -> (Arc<Route>, Decision) {
        let asked = request(self.configuration, &route, Action::ReplicateImage);
        let decision = evaluate(&asked, policies_of(self.documents, &route.destination));
        (route, decision)
    }

    fn planned(&self, observed: &Observed<'_>, image: &Image, route: &Arc<Route>, decision: &Decision) -> PlannedImage {
        let Image { tag, digest, referred } = image;
        let with_referrers = route.options.referrers == Referrers::Replicate;
        let referred = if with_referrers { referred.clone() } else { Referred::default() };
        let is_asked = observed.asks() && with_referrers;
        let (action, reason) = if !decision.allowed {
            (PlannedAction::Denied, decision.message.clone())
        } else if self.ledgers.with(route, |record| record.has(tag, digest, &referred, is_asked)) {
            (PlannedAction::Nothing, "it was verified at the destination by an earlier sync".to_owned())
        } else {
            (PlannedAction::Copy, decision.message.clone())
        };
        let to = short_name(&route.destination, &self.configuration.namespace);
        PlannedImage {
            source: format!("{}/{}", route.source.name, route.repository),
            destination: format!("{to}/{}", route.repository),
            route: route.clone(),
            tag: tag.clone(),
            digest: digest.clone(),
            referred,
            referrer_tags: observed.referrer_tags.clone(),
            action,
            reason,
        }
    }

    fn note_left_out(&self, repository: &RepositoryName, observed: &Observed<'_>, discovered: &mut Discovered) {
        let (tags, because) = observed.left_out.clone();
        if tags > 0 {
            let configuration = name_of(self.configuration);
            let repository = format!("{}/{repository}", self.configuration.source);
            discovered.left_out = Some(LeftOut { configuration, repository, tags, because });
        }
    }

    /// Looks at destinations that nothing is remembered of while the source is listed: their images need that look first.
    async fn look_ahead(&self, routes: &[(Arc<Route>, Decision)]) {
        let Some(Taker { engine, .. }) = self.taker else { return };
        let looks = routes.iter().filter(|(_, decision)| decision.allowed).map(async |(route, _)| {
            if self.ledgers.with(route, |record| record.images.is_empty()) {
                let destination = &self.registries.of(&route.destination).client;
                engine.look_ahead(destination, &route.repository).await;
            }
        });
        futures::future::join_all(looks).await;
    }

    /// The tags of a repository that are promised never to move, and were verified at every destination by earlier syncs, with their
    /// digests: the source need not be asked about them.
    fn settled(&self, repository: &RepositoryName, routes: &[(Arc<Route>, Decision)]) -> BTreeMap<Tag, Digest> {
        let selection = &self.configuration.selection;
        let Some((first, _)) = routes.first().filter(|_| selection.has_promises()) else {
            return BTreeMap::new();
        };
        let promised = self.ledgers.with(first, |record| {
            let tags = record.images.keys().filter_map(|tag| tag.parse::<Tag>().ok());
            let promised = tags.filter(|tag| selection.is_immutable(repository, tag));
            let verified = promised.filter_map(|tag| Some((record.digest_of(&tag)?, tag)));
            verified.map(|(digest, tag)| (tag, digest)).collect::<BTreeMap<_, _>>()
        });
        let is_everywhere = |(tag, digest): &(Tag, Digest)| {
            let is_there = |record: &Record| record.digest_of(tag).is_some_and(|there| there == *digest);
            let is_wanted = |route: &Route| selection.takes(&route.repository, &route.destination, tag);
            routes.iter().all(|(route, _)| self.ledgers.with(route, is_there) || !is_wanted(route))
        };
        promised.into_iter().filter(is_everywhere).collect()
    }
}
