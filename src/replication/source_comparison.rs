//! Compares a whole source: lists its repositories and their tags, and has each tag observed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::Semaphore;

use super::chosen_tags::{ChosenTags, choose};
use super::excluded::Examples;
use super::machine::{Coverage, Finding, Listed};
use super::observed_repository::{Extent, ObservedRepository, least};
use super::observer::{FindingSender, Findings, Observer};
use super::slow::announced;
use super::unused_filters::UnusedFilters;
use crate::image::{InvalidNames, RepositoryName, Tag, is_referrer_tag};
use crate::locked::Locked;
use crate::long_work::long_work_if;
use crate::plan::{ComparedTag, Configuration, MANY_NAMES, Problem, Selection, TagChoice};
use crate::registry::{Client, ErrorKind, Listing};
use crate::terms::{ReferrersMode, reason};

/// Compares the source of `observer` and sends what it finds; ends with [`Finding::Done`].
pub(super) async fn compare(observer: Observer, configuration: Arc<Configuration>, findings: Findings) {
    let sender = FindingSender { observer: &observer, places: Arc::new(Semaphore::new(PLACES)), findings };
    let comparison = ComparisonRun { sender, filters: UnusedFilters::default() };
    let extent = match comparison.run(&configuration).await {
        Ok(extent) => extent,
        Err(problem) => {
            comparison.sender.send(Finding::Problem(problem));
            Extent::Incomplete
        }
    };
    if extent != Extent::Incomplete {
        comparison.sender.send(Finding::UnusedFilters(comparison.filters.sentences()));
    }
    let coverage = if extent == Extent::Incomplete { Coverage::Partial } else { Coverage::Whole };
    comparison.sender.send(Finding::Done(coverage));
}

struct ComparisonRun<'a> {
    sender: FindingSender<'a>,
    filters: UnusedFilters,
}

