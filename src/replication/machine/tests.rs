//! The rules of the state machine, one at a time; the simulator drives them all together.

mod backfill;
mod circles;
mod conflicts;
mod consent;
mod deletion_brake;
mod deletion_hints;
mod deletions;
mod edits;
mod found_early;
mod hidden;
mod lag;
mod lost;
mod names;
mod newest;
mod owed_looks;
mod probes;
mod referrers;
mod replaced;
mod restarted;
mod run_refusals;
mod shared_probes;
mod sweep;
mod sweep_failures;
mod usage;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::image::{Digest, InvalidNames};
use crate::plan::{
    AUTHORITY_TTL, ByRegistry, Claimant, CodedError, ComparisonPhase, ConfigurationReport, ContentSketch, CreationDate,
    FailedRead, NamespacedName, NarrowedTags, RecordedImages, Replica, parse_configuration,
};
use crate::policy::Decision;
use crate::terms::{FailureCode, ReplicationConfigurationSpec, ReplicationState, reason};

const SPEC: &str = "{source: {registryRef: {name: s}}, interval: 10m, rules: [{name: all, RULE destinations: [{registryRef: {name: d}}]}]}";

/// Returns the time that something takes.
fn time_of(work: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    work();
    began.elapsed()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn digest(content: &str) -> Digest {
    Digest::sha256(content.as_bytes())
}

pub(in crate::replication) fn orders(generation: i64, rule: &str) -> Orders {
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&SPEC.replace("RULE", rule)).unwrap();
    let reference = |name: &str| NamespacedName { namespace: "a".to_owned(), name: name.to_owned() };
    let identity = |name: &str| RegistryIdentity { uid: format!("uid-{name}"), host: format!("{name}.example") };
    Orders {
        namespace: "a".to_owned(),
        name: "c".to_owned(),
        holder: Claimant { created: at(-1), uid: "uid-c".to_owned() },
        generation: Some(generation),
        configuration: parse_configuration("a", "c", &spec).map(Arc::new),
        request: None,
        registries: ["s", "d"].map(|name| (reference(name), identity(name))).into_iter().collect(),
        dependencies: 0,
        stalled_registries: BTreeMap::new(),
        standings: ByRegistry::default(),
        policies: Arc::default(),
        class: None,
        slots: 8,
        once: None,
        is_dry: false,
        deletes: true,
        approved_deletions: None,
    }
}

/// A machine, the claims of its process, and what it has published.
struct Bench {
    machine: Machine,
    claims: Claims,
    now: Timestamp,
    copies: BTreeMap<CopyId, Arc<Assignment>>,
    /// True if copies end before they hear that they shall stop.
    stops_late: bool,
    deletions: BTreeMap<CopyId, Arc<Deletion>>,
    statuses: BTreeMap<String, crate::terms::ReplicationStatusStatus>,
    identities: BTreeMap<String, Arc<PairIdentity>>,
    report: ConfigurationReport,
    looks: Vec<Looks>,
    lists: Vec<RepositoryName>,
    sweeps: VecDeque<(RepositoryName, Tag)>,
    swept: Option<Duration>,
    comparison: Option<ComparisonId>,
    /// Publications that wait for an answer; `None` to answer each at once.
    unanswered: Option<Vec<(PairId, String, crate::terms::ReplicationStatusStatus)>>,
    records: Vec<Record>,
    /// The dates of images, by tag.
    dates: BTreeMap<Tag, CreationDate>,
}

impl Bench {
    fn new(rule: &str) -> Self {
        Self::resumed(orders(1, rule), Stored::default(), 0)
    }

    fn resumed(orders: Orders, stored: Stored, second: i64) -> Self {
        let mut claims = Claims::default();
        let machine = Machine::new(Arc::new(orders), stored, &mut claims, at(second));
        let mut bench = Self {
            machine,
            claims,
            now: at(second),
            copies: BTreeMap::new(),
            deletions: BTreeMap::new(),
            statuses: BTreeMap::new(),
            identities: BTreeMap::new(),
            report: ConfigurationReport::default(),
            looks: Vec::new(),
            lists: Vec::new(),
            sweeps: VecDeque::new(),
            swept: None,
            comparison: None,
            stops_late: false,
            unanswered: None,
            records: Vec::new(),
            dates: BTreeMap::new(),
        };
        bench.step(Event::Wake);
        bench
    }

    /// Takes an event; what is published succeeds at once.
    fn step(&mut self, event: Event) {
        let mut effects: VecDeque<Effect> = self.machine.step(event, &mut self.claims, self.now).into();
        while let Some(effect) = effects.pop_front() {
            let answer = match effect {
                Effect::Compare(id) => {
                    self.comparison = Some(id);
                    continue;
                }
                Effect::StopComparison => {
                    self.comparison = None;
                    continue;
                }
                Effect::Observe(_, looks) => {
                    self.looks.push(looks);
                    continue;
                }
                Effect::ListTags(repository) => {
                    self.lists.push(repository);
                    continue;
                }
                Effect::Sweep { repository, tag, .. } => {
                    self.sweeps.push_back((repository, tag));
                    continue;
                }
                Effect::Swept(duration) => {
                    self.swept = Some(duration);
                    continue;
                }
                Effect::Copy(id, assignment) => {
                    self.copies.insert(id, assignment);
                    continue;
                }
                Effect::DeleteTag(id, deletion) => {
                    self.deletions.insert(id, deletion);
                    continue;
                }
                Effect::Stop(id) if self.deletions.remove(&id).is_some() => Event::TagDeleted(id, None, 0.5),
                Effect::Stop(_) if self.stops_late => continue,
                Effect::Stop(id) => {
                    self.copies.remove(&id);
                    Event::Ended(id, None, 0.5)
                }
                Effect::Record(_, record) => {
                    self.records.push(record);
                    continue;
                }
                Effect::Publish(id, identity, status) if self.unanswered.is_some() => {
                    self.unanswered.as_mut().unwrap().push((id, identity.name.clone(), *status));
                    self.identities.insert(identity.name.clone(), identity);
                    continue;
                }
                Effect::Publish(id, identity, status) => {
                    self.statuses.insert(identity.name.clone(), *status);
                    self.identities.insert(identity.name.clone(), identity);
                    Event::Published(id, StoreOutcome::Done)
                }
                Effect::Delete(_) if self.unanswered.is_some() => continue,
                Effect::Delete(identity) => {
                    self.statuses.remove(&identity.name);
                    Event::Deleted(identity.name.clone(), StoreOutcome::Done)
                }
                Effect::Report(report) => {
                    self.report = report.as_ref().clone();
                    continue;
                }
                _ => continue,
            };
            effects.extend(self.machine.step(answer, &mut self.claims, self.now));
        }
    }

