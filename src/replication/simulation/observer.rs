//! The observer of a process, in the model: requests to the source, each answered with what is there at some moment in
//! between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::deletion_oracles::TakenList;
use super::names::{Content, Millis, at, digest, repository, repository_index, tag, tag_index};
use super::world::{Target, Task, World};
use crate::image::{InvalidNames, Tag};
use crate::plan::{ComparedTag, Configuration, CreationDate, FailedRead, Problem};
use crate::replication::machine::{
    ComparisonId, Coverage, Event, Finding, Hints, KnownLooks, Listed, Looked, Looks, Observed, Unread,
};
use crate::terms::{FailureCode, reason};

/// A comparison that is under way.
#[derive(Debug)]
pub(super) struct Comparing {
    pub id: ComparisonId,
    configuration: Arc<Configuration>,
    listed: BTreeSet<usize>,
    waiting: VecDeque<usize>,
    tags: BTreeSet<usize>,
    outstanding: usize,
    is_whole_repository: bool,
    is_whole: bool,
}

/// A switch for `make mutants`: a list that ended in an error counts as complete.
const PARTIAL_LISTS_COUNT: bool = false;

/// A request to the source.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub target: Target,
    /// `None` for a hint.
    pub comparison: Option<ComparisonId>,
    pub kind: Kind,
    pub sent_at: Millis,
}

/// A request to the source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Catalog,
    Tags(usize),
    Digest(usize, usize),
    /// A look at a known tag.
    Swept(usize, usize),
}

/// An answer of the source.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Error,
    /// A list, and whether it is a lie.
    List(BTreeSet<usize>, bool),
    Digest(Option<Content>),
    /// A list that ended in an error after some of its pages.
    Partial(BTreeSet<usize>),
    /// The tag is listed and kept back.
    Withheld,
}

impl World {
    pub(super) fn compare(&mut self, target: Target, id: ComparisonId) {
        let Some(running) = self.running(target) else { return };
        let configuration = running.machine.configuration().expect("a comparison of a valid spec").clone();
        let needs_listing = configuration.selection.needs_listing();
        running.comparing = Some(Comparing {
            id,
            configuration,
            listed: BTreeSet::new(),
            waiting: VecDeque::new(),
            tags: BTreeSet::new(),
            outstanding: 0,
            is_whole_repository: true,
            is_whole: true,
        });
        if needs_listing {
            self.request(target, Some(id), Kind::Catalog);
        } else {
            let request = Request { target, comparison: Some(id), kind: Kind::Catalog, sent_at: self.now };
            self.after(0, Task::Answer(request, Answer::List(BTreeSet::new(), false)));
        }
    }

    pub(super) fn look(&mut self, target: Target, repository: usize, tag: usize) {
        self.request(target, None, Kind::Digest(repository, tag));
    }

    /// Looks at a known tag: it waits for its turn.
    pub(super) fn sweep(&mut self, target: Target, repository: usize, tag: usize) {
        self.request(target, None, Kind::Swept(repository, tag));
    }

    fn request(&mut self, target: Target, comparison: Option<ComparisonId>, kind: Kind) {
        let request = Request { target, comparison, kind, sent_at: self.now };
        let delay = self.delay();
        self.after(delay, Task::Taken(request));
    }

    /// The source answers with what is there now.
    pub(super) fn take(&mut self, request: Request) {
        let reader = (request.target.process, request.target.configuration);
        let answer = if self.now < self.source.down_until {
            Answer::Error
        } else {
            match request.kind {
                Kind::Catalog => {
                    let (list, is_lie) = self.source.catalog(reader);
                    Answer::List(list, is_lie)
                }
                Kind::Tags(repository) if self.source.breaks_list(repository) => {
                    let tags = self.source.tags(repository).into_iter().take(1);
                    Answer::Partial(tags.collect())
                }
                Kind::Tags(repository) => {
                    let (list, is_lie) = self.source.list(reader, repository);
                    Answer::List(list, is_lie)
                }
                Kind::Digest(repository, tag) | Kind::Swept(repository, tag)
                    if self.source.withholds(repository, tag) =>
                {
                    Answer::Withheld
                }
                Kind::Digest(repository, tag) | Kind::Swept(repository, tag) => {
                    Answer::Digest(self.source.repositories[repository].tags[tag].now())
                }
            }
        };
        let delay = self.delay();
        self.after(delay, Task::Answer(request, answer));
    }

