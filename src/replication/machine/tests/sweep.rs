//! Comparisons look at new tags and those in doubt; a sweep looks at the others, at the pace of a budget.

use super::*;
use crate::plan::{NamespacedName, RecordedImages, SweepBudget, SweepOwner, configuration_status};
use crate::terms::ImageStatus;

/// A configuration at an interval of a minute, its source, and the looks at tags that it was given.
struct Sweeping {
    bench: Bench,
    owner: SweepOwner,
    source: BTreeMap<Tag, &'static str>,
    comparisons: usize,
    /// Looks in each second.
    looks: BTreeMap<i64, usize>,
}

type Budget = SweepBudget<(usize, RepositoryName, Tag)>;

fn minutely(objective: &str) -> Orders {
    let spec = SPEC.replace("interval: 10m", &format!("interval: 1m{objective}")).replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    Orders { configuration: parse_configuration("a", "c", &spec).map(Arc::new), ..orders(1, "") }
}

pub(super) fn tag(number: usize) -> Tag {
    format!("v{number:06}").parse().unwrap()
}

/// Returns the state that a process left which has verified so many tags.
pub(super) fn verified(count: usize) -> Stored {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v000000", "A")])], true);
    bench.copied(Ok(()));
    let mut stored = bench.stored();
    let image = stored.pairs[0].status.images[0].clone();
    // Long ago: images that were verified just before a restart are read back again.
    let image = ImageStatus { completed_at: Some(at(-10_000)), ..image };
    let images = (0..count).map(|number| ImageStatus { tag: tag(number).to_string(), ..image.clone() });
    stored.pairs[0].verified = RecordedImages::Listed(images.collect());
    stored.pairs[0].referrers_asked_at = Some(at(1_000));
    stored
}

impl Sweeping {
    fn new(name: &str, count: usize, objective: &str) -> Self {
        let bench = Bench::resumed(minutely(objective), verified(count), 1_000);
        let registry = NamespacedName { namespace: "a".to_owned(), name: "s".to_owned() };
        let owner = SweepOwner { registry, configuration: name.to_owned() };
        let source = (0..count).map(|number| (tag(number), "A")).collect();
        Self { bench, owner, source, comparisons: 0, looks: BTreeMap::new() }
    }

    fn look(&mut self, tag: &Tag) -> Observed {
        *self.looks.entry(self.bench.now.as_second()).or_default() += 1;
        self.bench.observed("app", tag.as_str(), self.source[tag], self.bench.now)
    }

    /// Compares if that is due: looks at what is due, and further as the budget allows.
    fn compare(&mut self, budget: &mut Budget) {
        if self.bench.comparison.is_none() || !self.bench.machine.is_comparing() {
            return;
        }
        self.comparisons += 1;
        let repository: RepositoryName = "app".parse().unwrap();
        let (names, sent_at) = ([repository.clone()].into(), self.bench.now);
        let (unmatched, invalid) = Default::default();
        self.bench.find(Finding::Repositories { names, unmatched, invalid, sent_at });
        self.bench.find(Finding::Opened(repository.clone()));
        let tags: BTreeSet<Tag> = self.source.keys().cloned().collect();
        let (narrowed, left_out, invalid) = Default::default();
        let listed =
            Listed { repository: repository.clone(), tags: tags.clone(), narrowed, sent_at, left_out, invalid };
        self.bench.find(Finding::Tags(listed));
        let looks = self.bench.looks.pop().unwrap();
        for tag in tags {
            let is_seen = match &looks.known {
                KnownLooks::All => true,
                KnownLooks::Only(due) => due.contains(&tag),
                KnownLooks::WithinBudget(due) => due.contains(&tag) || budget.take(&self.owner, 20, self.bench.now),
            };
            if is_seen {
                let observed = self.look(&tag);
                self.bench.find(Finding::Image(observed));
            }
        }
        self.bench.find(Finding::Closed(repository));
        self.bench.find(Finding::Done(Coverage::Whole));
        self.bench.copied(Ok(()));
    }
}