    fn passes(&mut self, seconds: i64) {
        self.now += Duration::from_secs(seconds.unsigned_abs());
        self.step(Event::Wake);
    }

    fn find(&mut self, finding: Finding) {
        let id = self.comparison.expect("a comparison is under way");
        self.step(Event::Found(id, finding));
    }

    /// A comparison that finds these repositories with their tags; everything that follows of it is left to the test.
    fn compare(&mut self, source: &[(&str, &[(&str, &str)])], is_complete: bool) {
        let names: Vec<&str> = source.iter().map(|(name, _)| *name).collect();
        self.find_repositories(&names);
        for (name, tags) in source {
            let chosen = self.find_tags(name, &tags.iter().map(|(tag, _)| *tag).collect::<Vec<_>>());
            for (tag, content) in tags.iter().filter(|(tag, _)| chosen.contains(&tag.parse().unwrap())) {
                self.find(Finding::Image(self.observed(name, tag, content, self.now)));
            }
            self.find(Finding::Closed(name.parse().unwrap()));
        }
        self.find(Finding::Done(if is_complete { Coverage::Whole } else { Coverage::Partial }));
    }

    fn find_repositories(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let (unmatched, invalid, sent_at) = (BTreeSet::new(), InvalidNames::default(), self.now);
        self.find(Finding::Repositories { names, unmatched, invalid, sent_at });
    }

    /// Finds the list of tags of a repository; returns those that are chosen.
    fn find_tags(&mut self, name: &str, tags: &[&str]) -> BTreeSet<Tag> {
        let repository: RepositoryName = name.parse().unwrap();
        self.find(Finding::Opened(repository.clone()));
        let listed = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let choice = self.machine.configuration().unwrap().selection.tags_of(&repository);
        let (chosen, narrowed) = choice.narrow(listed, &self.dates);
        let (tags, left_out, invalid) = (chosen.clone(), (0, String::new()), InvalidNames::default());
        self.find(Finding::Tags(Listed { repository, tags, narrowed, sent_at: self.now, left_out, invalid }));
        chosen
    }

    fn observed(&self, repository: &str, tag: &str, content: &str, sent_at: Timestamp) -> Observed {
        let (repository, tag): (_, Tag) = (repository.parse().unwrap(), tag.parse().unwrap());
        let created = self.dates.get(&tag).copied().unwrap_or_default();
        let (digest, with_referrers) = (digest(content), false);
        Observed { repository, tag, digest, sent_at, pushed_at: None, created, with_referrers }
    }

    /// Ends every copy that runs.
    fn copied(&mut self, result: Result<(), FailureCode>) {
        self.ended(result, 7);
    }

    /// Ends every copy that is under way, each of which has moved so many bytes.
    fn ended(&mut self, result: Result<(), FailureCode>, moved: u64) {
        for (id, _) in std::mem::take(&mut self.copies) {
            let allowed = result != Err(FailureCode::RegistryPermissionDenied);
            let permission = Decision { allowed, reason: reason::SAME_NAMESPACE, message: String::new() };
            let mut content = ContentSketch::default();
            content.add(&digest("content"), 7);
            let replica = || Replica { bytes: 7, content: content.clone(), ..Replica::default() };
            let result = result.map(|()| replica()).map_err(|code| CodedError::new(code, "no".to_owned()));
            self.step(Event::Ended(id, Some(Outcome { permission, result, moved, is_unanswered: false }), 0.5));
        }
    }

    /// Answers every publication that waits; returns how many.
    fn answer(&mut self, outcome: StoreOutcome) -> usize {
        let waiting = std::mem::take(self.unanswered.as_mut().expect("publications wait"));
        let count = waiting.len();
        for (id, name, status) in waiting {
            self.statuses.insert(name, status);
            self.step(Event::Published(id, outcome));
        }
        count
    }

    /// Sees a tag that was pushed just now.
    fn pushed(&mut self, tag: &str, content: &str) {
        let observed = self.observed("app", tag, content, self.now);
        self.step(Event::Looked(Looked::Seen(observed)));
    }

    /// Returns the contents of the copies that run.
    fn copying(&self) -> Vec<Digest> {
        self.copies.values().map(|copy| copy.digest.clone()).collect()
    }

    fn is_ready(&self) -> bool {
        let counts = self.report.destinations.values().fold(Counts::default(), |mut sum, totals| {
            sum.include(&totals.counts);
            sum
        });
        self.report.problem.is_none()
            && self.report.phase == ComparisonPhase::Compared
            && counts.failed + counts.owed == 0
    }

    fn row(&self, tag: &str) -> Option<crate::plan::RowState> {
        let tag = tag.parse().unwrap();
        self.machine.pairs().find_map(|pair| pair.ledger.row(&tag).map(|row| row.state.clone()))
    }

