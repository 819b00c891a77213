//! Invariants of deletions: the lists that prove them, the brake, consent, and the digest that is recorded.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::names::{Content, Key, Millis, TAGS, at, content, repository_index, tag_index};
use super::process::Running;
use super::schedule::PROOF;
use super::world::{Target, World};
use crate::plan::{Configuration, DeletionBrake, Pace, RepositoryAddress};
use crate::replication::machine::{Assignment, CopyId};

/// The memory of the oracles about deletions.
#[derive(Debug, Default)]
pub(super) struct DeletionOracles {
    /// The complete lists of the tags of a repository that a configuration took, in their order.
    lists: HashMap<(usize, usize), Vec<TakenList>>,
    /// The images at a place whose deletion was decided by a configuration.
    counted: HashMap<(usize, RepositoryAddress), CountedImages>,
    /// The images that were leaving when a person approved that.
    approved: BTreeSet<(usize, Key, Content)>,
    /// Tags of repositories that a configuration has taken by a choice of its rule.
    chosen: BTreeSet<(usize, usize, usize, String)>,
}

/// Tags with their contents; true if a person approved it.
type CountedImages = BTreeSet<(usize, Content, bool)>;

/// A complete list of the tags of a repository.
#[derive(Debug)]
pub(super) struct TakenList {
    pub process: u32,
    pub sent_at: Millis,
    pub taken_at: Millis,
    pub shown: BTreeSet<usize>,
    /// Those of them that the filters take, and that are not among the newest.
    pub outside: BTreeSet<usize>,
    /// The fingerprint of the rule by which they are outside.
    pub choice: String,
    pub is_lie: bool,
}

impl TakenList {
    /// Returns true if the list has the tag, as one that is to be replicated.
    fn has(&self, tag: usize) -> bool {
        self.shown.contains(&tag) && !self.outside.contains(&tag)
    }
}

impl DeletionOracles {
    pub(super) fn listed(&mut self, configuration: usize, repository: usize, list: TakenList) {
        let chosen = list.shown.iter().filter(|tag| list.has(**tag));
        let chosen = chosen.map(|tag| (configuration, repository, *tag, list.choice.clone()));
        self.chosen.extend(chosen.collect::<Vec<_>>());
        self.lists.entry((configuration, repository)).or_default().push(list);
    }

    /// A tag is copied by a choice.
    pub(super) fn copied(&mut self, configuration: usize, key: Key, choice: &str) {
        self.chosen.insert((configuration, key.repository, key.tag, choice.to_owned()));
    }

    /// Returns true if by a choice the lists of a process over an interval have the tag, and newer ones that take its
    /// place.
    pub(super) fn is_outside(
        &self,
        target: Target,
        (repository, tag, choice): (usize, usize, &str),
        (interval, times): (Millis, Range<Millis>),
    ) -> bool {
        let lists = self.lists.get(&(target.configuration, repository)).map(Vec::as_slice).unwrap_or_default();
        let mut own = lists.iter().rev().filter(|list| list.process == target.process);
        let is_outside =
            |last: &&TakenList| last.choice == choice && last.outside.contains(&tag) && last.taken_at < times.end;
        let Some(last) = own.next().filter(is_outside) else { return false };
        own.take_while(|list| list.sent_at >= times.start && list.outside.contains(&tag))
            .any(|list| last.sent_at >= list.taken_at + interval)
    }

    /// The status of a place is gone, and with it what it counted.
    pub(super) fn uncount(&mut self, configuration: usize, place: &RepositoryAddress) {
        self.counted.remove(&(configuration, place.clone()));
    }

    /// A person approves what a process wants to delete.
    pub(super) fn approve(&mut self, configuration: usize, running: &Running) {
        for pair in running.machine.pairs() {
            let leaving = pair.ledger.leaving();
            let leaving = leaving.map(|(tag, digest)| (configuration, Key::in_pair(pair, tag), content(digest)));
            self.approved.extend(leaving);
        }
    }