/// Lets time pass, a second at a time: configurations compare, and make the looks that the budget of the host allows.
fn pass(running: &mut [Sweeping], budget: &mut Budget, seconds: i64) {
    for _ in 0..seconds {
        for sweeping in running.iter_mut() {
            sweeping.bench.passes(1);
            sweeping.compare(budget);
        }
        loop {
            for (index, sweeping) in running.iter_mut().enumerate() {
                for (repository, tag) in sweeping.bench.sweeps.drain(..) {
                    budget.wait(&sweeping.owner, 20, (index, repository, tag), sweeping.bench.now);
                }
            }
            let Some((index, _, tag)) = budget.next(|_| true, running[0].bench.now) else { break };
            let is_there = running[index].source.contains_key(&tag);
            let looked = if is_there {
                Looked::Seen(running[index].look(&tag))
            } else {
                Looked::Absent("app".parse().unwrap(), tag)
            };
            running[index].bench.step(Event::Swept(looked, None));
            running[index].bench.copied(Ok(()));
        }
    }
}

fn budget() -> Budget {
    SweepBudget::new(20, at(1_000))
}

#[test]
fn a_hundred_thousand_tags_at_a_minute_cost_twenty_looks_a_second() {
    let (mut running, mut budget) = ([Sweeping::new("c", 100_000, "")], budget());
    pass(&mut running, &mut budget, 30);
    let [sweeping] = &mut running;
    sweeping.source.insert("new".parse().unwrap(), "N");
    pass(&mut running, &mut budget, 100);
    let [sweeping] = &running;
    assert_eq!(sweeping.comparisons, 3, "each minute");
    assert!(sweeping.bench.row("new").is_some_and(|row| matches!(row, crate::plan::RowState::Complete { .. })));
    let all: usize = sweeping.looks.values().sum();
    // Audits that are due soon: 100,000 in 24 hours.
    let audits = 100_000 * (300 + 130) / (24 * 3_600) + 60;
    assert!((2_600..=2_802 + audits).contains(&all), "those of ten seconds, then 20 a second: {all}");
    let crowded = sweeping.looks.values().filter(|looks| **looks > 22).count();
    assert!(crowded <= sweeping.comparisons, "{:?}", sweeping.looks);
    assert_eq!(sweeping.bench.swept, None, "it takes 83 minutes");
}

#[test]
fn a_known_tag_that_moves_is_copied_within_one_sweep() {
    let (mut running, mut budget) = ([Sweeping::new("c", 3_000, "")], budget());
    pass(&mut running, &mut budget, 10);
    let moved = [tag(0), tag(1_500), tag(2_999)];
    let [sweeping] = &mut running;
    sweeping.source.extend(moved.clone().map(|tag| (tag, "B")));
    pass(&mut running, &mut budget, 300);
    let [sweeping] = &running;
    let took = sweeping.bench.swept.unwrap().as_secs();
    assert!((135..=150).contains(&took), "3,000 tags at 20 a second, less those of the first comparison: {took}");
    for tag in moved {
        let pair = sweeping.bench.machine.pairs().next().unwrap();
        assert!(pair.ledger.row(&tag).is_some_and(|row| row.digest == digest("B")) && pair.ledger.is_complete(&tag));
    }
    let most = sweeping.looks.values().max().unwrap();
    assert!((200..=230).contains(most), "what a pause has earned: {most}");
}

#[test]
fn few_tags_are_all_looked_at_by_each_comparison() {
    let (mut running, mut budget) = ([Sweeping::new("c", 100, "")], budget());
    pass(&mut running, &mut budget, 300);
    let [sweeping] = &running;
    assert_eq!((sweeping.comparisons, sweeping.looks.values().sum::<usize>()), (6, 600));
    assert!(sweeping.looks.values().all(|looks| *looks == 100), "at once: {:?}", sweeping.looks);
    assert_eq!(sweeping.bench.swept, Some(Duration::ZERO));
}

#[test]
fn configurations_of_one_host_share_its_budget_fairly() {
    let (mut running, mut budget) = ([Sweeping::new("large", 10_000, ""), Sweeping::new("small", 500, "")], budget());
    pass(&mut running, &mut budget, 300);
    let [large, small] = running.each_ref().map(|sweeping| sweeping.looks.values().sum::<usize>());
    assert!(large + small <= 200 + 301 * 20 + 500, "and audits that are due soon: {large} and {small}");
    assert!(small >= 4 * 500, "each of its sweeps takes less than a minute: {small}");
    assert!(running[1].bench.swept.is_some_and(|took| took.as_secs() <= 60), "{:?}", running[1].bench.swept);
}