    fn stored(&self) -> Stored {
        let pairs = self.statuses.iter().map(|(name, status)| StoredPair {
            identity: self.identities[name].as_ref().clone(),
            status: status.clone(),
            verified: RecordedImages::Shown,
            referrers_asked_at: None,
            missed: BTreeMap::new(),
            choice: None,
        });
        Stored {
            pairs: pairs.collect(),
            ready_generation: Some(1),
            repositories: 1,
            deletion_history: self.report.deletion_history.clone(),
            ..Stored::default()
        }
    }
}

#[test]
fn an_image_that_a_comparison_finds_is_copied_and_the_configuration_ready() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert!(!bench.is_ready(), "it is not verified yet");
    bench.copied(Ok(()));
    assert!(bench.is_ready() && bench.statuses.len() == 1);
    assert_eq!(bench.machine.wake_at(bench.now), Some(at(600)), "the next comparison is due after the interval");
}

#[test]
fn a_retry_of_a_failed_image_is_no_success() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    for _ in 0..4 {
        bench.copied(Err(FailureCode::DestinationUnavailable));
        bench.passes(300);
        let copy = *bench.copies.keys().next().expect("it is tried again");
        bench.step(Event::Progress(copy, CopyProgress::Running(0)));
        bench.passes(11);
        assert!(!bench.is_ready());
    }
    bench.copied(Ok(()));
    assert!(bench.is_ready());
}

#[test]
fn a_late_answer_of_a_comparison_does_not_undo_a_push() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("latest", "A")])], true);
    bench.copied(Ok(()));
    bench.passes(600);
    let (late, sent_at) = (bench.observed("app", "latest", "A", at(600)), at(602));
    bench.now = sent_at;
    bench.step(Event::Looked(Looked::Seen(bench.observed("app", "latest", "B", sent_at))));
    bench.copied(Ok(()));
    bench.find(Finding::Image(late));
    assert!(bench.copies.is_empty(), "A is older than B");
    assert!(bench.machine.pairs().all(|pair| pair.ledger.rows().all(|(_, row)| row.digest == digest("B"))));
}

#[test]
fn an_invalid_spec_keeps_everything_and_the_correction_goes_on() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    let before: Vec<_> = bench.statuses.keys().cloned().collect();
    let wrong = orders(2, "tagFilters: [{filter: 'v[', filterType: REGEX_MATCH}],");
    assert!(wrong.configuration.is_err());
    bench.step(Event::Orders(Arc::new(wrong)));
    assert_eq!(bench.report.problem.as_ref().map(|problem| problem.reason), Some(reason::INVALID_SPEC));
    assert_eq!(bench.machine.wake_at(bench.now), None, "nothing is done meanwhile");
    bench.step(Event::Orders(Arc::new(orders(3, ""))));
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert!(bench.copies.is_empty(), "nothing is copied again");
    assert!(bench.is_ready());
    assert_eq!(bench.statuses.keys().cloned().collect::<Vec<_>>(), before);
}

#[test]
fn repositories_go_when_two_lists_lack_them_an_empty_one_proves_nothing() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")]), ("other", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    for (source, left) in [
        (&[][..], 2),
        (&[("app", &[("v1", "1")][..])][..], 2),
        (&[("app", &[("v1", "1")][..])][..], 1),
        (&[][..], 1),
        (&[][..], 1),
        (&[][..], 0),
    ] {
        bench.passes(600);
        bench.compare(source, true);
        bench.passes(10);
        assert_eq!(bench.statuses.len(), left, "{source:?}");
    }
}

#[test]
fn the_pause_is_the_interval_or_grows_while_comparisons_are_incomplete() {
    let mut bench = Bench::new("");
    let mut pauses = Vec::new();
    for is_complete in [false, false, false, true] {
        bench.compare(&[("app", &[])], is_complete);
        let next = bench.machine.wake_at(bench.now).unwrap();
        pauses.push(next.duration_since(bench.now).as_secs());
        bench.now = next;
        bench.step(Event::Wake);
    }
    assert_eq!(pauses, [15, 15, 30, 600]);
}

#[test]
fn a_tag_that_never_moves_is_settled_once_it_is_verified() {
    let mut bench = Bench::new("immutableTags: ['v*'],");
    let source: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1"), ("latest", "1")])];
    bench.compare(source, true);
    let first = bench.looks.pop().unwrap();
    assert_eq!((first.settled.len(), first.new.len()), (0, 2), "manifests of new tags are read with them");
    bench.copied(Ok(()));
    bench.passes(600);
    bench.compare(source, true);
    let second = bench.looks.pop().unwrap();
    assert_eq!(second.settled, BTreeMap::from([("v1".parse().unwrap(), digest("1"))]));
    assert!(second.new.is_empty());
    bench.step(Event::Hints(Hints {
        tags: vec![("app".parse().unwrap(), "v1".parse().unwrap(), None)],
        ..Hints::default()
    }));
    assert_eq!(bench.machine.hints_wanted(), state::MAX_LOOKS, "nothing is looked at");
}

#[test]
fn images_that_workers_may_still_copy_are_looked_at_before_a_comparison() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    let copy = *bench.copies.keys().next().unwrap();
    bench.step(Event::Progress(copy, CopyProgress::Running(7)));
    bench.passes(10);
    for (predecessor, looks) in [(Predecessor::MayAct(AUTHORITY_TTL), 1), (Predecessor::Ended, 0)] {
        let again = Bench::resumed(orders(1, ""), Stored { predecessor, ..bench.stored() }, 5_000);
        assert_eq!(again.machine.hints_wanted(), state::MAX_LOOKS - looks, "{predecessor:?}");
    }
}

#[test]
fn a_restart_publishes_nothing_and_copies_nothing_before_it_is_observed() {
    let mut bench = Bench::new("");
    let source: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1"), ("v2", "2"), ("v3", "3")])];
    bench.compare(source, true);
    bench.copied(Ok(()));
    bench.passes(10);
    let (stored, report) = (bench.stored(), bench.report.clone());
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    again.passes(30);
    assert!(again.statuses.is_empty() && again.copies.is_empty());
    let status =
        |report: &ConfigurationReport, previous| crate::plan::configuration_status("a", report, previous, at(0));
    let none = Default::default();
    let shown = status(&report, &none);
    assert_eq!(status(&again.report, &shown), shown, "the configuration's own status is the same");
    again.compare(source, true);
    again.passes(30);
    assert!(again.statuses.is_empty() && again.copies.is_empty() && again.is_ready());
}

