//! Finds the configurations that want a pushed tag, by Registry and repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::early_hints::EarlyHints;
use super::hint_space::HintSpace;
use super::hints::{Hint, MAX_LOOKED_AT_AGAIN, PushedTag, bytes_of};
use super::mailbox::Mailbox;
use crate::image::{Digest, RepositoryName, Tag};
use crate::locked::Locked;
use crate::plan::{Configuration, NamespacedName, TagChoice};

/// The configurations of each source Registry, and the memory of the hints that wait for them.
#[derive(Default)]
pub(crate) struct HintIndex {
    sources: Locked<HashMap<NamespacedName, Arc<Subscribers>>>,
    early: EarlyHints,
    space: Arc<HintSpace>,
}

/// The configurations of one source.
#[derive(Clone, Default)]
struct Subscribers {
    all: HashMap<String, Arc<Subscriber>>,
    /// Those that name their repositories, by name.
    exact: HashMap<RepositoryName, Vec<Arc<Subscriber>>>,
    /// Those with a pattern.
    patterns: Vec<Arc<Subscriber>>,
}

struct Subscriber {
    configuration: Arc<Configuration>,
    /// Filters that a repository is compared with.
    repository_filters: usize,
    mailbox: Arc<Mailbox>,
}

impl HintIndex {
    /// Lets a configuration take the hints of its source. It must not be subscribed already.
    pub(crate) fn subscribe(&self, configuration: Arc<Configuration>, mailbox: Arc<Mailbox>) {
        let source = source_of(&configuration);
        let repository_filters = configuration.selection.repository_filters();
        let subscriber = Arc::new(Subscriber { configuration, repository_filters, mailbox });
        let mut sources = self.sources.lock();
        Arc::make_mut(sources.entry(source).or_default()).add(subscriber);
    }

    /// Gives a configuration that takes hints those that came before it had started. What there was no room for, or takes
    /// too long to find, is left to its comparison and the sweep.
    pub(crate) fn give_early(&self, configuration: &Configuration, mailbox: &Mailbox) {
        let (by_repository, is_overflown) = self.early.of(&source_of(configuration));
        let (selection, mut checks) = (&configuration.selection, Checks::of_early_hints());
        let (mut wanted, mut is_complete) = (Vec::new(), !is_overflown);
        for (repository, hints) in by_repository {
            if !checks.spend(selection.repository_filters()) {
                is_complete = false;
                break;
            }
            let choice = selection.tags_of(&repository);
            for hint in hints.into_iter().filter(|_| !choice.rules.is_empty()) {
                if !checks.spend(choice.filters()) {
                    is_complete = false;
                    break;
                }
                if choice.wants(&hint.tag) {
                    wanted.push(hint);
                }
            }
        }
        if !wanted.is_empty() {
            mailbox.push(wanted);
        }
        if !is_complete {
            mailbox.overflow();
        }
    }

    /// Ends the time in which hints are kept for configurations that have not started yet: all have.
    pub(crate) fn all_have_started(&self) {
        self.early.end();
    }

    /// Ends the subscription of a configuration.
    pub(crate) fn unsubscribe(&self, configuration: &Configuration) {
        let source = source_of(configuration);
        let mut sources = self.sources.lock();
        if let Some(subscribers) = sources.get_mut(&source) {
            let subscribers = Arc::make_mut(subscribers);
            subscribers.remove(&configuration.name);
            if subscribers.all.is_empty() {
                sources.remove(&source);
            }
        }
    }

    /// Returns the names of the configurations that take the hints of a source.
    pub(crate) fn names_of(&self, source: &NamespacedName) -> Vec<String> {
        let sources = self.sources.lock();
        sources.get(source).map(|subscribers| subscribers.all.keys().cloned().collect()).unwrap_or_default()
    }