    /// Returns true if the last list that a process took was weighed by `choice`.
    fn is_listed_by(&self, target: Target, repository: usize, choice: &str) -> bool {
        let lists = self.lists.get(&(target.configuration, repository)).map(Vec::as_slice).unwrap_or_default();
        lists.iter().rfind(|list| list.process == target.process).is_some_and(|list| list.choice == choice)
    }

    /// Returns true if the last two lists lack a tag, and both lie: no client can know it.
    pub(super) fn are_lies(&self, configuration: usize, repository: usize, tag: usize) -> bool {
        let lists = self.lists.get(&(configuration, repository)).map(Vec::as_slice).unwrap_or_default();
        lists.len() >= 2 && lists[lists.len() - 2..].iter().all(|list| list.is_lie && !list.shown.contains(&tag))
    }

    fn lists_of(&self, configuration: usize, repository: usize) -> String {
        format!("{:?}", self.lists.get(&(configuration, repository)))
    }

    /// Returns true if two lists that are an interval apart lack the tag, and nothing in between had it that
    /// `process` has seen. A lie proves half of that: no client can know it for one. `seen` is the last request that
    /// found the tag; a process goes on with the lists of an earlier one if records of them are kept.
    fn is_proved(&self, target: Target, (number, tag): (usize, usize), rules: &ProofRules) -> bool {
        let lists = self.lists.get(&(target.configuration, number)).map(Vec::as_slice).unwrap_or_default();
        let lacks = |list: &TakenList| !list.shown.is_empty() && !list.has(tag);
        let is_outside = |list: &TakenList| list.outside.contains(&tag);
        // An edit of the rule deletes nothing: newer tags push out one that the same rule has taken.
        let is_pushed_out = |index: usize| {
            let chosen = (target.configuration, number, tag, lists[index].choice.clone());
            // It had gone before, and did not come back among the newest.
            let since = lists[..index].iter().rposition(|list| list.has(tag)).map_or(0, |last| last + 1);
            let was_gone = lists[since..index].iter().any(|list| lacks(list) && !is_outside(list));
            !is_outside(&lists[index]) || self.chosen.contains(&chosen) || was_gone
        };
        let is_own = |list: &TakenList| list.process == target.process;
        // One that was requested before another never replaces it, whenever it arrives.
        let is_newer = |list: &TakenList, first: &TakenList| is_own(list) && list.sent_at >= first.sent_at;
        (0..lists.len()).any(|last| {
            let second = &lists[last];
            is_own(second)
                && lacks(second)
                && lists[..last].iter().enumerate().any(|(index, first)| {
                    lacks(first)
                        && (is_own(first) || rules.has_records)
                        && !(first.is_lie && second.is_lie)
                        && second.sent_at >= first.taken_at + rules.interval
                        && is_pushed_out(index)
                        && (is_outside(first) || is_outside(second) || rules.seen <= first.sent_at)
                        && lists[index..last].iter().filter(|list| is_newer(list, first)).all(|list| !list.has(tag))
                })
        })
    }
}

/// The rules of a proof.
#[derive(Debug)]
struct ProofRules {
    interval: Millis,
    has_records: bool,
    seen: Millis,
}