#[test]
fn what_failed_before_a_restart_is_not_written_before_it_is_observed_again() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    bench.copied(Err(FailureCode::DestinationUnavailable));
    bench.passes(10);
    let mut again = Bench::resumed(orders(1, ""), bench.stored(), 5_000);
    again.passes(30);
    assert!(again.copies.is_empty(), "the tag may have moved meanwhile");
    again.compare(&[("app", &[("v1", "B")])], true);
    assert_eq!(again.copies.values().map(|copy| copy.digest.clone()).collect::<Vec<_>>(), [digest("B")]);
}

#[test]
fn a_pair_known_less_than_shown_is_published_once_all_is_read_back() {
    let mut bench = Bench::new("");
    let tags: Vec<(String, String)> = (0..300).map(|i| (format!("v{i}"), i.to_string())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
    bench.compare(&[("app", &tags)], true);
    while !bench.copies.is_empty() {
        bench.copied(Ok(()));
    }
    bench.passes(10);
    let complete = |bench: &Bench| bench.statuses.values().map(|status| status.summary.complete).sum::<u64>();
    assert_eq!(complete(&bench), 300);
    let mut again = Bench::resumed(orders(1, ""), bench.stored(), 5_000);
    let shown = |bench: &Bench| bench.report.destinations.values().map(|totals| totals.counts.complete).sum::<u64>();
    assert_eq!(shown(&again), 300);
    again.compare(&[("app", &tags)], true);
    again.passes(20);
    assert!(again.statuses.is_empty() && !again.copies.is_empty(), "it is read back first");
    while !again.copies.is_empty() {
        assert_eq!(shown(&again), 300);
        again.copied(Ok(()));
    }
    again.passes(10);
    assert!(complete(&again) == 300 || again.statuses.is_empty());
    assert!(again.is_ready());
}

#[test]
fn what_was_observed_before_the_process_was_stopped_is_not_written() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    assert_eq!(bench.copies.len(), 1);
    bench.passes(20);
    bench.step(Event::Frozen);
    bench.passes(60);
    assert!(bench.copies.is_empty());
    bench.compare(&[("app", &[("v1", "B")])], true);
    assert_eq!(bench.copies.values().map(|copy| copy.digest.clone()).collect::<Vec<_>>(), [digest("B")]);
}

#[test]
fn a_process_that_was_stopped_is_not_ready_before_what_waited_is_verified() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    bench.copied(Ok(()));
    bench.passes(60);
    let pushed = bench.observed("app", "v2", "B", bench.now);
    bench.step(Event::Looked(Looked::Seen(pushed)));
    assert!(bench.is_ready(), "an image that was pushed since the comparison keeps it ready");
    bench.step(Event::Frozen);
    assert!(!bench.is_ready(), "another process may have compared since");
    bench.compare(&[("app", &[("v1", "A"), ("v2", "B")])], true);
    bench.copied(Ok(()));
    assert!(bench.is_ready());
}

#[test]
fn a_missing_registry_is_reported_at_once_and_its_rows_are_kept() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    let mut without = orders(1, "");
    without.registries.retain(|reference, _| reference.name == "s");
    bench.step(Event::Orders(Arc::new(without)));
    assert_eq!(bench.report.problem.as_ref().map(|problem| problem.reason), Some(reason::REGISTRY_NOT_FOUND));
    bench.step(Event::Orders(Arc::new(orders(1, ""))));
    bench.compare(&[("app", &[("v1", "1")])], true);
    assert!(bench.is_ready() && bench.copies.is_empty());
    assert!(matches!(bench.row("v1"), Some(crate::plan::RowState::Complete { .. })));
}

#[test]
fn an_ended_configuration_leaves_no_claim_an_interrupted_one_no_progress() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    let copy = *bench.copies.keys().next().unwrap();
    bench.step(Event::Progress(copy, CopyProgress::Running(1)));
    bench.step(Event::Interrupt);
    assert!(bench.machine.is_done());
    assert!(bench.statuses.values().all(|status| status.summary.in_progress == 0 && status.summary.pending == 1));

    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    bench.step(Event::Retire);
    assert!(bench.machine.is_done() && bench.statuses.is_empty());
    let place = RepositoryAddress { host: "d.example".to_owned(), repository: "app".parse().unwrap() };
    assert!(!bench.claims.holds("uid-c", &place));
}

#[test]
fn a_run_that_tries_everything_once_ends_with_its_failures() {
    let mut once = orders(1, "");
    once.once = Some(Duration::ZERO);
    let mut bench = Bench::resumed(once, Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Err(FailureCode::DestinationUnavailable));
    assert!(bench.machine.is_at_rest());
    bench.passes(300);
    assert!(bench.copies.is_empty() && bench.machine.is_at_rest());
}