#[test]
fn a_person_a_run_and_a_plan_have_every_tag_looked_at() {
    let known = |orders: Orders| {
        let mut bench = Bench::resumed(orders, verified(3), 1_000);
        bench.compare(&[("app", &[("v000000", "A"), ("v000001", "A"), ("v000002", "A")])], true);
        bench.looks.pop().unwrap().known
    };
    assert_eq!(known(orders(1, "")), KnownLooks::WithinBudget(BTreeSet::new()));
    assert_eq!(known(Orders { request: Some("now".to_owned()), ..orders(1, "") }), KnownLooks::All);
    assert_eq!(known(Orders { once: Some(Duration::ZERO), ..orders(1, "") }), KnownLooks::All);
    assert_eq!(known(Orders { is_dry: true, ..orders(1, "") }), KnownLooks::All);
}

#[test]
fn a_request_is_thorough_once() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    for expected in [KnownLooks::All, KnownLooks::WithinBudget(BTreeSet::new())] {
        bench.compare(&[("app", &[("v000000", "A")])], true);
        assert_eq!(bench.looks.pop().unwrap().known, expected);
        bench.passes(600);
    }
}

#[test]
fn what_is_new_open_or_in_doubt_is_looked_at_in_any_case() {
    let mut sweeping = Sweeping::new("c", 1_000, "");
    let mut spent = budget();
    while spent.take(&sweeping.owner, 20, at(1_000)) {}
    sweeping.source.extend([("new".parse().unwrap(), "N"), (tag(5), "B")]);
    sweeping.bench.step(Event::Looked(Looked::Unreadable("app".parse().unwrap(), tag(5))));
    sweeping.bench.step(Event::Looked(Looked::Absent("app".parse().unwrap(), tag(6))));
    sweeping.compare(&mut spent);
    let looks = sweeping.looks.values().sum::<usize>();
    assert!((3..20).contains(&looks), "the new one, two in doubt, and audits that are due soon: {looks}");
    let row = |name: &str| sweeping.bench.machine.pairs().next().unwrap().ledger.row(&name.parse().unwrap()).cloned();
    assert_eq!(row("v000005").map(|row| row.digest), Some(digest("B")));
}

#[test]
fn a_new_signature_of_a_known_tag_is_copied_within_an_interval() {
    let mut sweeping = Sweeping::new("c", 1_000, "");
    let mut budget = budget();
    sweeping.compare(&mut budget);
    let repository: RepositoryName = "app".parse().unwrap();
    let signature: Tag = format!("sha256-{}.sig", digest("A").encoded()).parse().unwrap();
    sweeping.bench.sweeps.clear();
    sweeping.bench.passes(60);
    let tags = [(signature.clone(), Some(digest("signature")))].into();
    sweeping.bench.find(Finding::ReferrerTags(repository.clone(), tags));
    let observed = 200..=230;
    let copies = sweeping.bench.copies.len() + sweeping.bench.machine.queue.len();
    assert!(observed.contains(&copies), "each image that was observed by now: {copies}");
    sweeping.bench.find(Finding::Done(Coverage::Whole));
    sweeping.bench.copied(Ok(()));
    let known = sweeping.bench.machine.sources[&repository].seen.tags();
    assert!(known.contains_key(&signature));
    // The next list finds it again, unread.
    sweeping.bench.passes(60);
    sweeping.bench.copies.clear();
    sweeping.bench.find(Finding::ReferrerTags(repository, [(signature, None)].into()));
    assert!(sweeping.bench.copies.is_empty(), "nothing has changed");
}

#[test]
fn a_sweep_asks_about_the_referrers_of_many_images_within_its_budget() {
    let mut stored = verified(1_000);
    stored.pairs[0].referrers_asked_at = Some(at(-10_000));
    let mut sweeping = Sweeping::new("c", 1_000, "");
    sweeping.bench = Bench::resumed(minutely(""), stored, 1_000);
    let (mut running, mut budget) = ([sweeping], budget());
    let asked = |running: &[Sweeping; 1]| {
        running[0].bench.records.iter().filter(|record| matches!(record, Record::ReferrersAsked(_))).count()
    };
    pass(&mut running, &mut budget, 30);
    assert_eq!(asked(&running), 0);
    pass(&mut running, &mut budget, 30);
    assert_eq!(asked(&running), 1, "once all of them were asked about");
    let looked = running[0].looks.values().sum::<usize>();
    assert!((1_000..=1_250).contains(&looked), "once each: {looked}");
}