    pub(super) fn answer(&mut self, request: Request, answer: Answer) {
        let (target, sent_at) = (request.target, at(self.now));
        let Some(running) = self.running(target) else { return };
        if !running.machine.takes_findings(sent_at) {
            return self.after(1_000, Task::Answer(request, answer));
        }
        let Some(id) = request.comparison else {
            return match request.kind {
                Kind::Tags(repository) => self.listed(&request, repository, answer),
                _ => self.looked(&request, &answer),
            };
        };
        if running.comparing.as_ref().is_none_or(|comparing| comparing.id != id) {
            return; // It was stopped.
        }
        match (request.kind, answer) {
            (Kind::Catalog, Answer::List(listed, is_lie)) => {
                self.source.taken((target.process, target.configuration), None, is_lie);
                self.take_catalog(&request, listed);
            }
            (Kind::Catalog, _) => {
                self.find(target, id, Finding::Problem(unreadable()));
                self.find(target, id, Finding::Done(Coverage::Partial));
            }
            (Kind::Tags(repository), Answer::List(listed, is_lie)) => {
                self.source.taken((target.process, target.configuration), Some(repository), is_lie);
                self.note_list(&request, repository, &listed, is_lie);
                self.take_list(&request, repository, &listed);
            }
            (Kind::Tags(repository), Answer::Partial(listed)) if PARTIAL_LISTS_COUNT => {
                self.take_list(&request, repository, &listed);
            }
            (Kind::Tags(_), _) => self.unreadable_repository(target, id, unreadable()),
            (Kind::Digest(repository, tag), answer) => self.take_digest(&request, repository, tag, &answer),
            (Kind::Swept(..), _) => {}
        }
    }

    fn find(&mut self, target: Target, id: ComparisonId, finding: Finding) {
        self.after(0, Task::Event(target, Event::Found(id, finding)));
    }

    fn comparing(&mut self, target: Target) -> &mut Comparing {
        self.running(target).and_then(|running| running.comparing.as_mut()).expect("a comparison that is under way")
    }

    fn take_catalog(&mut self, request: &Request, listed: BTreeSet<usize>) {
        let (target, id) = (request.target, request.comparison.unwrap_or_default());
        let comparing = self.comparing(target);
        let selection = &comparing.configuration.selection;
        let exact = selection.exact_repositories().into_iter().map(|name| repository_index(name.as_str()));
        let names: BTreeSet<usize> = exact.chain(listed.iter().copied()).collect();
        let names = names.into_iter().filter(|index| !selection.matches(&repository(*index)).is_empty());
        comparing.waiting = names.collect();
        comparing.listed = listed;
        let names = comparing.waiting.iter().map(|index| repository(*index)).collect();
        self.find(
            target,
            id,
            Finding::Repositories {
                names,
                unmatched: BTreeSet::new(),
                invalid: InvalidNames::default(),
                sent_at: at(request.sent_at),
            },
        );
        self.next_repository(target, id);
    }

    fn next_repository(&mut self, target: Target, id: ComparisonId) {
        let comparing = self.comparing(target);
        comparing.is_whole_repository = true;
        match comparing.waiting.pop_front() {
            Some(index) => {
                self.find(target, id, Finding::Opened(repository(index)));
                self.request(target, Some(id), Kind::Tags(index));
            }
            None => {
                let coverage = if comparing.is_whole { Coverage::Whole } else { Coverage::Partial };
                self.find(target, id, Finding::Done(coverage));
            }
        }
    }

    fn unreadable_repository(&mut self, target: Target, id: ComparisonId, problem: Problem) {
        self.comparing(target).is_whole = false;
        self.find(target, id, Finding::Problem(problem));
        self.next_repository(target, id);
    }