    /// Gives pushed tags of a Registry to the configurations that want them. Those for which there is no room, or that
    /// it takes too long to find, compare at once.
    pub(crate) fn give(&self, registry: &NamespacedName, pushed: Vec<PushedTag>, now: Timestamp) {
        // Before the subscribers are read: one that subscribes meanwhile gets them at least once.
        self.early.keep(registry, &pushed, now);
        let Some(subscribers) = self.sources.lock().get(registry).cloned() else { return };
        let is_many = pushed.len() > MAX_LOOKED_AT_AGAIN || self.space.hints(&registry.namespace) > MAX_LOOKED_AT_AGAIN;
        let (checks, mail) = (Checks::begin(), HashMap::new());
        let mut delivery = Delivery { space: &self.space, namespace: &registry.namespace, is_many, now, checks, mail };
        let is_complete = delivery.add_all(&subscribers, pushed);
        for (subscriber, hints) in delivery.mail.into_values() {
            subscriber.mailbox.push(hints);
        }
        if !is_complete {
            subscribers.all.values().for_each(|subscriber| subscriber.mailbox.overflow());
        }
    }
}

impl HintIndex {
    /// Has the configurations list these repositories of a Registry again that would delete at their destinations what
    /// was deleted there; one that has not started yet lists them all when it does. Those for which there is no room, or
    /// that it takes too long to find, compare at once.
    pub(crate) fn give_deleted(&self, registry: &NamespacedName, repositories: &BTreeSet<RepositoryName>) {
        let Some(subscribers) = self.sources.lock().get(registry).cloned() else { return };
        let mut checks = Checks::begin();
        let deleting = subscribers.all.values().filter(|subscriber| subscriber.configuration.selection.may_delete());
        for subscriber in deleting {
            let selection = &subscriber.configuration.selection;
            for repository in repositories {
                if !checks.spend(subscriber.repository_filters) {
                    subscriber.mailbox.overflow();
                    break;
                }
                if !selection.may_delete_in(repository) {
                    continue;
                }
                match self.space.reserve(&registry.namespace, LIST_BYTES + repository.as_str().len()) {
                    Some(reservation) => subscriber.mailbox.deleted_in(repository.clone(), reservation),
                    None => subscriber.mailbox.overflow(),
                }
            }
        }
    }
}

impl Subscribers {
    fn add(&mut self, subscriber: Arc<Subscriber>) {
        let Configuration { name, selection, .. } = &*subscriber.configuration;
        if selection.needs_listing() {
            self.patterns.push(subscriber.clone());
        } else {
            for repository in selection.exact_repositories() {
                self.exact.entry(repository.clone()).or_default().push(subscriber.clone());
            }
        }
        self.all.insert(name.clone(), subscriber);
    }

    fn remove(&mut self, name: &str) {
        let Some(gone) = self.all.remove(name) else { return };
        self.patterns.retain(|subscriber| !Arc::ptr_eq(subscriber, &gone));
        for repository in gone.configuration.selection.exact_repositories() {
            if let Some(subscribers) = self.exact.get_mut(repository) {
                subscribers.retain(|subscriber| !Arc::ptr_eq(subscriber, &gone));
                if subscribers.is_empty() {
                    self.exact.remove(repository);
                }
            }
        }
    }
}

/// A configuration that takes a repository, and its choice of the tags there.
type Taker<'a> = (&'a Arc<Subscriber>, TagChoice);

/// The comparisons of names with filters that are left to one notification, and the time for them.
struct Checks {
    left: usize,
    until: Instant,
}

impl Checks {
    fn begin() -> Self {
        Self { left: MAX_CHECKS, until: Instant::now() + MAX_MATCHING }
    }

    /// Those for all early hints of one configuration.
    fn of_early_hints() -> Self {
        Self { until: Instant::now() + MAX_EARLY_MATCHING, ..Self::begin() }
    }