#[test]
fn a_notified_tag_is_looked_at_at_once_whatever_the_sweep_does() {
    let (mut running, mut budget) = ([Sweeping::new("c", 2_000, "")], budget());
    pass(&mut running, &mut budget, 10);
    let [sweeping] = &mut running;
    let moved = tag(1_999);
    sweeping.source.insert(moved.clone(), "B");
    let wanted = sweeping.bench.machine.hints_wanted();
    let tags = vec![("app".parse().unwrap(), moved.clone(), None)];
    sweeping.bench.step(Event::Hints(Hints { tags, ..Hints::default() }));
    assert_eq!(sweeping.bench.machine.hints_wanted(), wanted - 1, "a look of its own");
    let observed = sweeping.look(&moved);
    sweeping.bench.step(Event::Looked(Looked::Seen(observed)));
    // The status forgets the earlier digest first.
    sweeping.bench.passes(10);
    assert!(sweeping.bench.copying().contains(&digest("B")));
}

/// Has a sweep of which each look fails until there is none; returns the first tag, too.
fn unreadable() -> ([Sweeping; 1], Budget, Tag) {
    let (mut running, mut budget) = ([Sweeping::new("c", 1_000, "")], budget());
    running[0].compare(&mut budget);
    let bench = &mut running[0].bench;
    let first = bench.sweeps[0].1.clone();
    let mut failures = 0;
    while let Some((repository, failed)) = bench.sweeps.pop_front() {
        bench.step(Event::Swept(Looked::Unreadable(repository, failed), None));
        failures += 1;
    }
    assert!(failures < 40, "{failures}");
    (running, budget, first)
}

#[test]
fn a_sweep_pauses_while_the_source_cannot_be_read() {
    let (mut running, mut budget, failed) = unreadable();
    assert!(running[0].bench.sweeps.is_empty(), "nothing is looked at in vain");
    pass(&mut running, &mut budget, 61);
    assert!(running[0].bench.sweeps.len() + running[0].looks.values().sum::<usize>() > 0);
    assert_eq!(running[0].comparisons, 2);
    let row =
        |sweeping: &Sweeping| sweeping.bench.machine.pairs().next().unwrap().ledger.row(&failed).cloned().unwrap();
    assert!(row(&running[0]).observed_at >= at(1_050), "the comparison looks at it itself");
}

#[test]
fn a_missing_repository_stops_no_sweep_of_the_others() {
    let (mut running, ..) = unreadable();
    let bench = &mut running[0].bench;
    bench.passes(61);
    bench.find(Finding::Done(Coverage::Partial));
    assert!(!bench.sweeps.is_empty(), "no comparison is whole while it is missing");
}

#[test]
fn a_restart_does_not_begin_with_the_first_tag_again() {
    let first = |second: i64| {
        let mut bench = Bench::resumed(minutely(""), verified(10_000), second);
        let source: Vec<Tag> = (0..10_000).map(tag).collect();
        bench.find(Finding::Repositories {
            names: ["app".parse().unwrap()].into(),
            unmatched: BTreeSet::new(),
            invalid: InvalidNames::default(),
            sent_at: bench.now,
        });
        let (narrowed, left_out, invalid) = Default::default();
        let (repository, sent_at) = ("app".parse().unwrap(), bench.now);
        let tags = source.into_iter().collect();
        bench.find(Finding::Tags(Listed { repository, tags, narrowed, sent_at, left_out, invalid }));
        bench.find(Finding::Done(Coverage::Whole));
        bench.sweeps.front().unwrap().1.to_string()[1..].parse::<i64>().unwrap()
    };
    let (begun, later) = (first(1_000), first(1_100));
    assert_eq!((later - begun).rem_euclid(10_000), 2_000, "as many as 100 seconds allow");
}

#[test]
fn a_sweep_that_is_longer_than_the_objective_is_a_condition() {
    let (mut running, mut budget) = ([Sweeping::new("c", 3_000, ", lagObjective: 60s")], budget());
    let condition = |running: &[Sweeping; 1]| {
        let bench = &running[0].bench;
        let status = configuration_status("a", &bench.report, &Default::default(), bench.now);
        status.conditions.into_iter().find(|condition| condition.type_ == "SweepExceedsLagObjective")
    };
    pass(&mut running, &mut budget, 50);
    assert_eq!(condition(&running), None, "it has just begun");
    pass(&mut running, &mut budget, 50);
    let message = condition(&running).unwrap().message;
    assert!(message.contains("sweepRequestsPerSecond") && message.contains("immutableTags"), "{message}");
    pass(&mut running, &mut budget, 100);
    let (since, report) = (condition(&running), running[0].bench.report.clone());
    assert!(running[0].bench.is_ready() && since.is_some());
    running[0].source.retain(|name, _| *name < tag(100));
    pass(&mut running, &mut budget, 400);
    assert_eq!(condition(&running), None, "fewer tags are left, since {report:?}");
}