/// Returns a run that has found one image.
fn run(retry_for: u64) -> Bench {
    let once = Orders { once: Some(Duration::from_secs(retry_for)), ..orders(1, "") };
    let mut bench = Bench::resumed(once, Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench
}

#[test]
fn a_run_tries_again_what_may_pass_until_its_time_is_over() {
    let mut bench = run(120);
    for second in 0..200 {
        let is_over = bench.machine.is_run_over();
        assert_eq!(is_over, second > 120, "after {second} s");
        bench.copied(Err(FailureCode::SourceUnavailable));
        assert!(bench.machine.next_attempt().is_some() || second >= 120, "after {second} s");
        bench.passes(1);
    }
    let mut bench = run(120);
    bench.copied(Err(FailureCode::SourceUnavailable));
    let next = bench.machine.next_attempt().unwrap();
    assert_eq!((next.images, next.because.as_str(), bench.machine.wake_at(bench.now)), (1, "no", Some(next.at)));
    bench.passes(3);
    bench.copied(Ok(()));
    assert!(bench.machine.is_run_over());
    assert!(matches!(bench.row("v1"), Some(crate::plan::RowState::Complete { .. })));
}

#[test]
fn a_run_leaves_to_people_what_people_resolve() {
    let mut bench = run(120);
    bench.copied(Err(FailureCode::DestinationDenied));
    assert!(bench.machine.is_run_over());
    bench.passes(60);
    assert!(bench.copies.is_empty());
}

#[test]
fn a_run_compares_again_only_after_a_failure_that_may_pass() {
    let problem = |stalled| Problem { stalled, reason: reason::SOURCE_UNREADABLE, message: "away".to_owned() };
    for (stalled, is_over) in [(true, true), (false, false)] {
        let once = Orders { once: Some(Duration::from_secs(120)), ..orders(1, "") };
        let mut bench = Bench::resumed(once, Stored::default(), 0);
        bench.find(Finding::Problem(problem(stalled)));
        bench.find(Finding::Done(Coverage::Partial));
        assert_eq!(bench.machine.is_run_over(), is_over);
        assert!(!bench.machine.is_comparing(), "the next configuration does not wait");
        bench.passes(3);
        assert_eq!(bench.machine.is_comparing(), !is_over);
    }
    let mut bench = run(120);
    bench.copied(Ok(()));
    bench.passes(24 * 3600);
    assert!(bench.machine.is_run_over() && !bench.machine.is_comparing(), "the interval is of others");
}

#[test]
fn a_run_that_drains_begins_nothing_and_lets_copies_end() {
    let once = Orders { once: Some(Duration::from_secs(120)), slots: 1, ..orders(1, "") };
    let mut bench = Bench::resumed(once, Stored::default(), 0);
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    assert_eq!(bench.copies.len(), 1);
    bench.step(Event::Drain);
    assert!(!bench.machine.is_run_over());
    bench.copied(Err(FailureCode::SourceUnavailable));
    assert!(bench.copies.is_empty() && bench.machine.is_run_over());
    bench.step(Event::Interrupt);
    assert!(bench.machine.is_done());
}

#[test]
fn a_hint_that_could_not_be_read_during_a_comparison_is_followed_by_another() {
    let mut bench = Bench::new("");
    bench.step(Event::Looked(Looked::Unreadable("app".parse().unwrap(), "v1".parse().unwrap())));
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    assert_eq!(bench.machine.wake_at(bench.now), Some(at(2)), "the comparison may have passed that tag");
}

#[test]
fn an_empty_list_after_a_change_of_options_makes_nothing_ready() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    bench.step(Event::Orders(Arc::new(orders(2, "platforms: [linux/amd64],"))));
    bench.compare(&[], true);
    assert!(!bench.is_ready());
}

/// The failure to read a tag of `app`.
fn unread(bench: &Bench, tag: &str, code: FailureCode) -> Finding {
    let is_of_tag = code != FailureCode::SourceUnavailable;
    let failed = FailedRead { code, message: format!("{tag} cannot be read"), is_of_tag };
    let (repository, tag) = ("app".parse().unwrap(), tag.parse().unwrap());
    Finding::Unread(Unread { repository, tag, failed, sent_at: bench.now })
}

impl Bench {
    /// A comparison that reads the first tags of `app`, and lists the others too.
    fn compare_with_unread(&mut self, read: &[(&str, &str)], unread_tags: &[(&str, FailureCode)]) {
        let repository: RepositoryName = "app".parse().unwrap();
        let names = BTreeSet::from([repository.clone()]);
        let (unmatched, invalid) = (BTreeSet::new(), InvalidNames::default());
        self.find(Finding::Repositories { names, unmatched, invalid, sent_at: self.now });
        self.find(Finding::Opened(repository.clone()));
        let listed = read.iter().map(|(tag, _)| tag).chain(unread_tags.iter().map(|(tag, _)| tag));
        let tags = listed.map(|tag| tag.parse().unwrap()).collect();
        let (left_out, invalid) = ((0, String::new()), InvalidNames::default());
        let narrowed = NarrowedTags::default();
        let listed = Listed { repository: repository.clone(), tags, narrowed, sent_at: self.now, left_out, invalid };
        self.find(Finding::Tags(listed));
        for (tag, content) in read {
            self.find(Finding::Image(self.observed("app", tag, content, self.now)));
        }
        for (tag, code) in unread_tags {
            self.find(unread(self, tag, *code));
        }
        self.find(Finding::Closed(repository));
        self.find(Finding::Done(Coverage::Whole));
    }

    /// The state, failure code and digest of each image, as last published.
    fn shown(&self) -> BTreeMap<String, (ReplicationState, Option<FailureCode>, String)> {
        let images = self.statuses.values().flat_map(|status| &status.images);
        images.map(|i| (i.tag.clone(), (i.status, i.failure_code, i.digest.clone()))).collect()
    }

    fn counts(&self) -> (u64, u64, u64) {
        let summary = self.statuses.values().map(|status| &status.summary).next().expect("a status");
        (summary.images, summary.complete, summary.failed)
    }
}