impl World {
    /// A deletion is decided by complete lists, within the brake, with consent, and in a window.
    pub(super) fn check_deleted_tag(&mut self, target: Target, assignment: &Assignment) {
        let (number, tag) = (repository_index(assignment.repository.as_str()), tag_index(&assignment.tag));
        let key = Key::of(assignment);
        let process = &self.processes[&target.process];
        let running = &process.running[&target.configuration];
        let (Ok(configuration), Some(recorded)) = (&running.machine.orders().configuration, &assignment.written) else {
            return self.violate("D4 consent", || format!("{target:?} deletes {assignment:?} without spec or record"));
        };
        let recorded = content(recorded);
        let matches = configuration.selection.matches(&assignment.repository);
        let rule = matches.into_iter().find(|m| m.destination == assignment.destination);
        let brake = rule.filter(|rule| rule.target == assignment.place.repository).and_then(|rule| rule.deletion);
        // A push says nothing for a tag that is none of the newest, nor before a list has shown which are.
        let choice = &configuration.selection.rules[0].choice_hash;
        let is_followed = self.oracles.deletions.is_listed_by(target, number, choice)
            && !self.may_be_outside(target.configuration, number, tag);
        let is_of_tag = |of: (usize, usize)| is_followed && of == (number, tag);
        let sights = running.seen.iter().filter(|((index, of, _), _)| is_of_tag((*index, *of)));
        let rules = ProofRules {
            interval: self.proof_interval(target, configuration),
            has_records: self.store.keeps_lists(),
            seen: sights.map(|(_, sight)| sight.sent_at).max().unwrap_or(Millis::MIN),
        };
        let is_proved = self.oracles.deletions.is_proved(target, (number, tag), &rules);
        let has_consent = running.consents[key.destination] && brake.is_some() && !configuration.suspend;
        let is_in_window = configuration.windows.at(at(self.now)).is_open;
        let has_regained = process.has_regained;
        let lists = self.oracles.deletions.lists_of(target.configuration, number);
        if !is_proved {
            self.violate("D1 proof", || {
                format!("{target:?} deletes {key:?}, which no two lists lack: {rules:?} {lists}")
            });
        }
        if !has_consent {
            self.violate("D4 consent", || format!("{target:?} deletes {key:?}, which is not wanted or allowed"));
        }
        if !is_in_window {
            self.violate("W windows", || format!("{target:?} deletes {key:?} outside of the windows"));
        }
        if !self.oracles.ever_verified.contains(&(key, recorded)) {
            self.violate("D3 recorded digest", || format!("{target:?} deletes {key:?}, which was never verified"));
        }
        if let Some(brake) = brake.filter(|_| !has_regained) {
            self.count_deletion(target, (key, recorded), brake, &assignment.place);
        }
    }

    /// Returns the time that two lists have to be apart.
    pub(super) fn proof_interval(&self, target: Target, configuration: &Configuration) -> Millis {
        let interval = self.declared[target.configuration].interval_millis();
        if matches!(configuration.pace, Pace::At(_)) { PROOF } else { interval }
    }

    /// Within 24 hours, the length of no schedule, so many images may be deleted.
    fn count_deletion(
        &mut self,
        target: Target,
        (key, recorded): (Key, Content),
        brake: DeletionBrake,
        place: &RepositoryAddress,
    ) {
        let is_approved = self.oracles.deletions.approved.contains(&(target.configuration, key, recorded));
        let counted = self.oracles.deletions.counted.entry((target.configuration, place.clone())).or_default();
        counted.insert((key.tag, recorded, is_approved));
        let (all, approved) = (counted.len(), counted.iter().filter(|(.., is_approved)| *is_approved).count());
        let share = (TAGS + all) as u64 * u64::from(brake.max_percent) / 100;
        let most = share.max(u64::from(brake.min_allowed));
        if (all - approved) as u64 > most {
            self.violate("D2 brake", || format!("{target:?} deletes {key:?}, one of {all}, of which {most} may go"));
        }
    }

    /// Checks that an image that is deleted was not at the source all the time, and has the recorded digest.
    pub(super) fn check_sent_deletion(&mut self, target: Target, copy: CopyId) {
        let deleting = &self.processes[&target.process].running[&target.configuration].deletions[&copy];
        let (key, recorded, assignment) = (deleting.key, deleting.recorded, deleting.deletion.assignment.clone());
        let history = &self.source.repositories[key.repository].tags[key.tag];
        let is_outside = deleting.deletion.is_outside();
        let is_at_source = !is_outside && history.now().is_some() && history.0.len() == deleting.changes;
        let there = self.destinations[key.destination].tags.get(&key.slot()).copied();
        let is_other = there.is_some() && there != recorded && there == deleting.there;
        self.oracles.verified.remove(&key);
        self.check_authority(target, copy, key, &assignment);
        if !self.destinations[key.destination].may_delete {
            self.violate("I4 authority", || format!("{target:?} deletes {key:?} without consent to deletions"));
        }
        if is_at_source {
            self.violate("D1 proof", || format!("{target:?} deletes {key:?}, which the source has"));
        }
        if is_other {
            self.violate("D3 recorded digest", || {
                format!("{target:?} deletes {key:?} with content {there:?}, not {recorded:?}")
            });
        }
    }
}