    /// Takes `checks` off; returns false if fewer are left, or no time.
    fn spend(&mut self, checks: usize) -> bool {
        let left = self.left.checked_sub(checks).filter(|_| !self.is_late());
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// The hints of one notification on their way to mailboxes.
struct Delivery<'a> {
    space: &'a Arc<HintSpace>,
    namespace: &'a str,
    is_many: bool,
    now: Timestamp,
    checks: Checks,
    mail: HashMap<*const Subscriber, (Arc<Subscriber>, Vec<Arc<Hint>>)>,
}

impl Delivery<'_> {
    /// Adds pushed tags for those who want them; returns false if it takes too long to find these.
    fn add_all(&mut self, subscribers: &Subscribers, pushed: Vec<PushedTag>) -> bool {
        let mut by_repository: BTreeMap<RepositoryName, BTreeMap<Tag, Option<Digest>>> = BTreeMap::new();
        for (repository, tag, digest) in pushed {
            by_repository.entry(repository).or_default().insert(tag, digest);
        }
        for (repository, tags) in by_repository {
            let exact = subscribers.exact.get(&repository).map(Vec::as_slice).unwrap_or_default();
            let candidates = exact.iter().chain(&subscribers.patterns);
            let Some(takers) = self.takers(candidates, &repository) else { return false };
            let filters: usize = takers.iter().map(|(_, choice)| choice.filters()).sum();
            if !self.checks.spend(filters * tags.len()) {
                return false;
            }
            for (tag, digest) in tags {
                if self.checks.is_late() {
                    return false;
                }
                self.add(&takers, &repository, tag, digest);
            }
        }
        true
    }

    /// Returns those of the candidates that take `repository`; `None` if it takes too long to find them.
    fn takers<'a>(
        &mut self,
        candidates: impl Iterator<Item = &'a Arc<Subscriber>>,
        repository: &RepositoryName,
    ) -> Option<Vec<Taker<'a>>> {
        let mut takers = Vec::new();
        for subscriber in candidates {
            if !self.checks.spend(subscriber.repository_filters) {
                return None;
            }
            let choice = subscriber.configuration.selection.tags_of(repository);
            if !choice.rules.is_empty() {
                takers.push((subscriber, choice));
            }
        }
        Some(takers)
    }

    fn add(&mut self, takers: &[Taker<'_>], repository: &RepositoryName, tag: Tag, digest: Option<Digest>) {
        let takers = takers.iter().filter(|(_, choice)| choice.wants(&tag));
        let takers: Vec<&Arc<Subscriber>> = takers.map(|(subscriber, _)| *subscriber).collect();
        if takers.is_empty() {
            return;
        }
        let bytes = bytes_of(self.namespace, repository, &tag, takers.len());
        let Some(reservation) = self.space.reserve(self.namespace, bytes) else {
            takers.iter().for_each(|taker| taker.mailbox.overflow());
            return;
        };
        let hint = Arc::new(Hint {
            repository: repository.clone(),
            tag,
            digest,
            received_at: self.now,
            is_one_of_many: self.is_many,
            looked: OnceCell::new(),
            _reservation: reservation,
        });
        for taker in takers {
            let mail = self.mail.entry(Arc::as_ptr(taker)).or_insert_with(|| (taker.clone(), Vec::new()));
            mail.1.push(hint.clone());
        }
    }
}

fn source_of(configuration: &Configuration) -> NamespacedName {
    NamespacedName { namespace: configuration.namespace.clone(), name: configuration.source.clone() }
}