#[test]
fn a_tag_that_was_never_read_has_an_entry_and_keeps_the_others_from_nothing() {
    let mut bench = Bench::new("");
    let dangling = ("gone", FailureCode::ImageNotFound);
    bench.compare_with_unread(&[("v1", "1"), ("v2", "2")], &[dangling]);
    bench.copied(Ok(()));
    bench.passes(10);
    assert_eq!(bench.counts(), (3, 2, 1));
    let failed = (ReplicationState::Failed, Some(FailureCode::ImageNotFound), String::new());
    assert_eq!(bench.shown()["gone"], failed);
    assert!(!bench.is_ready() && bench.report.problem.is_none(), "the counts say it: {:?}", bench.report);
    assert_eq!(bench.machine.wake_at(bench.now), Some(at(600)), "nothing is tried before the next comparison");

    let published = bench.statuses.clone();
    bench.passes(600);
    bench.compare_with_unread(&[("v1", "1"), ("v2", "2")], &[dangling]);
    bench.passes(10);
    assert_eq!(bench.statuses, published, "nothing changed");

    let mut again = Bench::resumed(orders(1, ""), bench.stored(), 5_000);
    again.passes(30);
    assert!(!again.is_ready(), "a restart forgets no failure");
    again.compare_with_unread(&[("v1", "1"), ("v2", "2"), ("gone", "3")], &[]);
    again.copied(Ok(()));
    again.passes(10);
    assert!(again.is_ready() && again.counts() == (3, 3, 0));
}

#[test]
fn a_tag_that_is_not_listed_any_more_is_no_failure() {
    let mut bench = Bench::new("");
    bench.compare_with_unread(&[("v1", "1")], &[("gone", FailureCode::ImageNotFound)]);
    bench.copied(Ok(()));
    for is_ready in [false, true] {
        bench.passes(600);
        bench.compare_with_unread(&[("v1", "1")], &[]);
        bench.passes(10);
        assert_eq!(bench.is_ready(), is_ready, "one list proves nothing: {:?}", bench.shown());
    }
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[test]
fn a_verified_tag_that_is_kept_back_has_failed_until_it_can_be_read() {
    let mut bench = Bench::new("");
    bench.compare_with_unread(&[("v1", "1"), ("v2", "2")], &[]);
    bench.copied(Ok(()));
    assert!(bench.is_ready());
    bench.passes(600);
    bench.compare_with_unread(&[("v1", "1")], &[("v2", FailureCode::SourceDenied)]);
    bench.passes(10);
    let denied = (ReplicationState::Failed, Some(FailureCode::SourceDenied), digest("2").to_string());
    assert!(!bench.is_ready() && bench.counts() == (2, 1, 1) && bench.shown()["v2"] == denied);
    let mut corrected = orders(1, "");
    corrected.dependencies = 1;
    bench.step(Event::Orders(Arc::new(corrected)));
    bench.passes(2);
    assert!(bench.comparison.is_some(), "other credentials may read it");
    bench.compare_with_unread(&[("v1", "1"), ("v2", "2")], &[]);
    bench.passes(10);
    assert!(bench.is_ready() && bench.copies.is_empty() && bench.counts() == (2, 2, 0), "{:?}", bench.shown());
}

#[test]
fn a_source_that_stumbles_over_a_verified_tag_costs_no_entry() {
    let mut bench = Bench::new("");
    bench.compare_with_unread(&[("v1", "1")], &[]);
    bench.copied(Ok(()));
    bench.passes(600);
    let stumbles = FailureCode::SourceUnavailable;
    bench.compare_with_unread(&[], &[("v1", stumbles), ("v2", stumbles)]);
    bench.passes(10);
    let shown = bench.shown();
    assert_eq!((shown["v1"].0, shown["v2"].1), (ReplicationState::Complete, Some(stumbles)), "v2 was never read");
    let problem = bench.report.problem.as_ref().expect("the failure is named");
    assert!(problem.reason == reason::SOURCE_UNREADABLE && problem.message.contains("v1 cannot be read"));
    bench.passes(5);
    assert!(bench.comparison.is_some(), "it is compared again soon");
    bench.compare_with_unread(&[("v1", "1"), ("v2", "2")], &[]);
    assert_eq!(bench.copies.values().map(|copy| copy.tag.to_string()).collect::<Vec<_>>(), ["v2"]);
    bench.copied(Ok(()));
    assert!(bench.is_ready());
}

#[test]
fn a_late_failure_to_read_a_tag_does_not_undo_a_push() {
    let mut bench = Bench::new("");
    let late = unread(&bench, "v1", FailureCode::SourceDenied);
    bench.now = at(1);
    bench.step(Event::Looked(Looked::Seen(bench.observed("app", "v1", "1", at(1)))));
    bench.copied(Ok(()));
    bench.find(late);
    assert_eq!(bench.machine.pairs().map(|pair| pair.counts().failed).sum::<u64>(), 0);
}

#[test]
fn a_registry_that_a_person_has_to_correct_blocks_ready_and_loses_nothing() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    let status = |bench: &Bench| crate::plan::configuration_status("a", &bench.report, &Default::default(), at(0));
    let shown = |bench: &Bench, kind: &str| {
        let conditions = status(bench).conditions.into_iter();
        conditions.filter(|c| c.type_ == kind).map(|c| (c.status, c.reason, c.message)).next()
    };
    assert_eq!(shown(&bench, "Ready").unwrap().0, "True");
    for name in ["d", "s"] {
        let mut stalled = orders(1, "");
        stalled.dependencies += 1;
        let registry = NamespacedName { namespace: "a".to_owned(), name: name.to_owned() };
        stalled.stalled_registries.insert(registry, "Secret x does not exist".to_owned());
        bench.step(Event::Orders(Arc::new(stalled)));
        let (ready, why, message) = shown(&bench, "Ready").unwrap();
        assert_eq!((ready.as_str(), why.as_str()), ("False", reason::REGISTRY_NOT_READY));
        let side = if name == "d" { "destination" } else { "source" };
        assert_eq!(message, format!("{side} Registry a/{name}: Secret x does not exist"));
        assert_eq!(shown(&bench, "Stalled").unwrap().2, message);
        assert_eq!(bench.shown()["v1"].0, ReplicationState::Complete);
        bench.step(Event::Orders(Arc::new(orders(1, ""))));
        assert_eq!(shown(&bench, "Ready").unwrap().0, "True", "it is there again");
        assert_eq!(shown(&bench, "Stalled"), None);
    }
}

