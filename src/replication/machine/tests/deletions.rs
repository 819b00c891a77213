//! Deletions of images that have left the source: the lists that prove it.

use super::*;
use crate::plan::Removal;
use crate::policy::Policy;
use crate::terms::RegistryPermissionPolicySpec;

pub(super) const RULE: &str = "deleteReplication: {enabled: true},";

/// Returns orders under which the owner of the destination allows deletions.
pub(super) fn deleting(generation: i64, rule: &str) -> Orders {
    let policy = "{registryRef: {name: d}, statements: [{sid: s, effect: Allow, principals: [{namespace: a}], \
                  actions: [DeleteImage], resources: ['*']}]}";
    let spec: RegistryPermissionPolicySpec = serde_saphyr::from_str(policy).unwrap();
    let policies = [("a".to_owned(), vec![Policy { name: "p".to_owned(), spec: Some(spec) }])].into();
    Orders { policies: Arc::new(policies), ..orders(generation, rule) }
}

/// A destination that answers to copies and deletions, and a source whose lists a script says.
pub(super) struct Play {
    pub(super) bench: Bench,
    pub(super) orders: Orders,
    /// The results of the next deletions; all others succeed.
    results: VecDeque<Result<Removal, FailureCode>>,
    deleted: Vec<(String, Digest)>,
    /// True while the destination deletes nothing.
    refuses: bool,
    /// Copies of these tags fail.
    failing: BTreeSet<String>,
    requests: u32,
}

impl Play {
    /// Replicates these tags; the content of each is its name.
    pub(super) fn new(rule: &str, tags: &str) -> Self {
        let orders = deleting(1, rule);
        let bench = Bench::resumed(orders.clone(), Stored::default(), 0);
        let (results, deleted, failing) = (VecDeque::new(), Vec::new(), BTreeSet::new());
        let mut play = Self { bench, orders, results, deleted, refuses: false, failing, requests: 0 };
        play.list(tags);
        play.pass(10);
        play
    }

    /// Has the destination delete nothing from now on, or everything again.
    pub(super) fn refuse_deletions(&mut self, refuses: bool) {
        self.refuses = refuses;
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.bench.passes(seconds);
        self.settle();
    }