    fn take_list(&mut self, request: &Request, index: usize, listed: &BTreeSet<usize>) {
        let (target, id) = (request.target, request.comparison.unwrap_or_default());
        let comparing = self.comparing(target);
        if listed.is_empty() && !comparing.listed.contains(&index) {
            let message = format!("there is no repository {}", repository(index));
            let problem = Problem { stalled: true, reason: reason::REPOSITORY_NOT_FOUND, message };
            return self.unreadable_repository(target, id, problem);
        }
        let choice = comparing.configuration.selection.tags_of(&repository(index));
        let tags: BTreeSet<Tag> = listed.iter().map(|index| tag(*index)).filter(|tag| choice.takes(tag)).collect();
        let left_out = (listed.len() - tags.len(), String::new());
        let invalid = InvalidNames::default();
        let (tags, narrowed) = choice.narrow(tags, &BTreeMap::new());
        comparing.tags = tags.iter().map(tag_index).collect();
        let sent_at = at(request.sent_at);
        let listed = Listed { repository: repository(index), tags, narrowed, sent_at, left_out, invalid };
        self.find(target, id, Finding::Tags(listed));
    }

    /// Observes the tags of a repository, as the state machine wants.
    pub(super) fn observe(&mut self, target: Target, id: ComparisonId, looks: &Looks) {
        let index = repository_index(looks.repository.as_str());
        let Some(comparing) = self.running(target).and_then(|running| running.comparing.as_mut()) else { return };
        let mut tags = std::mem::take(&mut comparing.tags);
        if let KnownLooks::Only(due) | KnownLooks::WithinBudget(due) = &looks.known {
            let is_spent = matches!(looks.known, KnownLooks::Only(_));
            tags.retain(|number| due.contains(&tag(*number)) || (!is_spent && self.chance(50)));
        }
        self.comparing(target).outstanding = tags.len();
        if tags.is_empty() {
            return self.close(target, id, index);
        }
        for tag in tags {
            self.request(target, Some(id), Kind::Digest(index, tag));
        }
    }

    fn take_digest(&mut self, request: &Request, index: usize, tag_number: usize, answer: &Answer) {
        let (target, id) = (request.target, request.comparison.unwrap_or_default());
        let finding = match answer {
            Answer::Digest(Some(_)) => Some(Finding::Image(observed(request, index, tag_number, answer))),
            // A second list lacks it.
            Answer::Digest(None) => None,
            Answer::Withheld => Some(unread(request, index, tag_number, FailureCode::SourceDenied)),
            _ => {
                self.comparing(target).is_whole_repository = false;
                Some(unread(request, index, tag_number, FailureCode::SourceUnavailable))
            }
        };
        finding.into_iter().for_each(|finding| self.find(target, id, finding));
        let comparing = self.comparing(target);
        comparing.outstanding -= 1;
        if comparing.outstanding == 0 {
            self.close(target, id, index);
        }
    }

    fn close(&mut self, target: Target, id: ComparisonId, index: usize) {
        if self.comparing(target).is_whole_repository {
            self.find(target, id, Finding::Closed(repository(index)));
            self.source.closed((target.process, target.configuration), index);
        }
        self.next_repository(target, id);
    }

    /// Lists a repository in which something was deleted.
    pub(super) fn list_tags(&mut self, target: Target, repository: usize) {
        self.request(target, None, Kind::Tags(repository));
    }

    fn listed(&mut self, request: &Request, index: usize, answer: Answer) {
        let target = request.target;
        let shown = match answer {
            Answer::List(shown, is_lie) => {
                self.source.taken((target.process, target.configuration), Some(index), is_lie);
                self.note_list(request, index, &shown, is_lie);
                Some(shown)
            }
            Answer::Partial(shown) if PARTIAL_LISTS_COUNT => Some(shown),
            _ => None,
        };
        let configuration = self.running(target).and_then(|running| running.machine.configuration().cloned());
        let listed = shown.zip(configuration).map(|(shown, configuration)| {
            let choice = configuration.selection.tags_of(&repository(index));
            let tags = shown.iter().map(|index| tag(*index)).filter(|tag| choice.takes(tag)).collect();
            let (narrowed, left_out, invalid) = Default::default();
            let sent_at = at(request.sent_at);
            Box::new(Listed { repository: repository(index), tags, narrowed, sent_at, left_out, invalid })
        });
        self.after(0, Task::Event(target, Event::TagsListed(repository(index), listed)));
    }