#[test]
fn a_policy_that_takes_consent_away_shows_although_nothing_is_copied() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1")])], true);
    bench.copied(Ok(()));
    bench.passes(10);
    let statement = serde_json::json!({"sid": "no", "effect": "Deny", "principals": [{"namespace": "*"}],
        "actions": ["ReplicateImage"], "resources": ["app"]});
    let spec = serde_json::json!({"registryRef": {"name": "d"}, "statements": [statement]});
    let policy = crate::policy::Policy { name: "p".to_owned(), spec: serde_json::from_value(spec).ok() };
    let mut denied = orders(1, "");
    denied.dependencies = 1;
    denied.policies = Arc::new([("a".to_owned(), vec![policy])].into());
    bench.step(Event::Orders(Arc::new(denied)));
    bench.passes(10);
    let permitted = |bench: &Bench| {
        let conditions = bench.statuses.values().flat_map(|status| &status.conditions);
        conditions.filter(|c| c.type_ == "Permitted").map(|c| c.status.clone()).collect::<Vec<_>>()
    };
    assert_eq!(bench.report.blocked.as_ref().map(|blocked| blocked.reason), Some(reason::STATEMENT_DENIES));
    assert_eq!((permitted(&bench), bench.counts()), (vec!["False".to_owned()], (1, 1, 0)));
    let mut allowed = orders(1, "");
    allowed.dependencies = 2;
    bench.step(Event::Orders(Arc::new(allowed)));
    bench.passes(10);
    assert_eq!((permitted(&bench), &bench.report.blocked), (vec!["True".to_owned()], &None));
}

#[test]
fn names_that_are_not_valid_are_reported_when_a_comparison_has_ended() {
    let mut bench = Bench::new("");
    assert_eq!(bench.report.invalid_names, None);
    let mut invalid = InvalidNames::default();
    invalid.add("Team/App");
    let (names, unmatched) = (BTreeSet::new(), BTreeSet::new());
    bench.find(Finding::Repositories { names, unmatched, invalid, sent_at: bench.now });
    bench.find(Finding::Done(Coverage::Whole));
    let said = bench.report.invalid_names.clone().expect("they are named");
    assert!(said.contains("1 name that is not valid, such as \"Team/App\""), "{said}");
    assert!(bench.is_ready());
    bench.passes(600);
    bench.compare(&[], true);
    assert_eq!(bench.report.invalid_names, None);
}

/// Returns a machine whose store says that `tags` are verified, and answers no publication by itself any more.
fn published(tags: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new("");
    bench.compare(&[("app", tags)], true);
    while !bench.copies.is_empty() {
        bench.copied(Ok(()));
    }
    bench.passes(10);
    bench.unanswered = Some(Vec::new());
    bench
}

#[test]
fn a_tag_moves_once_the_store_no_longer_says_it_has_its_earlier_content() {
    let mut bench = published(&[("v1", "A"), ("v2", "A")]);
    bench.pushed("v1", "B");
    bench.pushed("v2", "B");
    assert!(bench.copies.is_empty(), "its status says COMPLETE of A");
    assert!(!bench.machine.is_at_rest());
    assert_eq!(bench.records.iter().filter(|record| matches!(record, Record::Forgotten(_))).count(), 2);
    assert_eq!(bench.answer(StoreOutcome::Done), 1, "one write withdraws both");
    assert!(bench.statuses.values().all(|status| status.summary.complete < 2));
    bench.passes(1);
    bench.answer(StoreOutcome::Done);
    assert_eq!(bench.copying(), [digest("B"), digest("B")]);
    bench.copied(Ok(()));
    bench.pushed("v3", "C");
    assert_eq!(bench.copying(), [digest("C")], "nothing is said of a new tag");
}

#[test]
fn a_write_that_the_store_refused_or_did_not_answer_is_no_answer() {
    let mut bench = published(&[("v1", "A")]);
    bench.pushed("v1", "B");
    for _ in 0..3 {
        assert_eq!(bench.answer(StoreOutcome::Failed), 1);
        assert!(bench.copies.is_empty());
        bench.passes(5);
    }
    bench.answer(StoreOutcome::Done);
    assert_eq!(bench.copying(), [digest("B")]);
    bench.copied(Ok(()));
    bench.answer(StoreOutcome::Failed);
    bench.pushed("v1", "A");
    assert!(bench.copies.is_empty(), "the write that failed said COMPLETE of B, and may have been done");
    for _ in 0..2 {
        bench.passes(5);
        bench.answer(StoreOutcome::Done);
    }
    assert_eq!(bench.copying(), [digest("A")]);
}

#[test]
fn a_tag_that_moves_back_before_it_was_written_is_copied_and_published() {
    let mut bench = published(&[("v1", "A")]);
    bench.pushed("v1", "B");
    bench.now += Duration::from_secs(1);
    bench.pushed("v1", "A");
    for _ in 0..3 {
        bench.answer(StoreOutcome::Done);
        bench.passes(5);
    }
    assert_eq!(bench.copying(), [digest("A")]);
    bench.copied(Ok(()));
    bench.passes(10);
    bench.answer(StoreOutcome::Done);
    assert!(bench.statuses.values().all(|status| status.summary.complete == 1) && bench.machine.is_at_rest());
}

#[test]
fn images_copied_by_other_options_are_withdrawn_before_they_are_overwritten() {
    let mut bench = published(&[("v1", "A")]);
    bench.step(Event::Orders(Arc::new(orders(2, "platforms: [linux/arm64],"))));
    bench.compare(&[("app", &[("v1", "A")])], true);
    assert!(bench.copies.is_empty(), "the index of all platforms is there, as its status says");
    bench.answer(StoreOutcome::Done);
    assert_eq!(bench.copying(), [digest("A")]);
}