    /// Ends everything that runs.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let failing = |copy: &Arc<Assignment>| self.failing.contains(copy.tag.as_str());
            if let Some((id, deletion)) = self.bench.deletions.pop_first() {
                let usual = if self.refuses { Err(FailureCode::DestinationUnavailable) } else { Ok(Removal::Done) };
                let result = self.results.pop_front().unwrap_or(usual);
                if result == Ok(Removal::Done) {
                    let Assignment { tag, written, .. } = deletion.assignment.as_ref();
                    self.deleted.push((tag.to_string(), written.clone().unwrap()));
                }
                let result = result.map_err(|code| CodedError::new(code, "no".to_owned()));
                let outcome = DeletionOutcome { result, is_unanswered: false };
                self.bench.step(Event::TagDeleted(id, Some(outcome), 0.5));
            } else if self.bench.copies.values().any(failing) {
                let copies = std::mem::take(&mut self.bench.copies);
                let (fail, rest): (Vec<_>, Vec<_>) = copies.into_iter().partition(|(_, copy)| failing(copy));
                self.bench.copies = fail.into_iter().collect();
                self.bench.copied(Err(FailureCode::SourceUnavailable));
                self.bench.copies.extend(rest);
            } else if !self.bench.copies.is_empty() {
                self.bench.copied(Ok(()));
            } else if self.bench.machine.wake_at(self.bench.now).is_some_and(|at| at <= self.bench.now) {
                self.bench.step(Event::Wake);
                if self.bench.deletions.is_empty() && self.bench.copies.is_empty() {
                    return;
                }
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Has a comparison begin now.
    pub(super) fn begin(&mut self) {
        self.requests += 1;
        self.orders.request = Some(self.requests.to_string());
        self.bench.step(Event::Orders(Arc::new(self.orders.clone())));
    }

    /// A comparison that lists these tags: letters, each with a digit where its content is another than its name.
    pub(super) fn list(&mut self, tags: &str) {
        if !self.bench.machine.is_comparing() {
            self.begin();
        }
        let tags = parse(tags);
        let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), content.as_str())).collect();
        self.bench.compare(&[("app", &tags)], true);
        self.settle();
    }

    /// A comparison that cannot read the list of tags.
    fn fail_to_list(&mut self) {
        self.begin();
        let names = ["app".parse().unwrap()].into();
        let (unmatched, invalid, sent_at) = (BTreeSet::new(), InvalidNames::default(), self.bench.now);
        self.bench.find(Finding::Repositories { names, unmatched, invalid, sent_at });
        self.bench.find(Finding::Opened("app".parse().unwrap()));
        let (reason, message) = (reason::SOURCE_UNREADABLE, "429".to_owned());
        self.bench.find(Finding::Problem(Problem { stalled: false, reason, message }));
        self.bench.find(Finding::Done(Coverage::Partial));
        self.settle();
    }

    pub(super) fn order(&mut self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders);
        self.orders.generation = self.orders.generation.map(|generation| generation + 1);
        self.bench.step(Event::Orders(Arc::new(self.orders.clone())));
        self.settle();
    }

    pub(super) fn respecify(&mut self, rule: &str) {
        let configuration = orders(1, rule).configuration;
        self.order(|orders| orders.configuration = configuration);
    }

    /// Another process goes on, with files that hold records or with the statuses alone.
    pub(super) fn restart(&mut self, with_records: bool) {
        let mut stored = self.bench.stored();
        if with_records {
            let missed = self.bench.records.iter().rev().find_map(|record| match record {
                Record::Missed(missed) => Some(missed.clone()),
                _ => None,
            });
            stored.pairs.iter_mut().for_each(|pair| pair.missed = missed.clone().unwrap_or_default());
            let choice = self.bench.records.iter().rev().find_map(|record| match record {
                Record::Chosen(choice) => Some(choice.clone()),
                _ => None,
            });
            stored.pairs.iter_mut().for_each(|pair| pair.choice = choice.clone().flatten());
        }
        let (statuses, identities) = (self.bench.statuses.clone(), self.bench.identities.clone());
        let second = self.bench.now.as_second() - at(0).as_second();
        let records = std::mem::take(&mut self.bench.records);
        self.bench = Bench::resumed(self.orders.clone(), stored, second);
        (self.bench.statuses, self.bench.identities) = (statuses, identities);
        self.bench.records = if with_records { records } else { Vec::new() };
        self.settle();
    }

    pub(super) fn play(&mut self, script: &str) {
        for word in script.split_whitespace() {
            let (op, rest) = word.split_at(1);
            match op {
                "." => self.pass(600),
                "+" => self.pass(rest.parse().unwrap()),
                "L" => self.list(&rest[1..]),
                "E" => self.list(""),
                "P" => self.fail_to_list(),
                "C" | "O" => {
                    if !self.bench.machine.is_comparing() {
                        self.begin();
                    }
                    let other: &[(&str, &[(&str, &str)])] = if op == "O" { &[("other", &[("x", "1")])] } else { &[] };
                    self.bench.compare(other, true);
                    self.settle();
                }
                ">" | "!" => {
                    let (tag, content) = parse(rest).remove(0);
                    if op == "!" {
                        self.failing.insert(tag.clone());
                    }
                    self.bench.pushed(&tag, &content);
                    self.settle();
                }
                "<" => {
                    let absent = Looked::Absent("app".parse().unwrap(), rest.parse().unwrap());
                    self.bench.step(Event::Looked(absent));
                    self.settle();
                }
                "^" => self.hint(Some(rest)),
                "R" | "F" => self.restart(op == "F"),
                "X" => self.bench.step(Event::Frozen),
                "S" => self.respecify_as(|spec| spec.replace("interval: 10m,", "interval: 10m, suspend: true,")),
                "U" | "W" => self.respecify(RULE),
                "D" => self.respecify(""),
                "N" => self.respecify(&format!("{RULE} excludeTagFilters: [{{filter: d, filterType: EXACT_MATCH}}],")),
                "Z" => self.order(|orders| orders.policies = Arc::default()),
                "Y" => self.order(|orders| orders.policies = deleting(1, RULE).policies),
                "@" => self.results.push_back(Ok(Removal::AtSource)),
                "#" => self.results.push_back(Ok(Removal::Changed(digest("other")))),
                "0" => self.results.push_back(Ok(Removal::Absent)),
                "?" => self.results.push_back(Err(FailureCode::DestinationUnavailable)),
                _ => panic!("{word}"),
            }
        }
    }

    /// A notification says that something was deleted, and the repository is listed with these tags; `None` if the list
    /// fails.
    pub(super) fn hint(&mut self, tags: Option<&str>) {
        let repository: RepositoryName = "app".parse().unwrap();
        self.bench.step(Event::Hints(Hints { deleted_in: [repository.clone()].into(), ..Hints::default() }));
        self.bench.passes(10);
        let asked = std::mem::take(&mut self.bench.lists);
        assert_eq!(asked, std::slice::from_ref(&repository));
        let listed = tags.map(|tags| {
            let tags = parse(tags).into_iter().map(|(tag, _)| tag.parse().unwrap()).collect();
            let ((narrowed, left_out, invalid), sent_at) = (Default::default(), self.bench.now);
            Box::new(Listed { repository: repository.clone(), tags, narrowed, sent_at, left_out, invalid })
        });
        self.bench.step(Event::TagsListed(repository, listed));
        self.settle();
    }

    fn respecify_as(&mut self, change: impl Fn(String) -> String) {
        let spec = change(SPEC.replace("RULE", RULE));
        let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
        self.order(|orders| orders.configuration = parse_configuration("a", "c", &spec).map(Arc::new));
    }

    pub(super) fn deleted(&self) -> String {
        let mut tags: Vec<&str> = self.deleted.iter().map(|(tag, _)| tag.as_str()).collect();
        tags.sort_unstable();
        tags.concat()
    }

    /// Returns the reason and the message of the condition about deletions that wait.
    pub(super) fn held(&self) -> Option<(&'static str, String)> {
        self.bench.report.held_deletions.clone()
    }
}