    fn note_list(&mut self, request: &Request, index: usize, shown: &BTreeSet<usize>, is_lie: bool) {
        let Target { process, configuration } = request.target;
        let Some(running) = self.running(request.target) else { return };
        let Ok(configured) = &running.machine.orders().configuration else { return };
        let rule = &configured.selection.rules[0];
        if rule.newest.is_some() && request.comparison.is_none() {
            return; // It does not say which tags are the newest.
        }
        let newer_first = shown.iter().rev().filter(|number| rule.tags.takes(&ComparedTag::new(&tag(**number))));
        let count = rule.newest.map_or(usize::MAX, |newest| newest.count as usize);
        let (outside, choice) = (newer_first.skip(count).copied().collect(), rule.choice_hash.clone());
        let (sent_at, taken_at, shown) = (request.sent_at, self.now, shown.clone());
        let list = TakenList { process, sent_at, taken_at, shown, outside, choice, is_lie };
        self.oracles.deletions.listed(configuration, index, list);
    }

    fn looked(&mut self, request: &Request, answer: &Answer) {
        let (Kind::Digest(index, tag) | Kind::Swept(index, tag)) = request.kind else { return };
        let looked = match answer {
            Answer::Digest(Some(_)) => Looked::Seen(observed(request, index, tag, answer)),
            Answer::Digest(None) => Looked::Absent(repository(index), self::tag(tag)),
            _ => Looked::Unreadable(repository(index), self::tag(tag)),
        };
        let is_swept = matches!(request.kind, Kind::Swept(..));
        let event = if is_swept { Event::Swept(looked, None) } else { Event::Looked(looked) };
        self.after(0, Task::Event(request.target, event));
    }

    /// A notification of a push reaches a process, some time, several times, or never.
    pub(super) fn hint(&mut self, index: usize, number: usize) {
        let tags = vec![(repository(index), tag(number), None)];
        self.notify_of(&Hints { tags, ..Hints::default() });
    }

    /// A notification of a deletion does.
    pub(super) fn hint_deleted(&mut self, index: usize) {
        self.notify_of(&Hints { deleted_in: [repository(index)].into(), ..Hints::default() });
    }

    fn notify_of(&mut self, hints: &Hints) {
        let Some(process) = self.leader else { return };
        let times = [0, 1, 1, 1, 1, 2][self.pick(6)];
        for _ in 0..times {
            for configuration in 0..self.declared.len() {
                let hints = Hints { overflown: self.chance(2), ..hints.clone() };
                let delay = self.delay();
                self.after(delay, Task::Event(Target { process, configuration }, Event::Hints(hints)));
            }
        }
    }
}

fn observed(request: &Request, index: usize, number: usize, answer: &Answer) -> Observed {
    let Answer::Digest(Some(content)) = answer else { unreachable!("only called where there is a digest") };
    Observed {
        repository: repository(index),
        tag: tag(number),
        digest: digest(*content),
        sent_at: at(request.sent_at),
        pushed_at: None,
        created: CreationDate::Unknown,
        with_referrers: false,
    }
}

fn unread(request: &Request, index: usize, number: usize, code: FailureCode) -> Finding {
    let (message, is_of_tag) = ("the tag cannot be read".to_owned(), code == FailureCode::SourceDenied);
    let failed = FailedRead { code, message, is_of_tag };
    Finding::Unread(Unread { repository: repository(index), tag: tag(number), failed, sent_at: at(request.sent_at) })
}

fn unreadable() -> Problem {
    Problem { stalled: false, reason: reason::SOURCE_UNREADABLE, message: "the source does not answer".to_owned() }
}