/// Comparisons of a repository or a tag with a filter that one notification may cost.
const MAX_CHECKS: usize = 400_000;
/// The time for them.
const MAX_MATCHING: Duration = Duration::from_secs(5);
/// The time for those of one configuration that starts: others of its namespace may be many.
const MAX_EARLY_MATCHING: Duration = Duration::from_millis(200);
/// The memory of a repository that is to be listed, without its name.
const LIST_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse_configuration;

    fn subscribe(index: &HintIndex, name: &str, filter_type: &str, filter: &str) -> (Arc<Configuration>, Arc<Mailbox>) {
        subscribe_to(index, name, filter_type, filter, "")
    }

    fn subscribe_to(
        index: &HintIndex,
        name: &str,
        filter_type: &str,
        filter: &str,
        more: &str,
    ) -> (Arc<Configuration>, Arc<Mailbox>) {
        let rule = format!(
            "{{name: r, repositoryFilters: [{{filter: {filter}, filterType: {filter_type}}}], destinations: \
             [{{registryRef: {{name: d}}}}], {more}}}"
        );
        let rule: serde_json::Value = serde_saphyr::from_str(&rule).unwrap();
        let spec = serde_json::json!({"source": {"registryRef": {"name": "source"}}, "rules": [rule]});
        let configuration = parse_configuration("team-a", name, &serde_json::from_value(spec).unwrap()).unwrap();
        let (configuration, mailbox) = (Arc::new(configuration), Arc::new(Mailbox::default()));
        index.subscribe(configuration.clone(), mailbox.clone());
        (configuration, mailbox)
    }

    fn pushed(repository: &str, tag: &str) -> PushedTag {
        (repository.parse().unwrap(), tag.parse().unwrap(), None)
    }

    fn source(name: &str) -> NamespacedName {
        NamespacedName { namespace: "team-a".to_owned(), name: name.to_owned() }
    }

    fn names(mailbox: &Mailbox) -> (Vec<String>, bool) {
        let Some(mail) = mailbox.take_now(usize::MAX) else { return (Vec::new(), false) };
        let names = mail.hints.iter().map(|hint| format!("{}:{}", hint.repository, hint.tag)).collect();
        (names, mail.is_overflown)
    }

    #[test]
    fn hints_reach_the_configurations_that_want_them_by_one_look() {
        let index = HintIndex::default();
        let (_, exact) = subscribe(&index, "exact", "EXACT_MATCH", "app");
        let (_, prefix) = subscribe(&index, "prefix", "PREFIX_MATCH", "ap");
        let (other, gone) = subscribe(&index, "gone", "EXACT_MATCH", "app");
        index.unsubscribe(&other);
        index.give(
            &source("source"),
            vec![pushed("app", "1"), pushed("apple", "1"), pushed("b", "1"), pushed("app", "1")],
            Timestamp::UNIX_EPOCH,
        );
        index.give(&source("another"), vec![pushed("app", "2")], Timestamp::UNIX_EPOCH);
        let (of_exact, of_prefix) = (exact.take_now(9).unwrap(), prefix.take_now(9).unwrap());
        assert_eq!((of_exact.hints.len(), of_prefix.hints.len()), (1, 2));
        assert!(Arc::ptr_eq(&of_exact.hints[0], &of_prefix.hints[0]) && !of_exact.hints[0].is_one_of_many);
        assert_eq!(names(&gone), (vec![], false));
        drop((of_exact, of_prefix));
        assert_eq!(index.space.hints("team-a"), 0, "their memory is given back");
        index.unsubscribe(&Configuration { name: "exact".to_owned(), ..Configuration::clone(&other) });
        index.unsubscribe(&Configuration { name: "prefix".to_owned(), ..Configuration::clone(&other) });
        assert!(index.sources.lock().is_empty());
    }

    #[test]
    fn hints_reach_configurations_that_start_later_by_one_look() {
        let index = HintIndex::default();
        index.give(&source("source"), vec![pushed("app", "1"), pushed("b", "1")], Timestamp::UNIX_EPOCH);
        index.give(&source("another"), vec![pushed("app", "2")], Timestamp::UNIX_EPOCH);
        let [(exact, of_exact), (prefix, of_prefix)] = [("EXACT_MATCH", "app"), ("PREFIX_MATCH", "ap")]
            .map(|(kind, filter)| subscribe(&index, kind, kind, filter));
        index.give_early(&exact, &of_exact);
        index.give_early(&prefix, &of_prefix);
        let (of_exact, of_prefix) = (of_exact.take_now(9).unwrap(), of_prefix.take_now(9).unwrap());
        assert_eq!((of_exact.hints.len(), of_prefix.hints.len()), (1, 1));
        assert!(Arc::ptr_eq(&of_exact.hints[0], &of_prefix.hints[0]) && !of_exact.hints[0].is_one_of_many);
        assert!(!of_exact.is_overflown);
        assert_eq!(index.space.hints("team-a"), 0, "they take no room of others");

        index.all_have_started();
        index.give(&source("source"), vec![pushed("app", "4")], Timestamp::UNIX_EPOCH);
        let (late, mailbox) = subscribe(&index, "late", "GLOB_MATCH", "app");
        index.give_early(&late, &mailbox);
        assert!(mailbox.take_now(9).is_none(), "what has started takes hints by itself");
    }

    #[test]
    fn an_earlier_hint_of_a_tag_never_replaces_a_later_one() {
        let (index, earlier) = (HintIndex::default(), HintIndex::default());
        let (configuration, mailbox) = subscribe(&index, "c", "EXACT_MATCH", "app");
        let [first, second] = [1, 2].map(|second| Timestamp::from_second(second).unwrap());
        index.give(&source("source"), vec![pushed("app", "1")], second);
        earlier.give(&source("source"), vec![pushed("app", "1")], first);
        earlier.give_early(&configuration, &mailbox);
        let received: Vec<_> = mailbox.take_now(9).unwrap().hints.iter().map(|hint| hint.received_at).collect();
        assert_eq!(received, [second]);
    }

    #[test]
    fn early_hints_are_bounded_in_memory_and_time() {
        let index = HintIndex::default();
        let crowd = |round: usize| (0..20_000).map(|number| pushed("app", &format!("{round}-{number}"))).collect();
        (0..3).for_each(|round| index.give(&source("source"), crowd(round), Timestamp::UNIX_EPOCH));
        let (configuration, mailbox) = subscribe(&index, "early", "EXACT_MATCH", "app");
        index.give_early(&configuration, &mailbox);
        let (taken, is_overflown) = names(&mailbox);
        assert!(is_overflown && (1_000..60_000).contains(&taken.len()), "{}", taken.len());

        let index = HintIndex::default();
        let pushes = (0..1_000).map(|number| pushed(&format!("app{number:05}"), "1")).collect();
        index.give(&source("source"), pushes, Timestamp::UNIX_EPOCH);
        index.give_early(&largest(""), &mailbox);
        let (taken, is_overflown) = names(&mailbox);
        assert!(is_overflown && taken.len() <= MAX_CHECKS / 5_000, "{}", taken.len());
    }

    #[test]
    fn deletions_reach_the_configurations_that_would_repeat_them() {
        let index = HintIndex::default();
        let (_, keeps) = subscribe(&index, "keeps", "PREFIX_MATCH", "app");
        let deletes = subscribe_to(&index, "deletes", "PREFIX_MATCH", "app", "deleteReplication: {enabled: true}").1;
        let names: BTreeSet<RepositoryName> = ["app", "apple", "b"].map(|name| name.parse().unwrap()).into();
        index.give_deleted(&source("source"), &names);
        index.give_deleted(&source("another"), &names);
        index.give_deleted(&source("source"), &["app".parse().unwrap()].into());
        let mail = deletes.take_now(9).unwrap();
        let found: Vec<&str> = mail.deleted_in.iter().map(RepositoryName::as_str).collect();
        assert_eq!((found, mail.hints.len(), mail.is_overflown), (vec!["app", "apple"], 0, false));
        assert!(keeps.take_now(9).is_none() && deletes.take_now(9).is_none());
        assert_eq!(index.space.hints("team-a"), 0, "their memory is given back");
    }

    #[test]
    fn too_many_hints_and_too_much_work_end_in_a_comparison() {
        let index = HintIndex::default();
        let (_, mailbox) = subscribe(&index, "all", "PREFIX_MATCH", "app");
        let crowd = |count: usize| (0..count).map(|number| pushed("app", &number.to_string())).collect::<Vec<_>>();
        index.give(&source("source"), crowd(MAX_LOOKED_AT_AGAIN + 1), Timestamp::UNIX_EPOCH);
        assert!(mailbox.take_now(usize::MAX).unwrap().hints.iter().all(|hint| hint.is_one_of_many));
        index.give(&source("source"), crowd(100_000), Timestamp::UNIX_EPOCH);
        let (taken, is_overflown) = names(&mailbox);
        assert!(is_overflown && (10_000..100_000).contains(&taken.len()), "{}", taken.len());
        index.give(&source("source"), crowd(MAX_CHECKS), Timestamp::UNIX_EPOCH);
        assert_eq!(names(&mailbox), (vec![], true));
    }
    /// A configuration of 25 rules, each of 100 filters and 100 exclusions, 100 patterns among them: the most that a spec
    /// may have.
    fn largest(more: &str) -> Configuration {
        let filters = |text: &str, filter_type: &str, count: usize| {
            let filter = |number| {
                format!("{{filter: '{}', filterType: {filter_type}}}, ", text.replace('0', &format!("{number}")))
            };
            (0..count).map(filter).collect::<String>()
        };
        let (regex, glob) = (filters("a0.*z", "REGEX_MATCH", 2), filters("b0*z", "GLOB_MATCH", 2));
        let (exclude, all) = (filters("c0z", "PREFIX_MATCH", 100), filters("app", "PREFIX_MATCH", 96));
        let rule = format!(
            "{{name: r, repositoryFilters: [{regex}{glob}{all}], excludeRepositoryFilters: [{exclude}], destinations: \
             [{{registryRef: {{name: d}}}}], {more}}}",
        );
        let rule: serde_json::Value = serde_saphyr::from_str(&rule).unwrap();
        let spec = serde_json::json!({"source": {"registryRef": {"name": "source"}}, "rules": [rule]});
        let mut configuration = parse_configuration("team-a", "c", &serde_json::from_value(spec).unwrap()).unwrap();
        let rule = configuration.selection.rules[0].clone();
        configuration.selection.rules = vec![rule; 25];
        configuration
    }

    #[test]
    fn checks_end_with_their_number_and_with_their_time() {
        let mut checks = Checks { left: 3, ..Checks::begin() };
        assert_eq!([checks.spend(2), checks.spend(2), checks.spend(1)], [true, false, false]);
        assert!(!Checks { until: Instant::now(), ..Checks::begin() }.spend(1));
    }

    #[test]
    fn the_largest_configurations_cost_no_more_time_than_small_ones() {
        let index = HintIndex::default();
        let largest = largest("deleteReplication: {enabled: true}");
        let subscribe = |number: usize| {
            let mailbox = Arc::new(Mailbox::default());
            let configuration = Configuration { name: format!("c{number}"), ..largest.clone() };
            index.subscribe(Arc::new(configuration), mailbox.clone());
            mailbox
        };
        let mailboxes: Vec<Arc<Mailbox>> = (0..20).map(subscribe).collect();
        let names: Vec<String> = (0..18_000).map(|number| format!("app{number:05}")).collect();
        let began = Instant::now();
        let pushes = names.iter().map(|name| pushed(name, "1")).collect();
        index.give(&source("source"), pushes, Timestamp::UNIX_EPOCH);
        let took = began.elapsed();
        println!("18,000 repositories, 20 configurations of 5,000 filters: {took:?}");
        assert!(took < 2 * MAX_MATCHING, "{took:?}");
        for mailbox in &mailboxes {
            let mail = mailbox.take_now(usize::MAX).expect("a comparison at least");
            assert!(mail.is_overflown && (1..20).contains(&mail.hints.len()), "{}", mail.hints.len());
        }
        index.give(&source("source"), vec![pushed("app", "1")], Timestamp::UNIX_EPOCH);
        assert!(mailboxes.iter().all(|mailbox| self::names(mailbox) == (vec!["app:1".to_owned()], false)));

        let began = Instant::now();
        index.give_deleted(&source("source"), &names.iter().map(|name| name.parse().unwrap()).collect());
        assert!(began.elapsed() < 2 * MAX_MATCHING, "{:?}", began.elapsed());
        assert!(mailboxes.iter().all(|mailbox| self::names(mailbox).1));
        index.give_deleted(&source("source"), &["app".parse().unwrap()].into());
        let listed = |mailbox: &Arc<Mailbox>| mailbox.take_now(9).is_some_and(|mail| mail.deleted_in.len() == 1);
        assert!(mailboxes.iter().all(listed));
    }
}