impl ComparisonRun<'_> {
    async fn run(&self, configuration: &Configuration) -> Result<Extent, Problem> {
        let client =
            self.sender.observer.access.client(&self.sender.observer.source).await.map_err(|unusable| Problem {
                // Where the API server did not answer for a Secret, nothing has to be changed.
                stalled: unusable.reason != reason::UNREACHABLE,
                reason: reason::REGISTRY_NOT_READY,
                message: format!("source Registry {}: {}", self.sender.observer.source.name, unusable.message),
            })?;
        let sent_at = self.sender.observer.clock.now();
        let exact: BTreeSet<RepositoryName> =
            configuration.selection.exact_repositories().into_iter().cloned().collect();
        let (listed, invalid) = self.list(&client, configuration).await?;
        let choose = || self.choose_repositories(&configuration.selection, &exact, &listed);
        let (names, unmatched) = long_work_if(exact.len() + listed.len() > MANY_NAMES, choose);
        self.sender.send(Finding::Repositories { names: names.clone(), unmatched, invalid, sent_at });
        let observed = futures::stream::iter(names).map(|repository| {
            let is_named = exact.contains(&repository);
            let client = &client;
            async move { self.repository(client, configuration, repository, is_named).await }
        });
        Ok(least(observed.buffer_unordered(REPOSITORIES_AT_ONCE)).await)
    }

    /// Divides the repositories by whether a rule takes them, and remarks on filters and templates.
    fn choose_repositories(
        &self,
        selection: &Selection,
        exact: &BTreeSet<RepositoryName>,
        listed: &BTreeSet<RepositoryName>,
    ) -> (BTreeSet<RepositoryName>, BTreeSet<RepositoryName>) {
        if selection.needs_listing() {
            self.filters.see_repositories(selection.remarks_on_filters(listed));
        }
        for error in exact.iter().chain(listed).flat_map(|name| selection.template_errors(name)) {
            let message = format!("{error}: exclude it with excludeRepositoryFilters, or change the template");
            let problem = Problem { stalled: true, reason: reason::DESTINATION_NAME_INVALID, message };
            self.sender.send(Finding::Problem(problem));
        }
        exact.iter().chain(listed).cloned().partition(|repository| !selection.routes(repository).is_empty())
    }

    /// Lists the repositories if a filter needs that, with the names that are not valid.
    async fn list(
        &self,
        client: &Client,
        configuration: &Configuration,
    ) -> Result<(BTreeSet<RepositoryName>, InvalidNames), Problem> {
        if !configuration.selection.needs_listing() {
            return Ok(Default::default());
        }
        let listed = announced(format!("the repositories of {}", client.host()), client.repositories()).await;
        let listed = listed.map_err(|error| {
            self.sender.observer.suspect(&error);
            match error.kind {
                ErrorKind::Unsupported => Problem {
                    stalled: true,
                    reason: reason::REPOSITORY_LISTING_UNSUPPORTED,
                    message: format!(
                        "{} does not list its repositories: name them in repositoryFilters with filterType: EXACT_MATCH \
                         ({error})",
                        client.host()
                    ),
                },
                _ => self.sender.unreadable(&error),
            }
        })?;
        Ok((listed.names.into_iter().collect(), listed.invalid))
    }

    /// Observes one repository. Without a list of tags one that the catalog lists is empty, and one that a filter names
    /// is missing.
    async fn repository(
        &self,
        client: &Client,
        configuration: &Configuration,
        repository: RepositoryName,
        is_named: bool,
    ) -> Extent {
        self.sender.send(Finding::Opened(repository.clone()));
        let with_referrers = replicates_referrers(&configuration.selection, &repository);
        let choice = configuration.selection.tags_of(&repository);
        let examples = Examples::of(&choice);
        let keep = |tag: &Tag| {
            if is_referrer_tag(tag) {
                return with_referrers;
            }
            let tag = ComparedTag::new(tag);
            self.filters.see_tag(&choice, &tag);
            examples.takes(&tag)
        };
        let sent_at = self.sender.observer.clock.now();
        let listing = client.tags_and_digests(&repository, &keep);
        let listing = announced(format!("the tags of {}/{repository}", client.host()), listing).await;
        let Listing { tags, digests, left_out, invalid } = match listing {
            Ok(Some(listing)) => listing,
            Ok(None) if !is_named => Listing::default(),
            Ok(None) => {
                self.sender.send(Finding::Problem(missing(client, &repository)));
                return Extent::Incomplete;
            }
            Err(error) => {
                self.sender.report(&error);
                return Extent::Incomplete;
            }
        };
        let (referrers, tags): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(is_referrer_tag);
        let mut left_out = (left_out, examples.for_people());
        let chosen = choose(&self.sender, (client, &repository), &choice, tags, digests).await;
        let ChosenTags { tags, narrowed, digests, remarks, extent: of_dates } = chosen;
        self.filters.remark(remarks);
        add_outside(&mut left_out, &choice, &narrowed.outside);
        let listed =
            Listed { repository: repository.clone(), tags: tags.clone(), narrowed, sent_at, left_out, invalid };
        // Without an answer the comparison was stopped.
        let Some(looks) = self.sender.looks(listed).await else { return Extent::Incomplete };
        let observation = ObservedRepository {
            sender: &self.sender,
            client,
            looks,
            digests,
            listed_at: sent_at,
            asked: Locked::default(),
            absent: Locked::default(),
        };
        let extent = observation.run(tags, referrers).await.min(of_dates);
        if extent == Extent::Whole {
            self.sender.send(Finding::Closed(repository));
        }
        extent
    }
}

/// Returns true if referrers of the images of a repository go to some destination.
fn replicates_referrers(selection: &Selection, repository: &RepositoryName) -> bool {
    let routes = selection.routes(repository);
    let mut deciding = routes.iter().filter_map(|route| route.rules.first());
    deciding.any(|rule| rule.options.referrers == ReferrersMode::Replicate)
}

fn missing(client: &Client, repository: &RepositoryName) -> Problem {
    let advice = client.advice_on_absent(repository);
    let advice = advice.as_deref().unwrap_or("push to it, or correct the filter");
    let message = format!("{} has no repository {repository}: {advice}", client.host());
    Problem { stalled: true, reason: reason::REPOSITORY_NOT_FOUND, message }
}

/// Adds the tags that are not among the newest to the number of those that no rule takes, with an example.
fn add_outside((count, examples): &mut (usize, String), choice: &TagChoice, outside: &BTreeSet<Tag>) {
    *count += outside.len();
    if let Some(tag) = outside.last() {
        let comma = if examples.is_empty() { "" } else { ", " };
        examples.push_str(&format!("{comma}{tag} ({})", choice.describe_outside(tag)));
    }
}

const REPOSITORIES_AT_ONCE: usize = 4;
/// Images that were observed and wait to be taken.
const PLACES: usize = 128;