fn parse(tags: &str) -> Vec<(String, String)> {
    let mut parsed: Vec<(String, String)> = Vec::new();
    for character in tags.chars() {
        match (character.is_ascii_digit(), parsed.last_mut()) {
            (true, Some(last)) => last.1 = format!("{}{character}", last.0),
            _ => parsed.push((character.to_string(), character.to_string())),
        }
    }
    parsed
}

#[test]
fn the_history_of_the_lists_says_what_is_deleted() {
    assert!(HISTORIES.len() >= 60);
    for (script, expected) in HISTORIES {
        let mut play = Play::new(RULE, "abcd");
        play.play(script);
        assert_eq!(play.deleted(), *expected, "{script}");
    }
}

#[test]
fn the_recorded_digest_is_what_is_deleted() {
    for (script, content) in [(". L:abcd2 . L:abc . L:abc", "d2"), (". !d2 . L:abc . L:abc", "d")] {
        let mut play = Play::new(RULE, "abcd");
        play.play(script);
        assert_eq!(play.deleted, [("d".to_owned(), digest(content))], "{script}");
        let status = play.bench.statuses.values().next().unwrap();
        assert!(status.images.iter().all(|image| image.tag != "d"), "it leaves the status");
    }
}

/// Histories of lists, and the tags that are deleted. a, b, c and d are replicated. `.` is an interval, `+9` seconds, `L:ab` a complete list, `E` an empty one, `P` one
/// that fails, `C` an empty catalog and `O` one of another repository; `>d` a push of d and `d2` another content of it,
/// `!d` one whose copy fails, `<d` a look that does not find d, `^ab` a notification of a deletion and, ten seconds
/// later, the list that it asks for; `R` and `F` a restart with statuses and with files, `X` a
/// process that was frozen, `S` and `U` a suspension and its end, `D` and `W` deletions off and on, `N` a filter that
/// leaves d out, `Z` and `Y` consent withdrawn and given; `@`, `#`, `0` and `?` a deletion that finds the tag at the
/// source, another digest or nothing at the destination, or fails.
const HISTORIES: &[(&str, &str)] = &[
    (". L:abc", ""),
    (". L:abc . L:abc", "d"),
    (". L:abc +599 L:abc", ""),
    (". L:abc +599 L:abc +1 L:abc", "d"),
    (". L:abc +1 L:abc +1 L:abc +1 L:abc", ""),
    (". L:ab . L:ab", "cd"),
    (". L:abc . L:ab", "d"),
    (". L:abc . L:ab . L:ab", "cd"),
    (". L:a . L:a", "bcd"),
    (". L:abcd . L:abcd", ""),
    // flapping
    (". L:abc . L:abcd", ""),
    (". L:abc . L:abcd . L:abc", ""),
    (". L:abc . L:abcd . L:abc . L:abc", "d"),
    (". L:abc . L:abd . L:abc . L:abd . L:abc", ""),
    (". L:abc . L:abcd . L:abc . L:abcd . L:abc", ""),
    (". L:abc +300 L:abcd +300 L:abc", ""),
    // pushed again
    (". L:abc >d . L:abc", ""),
    (". L:abc >d . L:abc . L:abc", "d"),
    (". L:abc >d2 . L:abc", ""),
    (". L:abc >d2 . L:abcd2", ""),
    (". L:abc . >d L:abc", ""),
    (". L:abc . L:abc >d . L:abcd", "d"),
    (". L:abc . L:abc >d . L:abc", "d"),
    (". L:abc . L:abc >d . L:abc . L:abc", "dd"),
    // moved
    (". L:abcd2 . L:abc . L:abc", "d"),
    (". L:abc . L:abcd2 . L:abc . L:abc", "d"),
    (". L:abcd2 . L:abcd3 . L:abc", ""),
    (". !d2 . L:abc . L:abc", "d"),
    (". !e . L:abcd . L:abcd", ""),
    // lists that fail
    (". P . P . P", ""),
    (". L:abc . P", ""),
    (". P . L:abc", ""),
    (". P . L:abc . P", ""),
    (". L:abc . P . L:abc", "d"),
    (". L:abc P . P . L:abcd", ""),
    (". L:abc P +300 P +200 P L:abc", ""),
    // empty lists
    (". E", ""),
    (". E . E . E . E", ""),
    (". L:abc . E", ""),
    (". L:abc . E . L:abc", "d"),
    (". L:abc . E . E . E", ""),
    (". E . L:abc", ""),
    (". E . L:abc . L:abc", "d"),
    (". E . E . L:abc", ""),
    (". E . E . L:abc . L:abc", "d"),
    (". E . E F L:abc", ""),
    // catalogs
    (". C . C . C", ""),
    (". L:abc . C . L:abc", "d"),
    (". O . O . O", ""),
    (". L:abc . O . O . L:abc . L:abc", ""),
    // restarts
    (". L:abc R . L:abc", ""),
    (". L:abc R L:abc . L:abc", "d"),
    (". L:abc R . L:abc . L:abc", "d"),
    (". L:abc R R L:abc R . L:abc", ""),
    (". L:abc F L:abc", ""),
    (". L:abc F . L:abc", "d"),
    (". L:abc . F L:abc", "d"),
    (". F L:abc . F L:abc", "d"),
    (". L:abc >d F . L:abc", ""),
    (". L:abc . F L:abcd . L:abc", ""),
    (". L:abc . F P . P", ""),
    (". L:abc . F E", ""),
    (". L:abc X . L:abc", "d"),
    (". L:abc . X", ""),
    // notifications
    (". <d . <d . <d", ""),
    (". <d L:abc", ""),
    (". <d L:abc . L:abc", "d"),
    (". L:abc <d", ""),
    (". <d >d L:abcd . L:abc", ""),
    (". ^abc", ""),
    (". ^abc ^abc ^abc", ""),
    (". ^abc . L:abc", "d"),
    (". ^abc +580 L:abc", ""),
    (". L:abc +590 ^abc", "d"),
    (". L:abc +580 ^abc", ""),
    (". ^abc ^abcd . L:abc", ""),
    (". L:abc ^abcd . L:abc", ""),
    (". ^abc >d . L:abc", ""),
    (". ^ ^ ^ . L:abcd", ""),
    (". ^ . L:abc", ""),
    (". L:abc . ^", ""),
    (". ^abc R . L:abc", ""),
    (". ^abc F . L:abc", "d"),
    (". ^abc X . L:abc", "d"),
    // specs and consent
    (". L:abc . S", ""),
    (". L:abc S . . U L:abc", "d"),
    (". N L:abc . L:abc . L:abc", ""),
    (". L:abc N . L:abc . L:abc", ""),
    (". D L:abc . L:abc W . L:abc . L:abc", ""),
    (". L:abc D L:abc W . L:abc . L:abc", ""),
    (". Z L:abc . L:abc . L:abc", ""),
    (". Z L:abc . L:abc Y", "d"),
    (". L:abc Z . L:abc >d Y . L:abcd", ""),
    // the destination, and a last look at the source
    ("@ . L:abc . L:abc", ""),
    ("@ . L:abc . L:abc . L:abc", ""),
    ("@ . L:abc . L:abc . L:abc . L:abc", "d"),
    ("# . L:abc . L:abc . L:abc . L:abc", ""),
    ("0 . L:abc . L:abc . L:abc . L:abc", ""),
    ("? . L:abc . L:abc", ""),
    ("? . L:abc . L:abc .", "d"),
    ("? . L:abc . L:abc >d . L:abcd", ""),
];