#[test]
fn a_status_that_shows_more_than_is_known_withdraws_only_what_moves() {
    let tags: Vec<(String, String)> = (0..300).map(|i| (format!("v{i}"), i.to_string())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
    let bench = published(&tags);
    let mut stored = bench.stored();
    let shown = stored.pairs[0].status.images[0].tag.clone();
    stored.pairs[0].status.images.truncate(200);
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    again.unanswered = Some(Vec::new());
    again.pushed(&shown, "moved");
    assert!(again.copies.is_empty());
    assert_eq!(again.answer(StoreOutcome::Done), 1, "it does not wait until everything is read back");
    let summaries: Vec<_> = again.statuses.values().map(|status| status.summary.clone()).collect();
    assert_eq!(summaries.iter().map(|s| (s.images, s.complete, s.pending)).collect::<Vec<_>>(), [(300, 299, 1)]);
    assert_eq!(again.copying(), [digest("moved")]);
}

#[test]
fn after_a_freeze_a_tag_is_written_once_the_store_is_known_again() {
    let mut bench = published(&[("v1", "A")]);
    bench.passes(20);
    bench.step(Event::Frozen);
    bench.compare(&[("app", &[("v1", "B")])], true);
    assert!(bench.copies.is_empty(), "another process may have published anything");
    bench.passes(1);
    bench.answer(StoreOutcome::Done);
    assert_eq!(bench.copying(), [digest("B")]);
}

#[test]
fn images_that_wait_for_the_store_are_dropped_with_what_stops_copies() {
    let mut bench = published(&[("v1", "A")]);
    bench.pushed("v1", "B");
    bench.step(Event::Drain);
    bench.answer(StoreOutcome::Done);
    assert!(bench.copies.is_empty() && bench.machine.is_at_rest());
    let mut bench = published(&[("v1", "A")]);
    bench.pushed("v1", "B");
    bench.step(Event::Interrupt);
    bench.answer(StoreOutcome::Done);
    assert!(bench.copies.is_empty() && bench.machine.is_done());
    assert!(bench.statuses.values().all(|status| status.summary.pending == 1));
}

#[test]
fn a_request_is_handled_also_where_a_list_is_forbidden_for_good() {
    let mut bench = Bench::new("");
    bench.compare(&[], true);
    let mut requested = orders(1, "");
    requested.request = Some("token".to_owned());
    bench.step(Event::Orders(Arc::new(requested)));
    bench.passes(10);
    assert_eq!(bench.report.handled_request, None);
    let forbidden = Problem { stalled: true, reason: reason::SOURCE_UNREADABLE, message: "answered 403".to_owned() };
    bench.find(Finding::Problem(forbidden.clone()));
    bench.find(Finding::Done(Coverage::Partial));
    assert_eq!(bench.report.handled_request.as_deref(), Some("token"));
    assert_eq!(bench.report.problem, Some(forbidden), "the condition has the failure");
}

#[test]
fn filters_that_match_nothing_are_reported_until_they_match() {
    let mut bench = Bench::new("");
    let unused = vec!["rule all: PREFIX_MATCH x matches no repository".to_owned()];
    bench.find(Finding::UnusedFilters(unused.clone()));
    bench.find(Finding::Done(Coverage::Whole));
    assert_eq!(bench.report.unused_filters, unused);
    bench.passes(600);
    bench.find(Finding::Done(Coverage::Partial));
    assert_eq!(bench.report.unused_filters, unused, "half a comparison proves nothing");
    bench.passes(60);
    bench.find(Finding::UnusedFilters(Vec::new()));
    bench.find(Finding::Done(Coverage::Whole));
    assert_eq!(bench.report.unused_filters, Vec::<String>::new());
}

#[test]
fn a_destination_of_another_configuration_is_written_by_what_is_seen_since() {
    let place = |host: &str| RepositoryAddress { host: host.to_owned(), repository: "app".parse().unwrap() };
    let younger = Claimant { created: at(1), uid: "uid-younger".to_owned() };
    let mut bench = Bench::new("");
    bench.claims.claim(&younger, crate::plan::Standing::default(), &place("t.example"), &place("d.example")).unwrap();
    let (late, sent_at) = (bench.observed("app", "latest", "A", at(0)), at(10));
    bench.now = sent_at;
    bench.step(Event::Looked(Looked::Seen(late)));
    assert!(bench.copies.is_empty(), "the younger one may have written a later content");
    bench.pushed("latest", "B");
    assert_eq!(bench.copying(), [digest("B")]);
}

#[test]
fn an_image_that_the_record_has_forgotten_counts_and_is_read_back() {
    let mut stored = published(&[("v1", "A"), ("v2", "B")]).stored();
    let status = &stored.pairs[0].status;
    let recorded = status.images.iter().filter(|image| image.tag == "v2").cloned().collect();
    stored.pairs[0].verified = RecordedImages::Listed(recorded);
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    assert_eq!(again.row("v1"), Some(crate::plan::RowState::Pending));
    assert!(matches!(again.row("v2"), Some(crate::plan::RowState::Complete { .. })));
    again.compare(&[("app", &[("v1", "A"), ("v2", "B")])], true);
    assert_eq!(again.copying(), [digest("A")], "nothing that was overwritten is believed");
}

#[test]
fn another_attempt_that_fails_alike_is_not_worth_a_write() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    bench.copied(Err(FailureCode::DestinationDenied));
    bench.passes(10);
    bench.unanswered = Some(Vec::new());
    for _ in 0..3 {
        bench.passes(30);
        assert_eq!(bench.copies.len(), 1, "it is tried again");
        bench.copied(Err(FailureCode::DestinationDenied));
        assert_eq!(bench.answer(StoreOutcome::Done), 0);
    }
    bench.passes(30);
    bench.copied(Ok(()));
    assert_eq!(bench.answer(StoreOutcome::Done), 1);
}
