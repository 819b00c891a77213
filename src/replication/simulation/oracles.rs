//! Invariants that hold at every step: what may be copied, written, deleted, published and reported.

use std::collections::{BTreeSet, HashMap};

use super::cluster::Declared;
use super::deletion_oracles::DeletionOracles;
use super::names::{
    CONFIGURATIONS, Content, Key, at, content, destination_index, last_digit, millis, repository, repository_index,
    tag, tag_index,
};
use super::process::{Running, is_ready};
use super::world::{Target, World};
use crate::image::Tag;
use crate::plan::{Attempt, ConfigurationReport, PairIdentity, RepositoryAddress, Row, RowState};
use crate::replication::machine::{Assignment, Effect, PairId, Record};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub oracle: &'static str,
    pub what: String,
}

/// The memory of the oracles.
#[derive(Debug, Default)]
pub(super) struct Oracles {
    pub violation: Option<Violation>,
    /// The content that was sent last to a tag, and its number among the pushes of the tag at that time.
    sent: HashMap<Key, (Content, usize)>,
    /// The content that was last read back from a tag.
    pub verified: HashMap<Key, Content>,
    pub ever_verified: BTreeSet<(Key, Content)>,
    /// Tags that were counted in a publication, until it is stored.
    counted: HashMap<(Target, PairId), BTreeSet<usize>>,
    /// Tags that the stored status of a name counts.
    stored: HashMap<String, BTreeSet<usize>>,
    /// Images of the last complete comparison that have not been verified since.
    owed: [BTreeSet<Key>; CONFIGURATIONS],
    /// True while nothing may change any more.
    pub is_window: bool,
    /// A status was published just now: a deletion that waited for that was decided earlier.
    pub is_deferred: bool,
    /// Statuses that could not be deleted: that they are deleted again was decided earlier, too.
    pub undeleted: BTreeSet<String>,
    pub comparisons: usize,
    pub deletions: DeletionOracles,
}

impl Oracles {
    /// A process knows what was published only.
    pub(super) fn started(&mut self, configuration: usize) {
        self.owed[configuration].clear();
    }

    pub(super) fn retired(&mut self, configuration: usize) {
        self.owed[configuration].clear();
    }

    pub(super) fn deleted(&mut self, name: &str) {
        self.stored.remove(name);
    }

    pub(super) fn stored(&mut self, target: Target, pair: PairId, name: &str) {
        if let Some(counted) = self.counted.remove(&(target, pair)) {
            self.stored.insert(name.to_owned(), counted);
        }
    }

    /// A comparison was complete: what it found is owed until it is verified.
    pub(super) fn compared(&mut self, target: Target, running: &Running) {
        for pair in running.machine.pairs() {
            let repository = repository_index(pair.key.repository.as_str());
            let found = running.found.iter().filter(|(index, _)| *index == repository);
            let known = found.map(|(_, number)| tag(*number)).filter(|tag| pair.ledger.row(tag).is_some());
            let keys = known.map(|tag| Key::in_pair(pair, &tag));
            self.owed[target.configuration].extend(keys);
        }
    }

    /// Drops what is verified, or no longer replicated.
    pub(super) fn settle(&mut self, target: Target, running: &Running) {
        if self.owed[target.configuration].is_empty() {
            return;
        }
        let newest = running.machine.configuration().and_then(|configured| configured.selection.rules[0].newest);
        let newest = newest.map_or(usize::MAX, |newest| newest.count as usize);
        let is_owed = |key: &Key| {
            let pair = running.machine.pairs().find(|pair| Key::in_pair(pair, &tag(key.tag)) == *key);
            pair.is_some_and(|pair| {
                // What was pushed since may take its place.
                let newer = pair.ledger.rows().filter(|(other, row)| tag_index(other) > key.tag && !row.is_leaving());
                let row = pair.ledger.row(&tag(key.tag)).filter(|_| newer.count() < newest);
                row.is_some_and(|row| !is_complete(row) && !row.is_leaving())
            })
        };
        self.owed[target.configuration].retain(is_owed);
    }
}

impl World {
    /// Checks what a state machine decides.
    pub(super) fn check_effect(&mut self, target: Target, effect: &Effect) {
        let is_leading = self.leader == Some(target.process);
        match effect {
            Effect::Copy(_, assignment) => self.check_copy(target, assignment),
            Effect::Publish(pair, identity, status) if is_leading => {
                self.check_publication(target, *pair, identity, status.summary.images)
            }
            Effect::Delete(identity) => self.check_deletion(target, identity),
            Effect::DeleteTag(_, deletion) => self.check_deleted_tag(target, &deletion.assignment),
            Effect::Report(report) if is_leading => self.check_report(target, report),
            Effect::Compare(_) => self.oracles.comparisons += 1,
            // A pair that was dropped and is there again begins anew.
            Effect::Record(identity, Record::StartedOver(_)) => drop(self.oracles.stored.remove(&identity.name)),
            _ => {}
        }
        let is_decision = match effect {
            // Each image is read back once a day, in a window.
            Effect::Copy(_, assignment) => !self.is_verified(assignment),
            Effect::Report(report) => {
                let earlier = self.store.reports[target.configuration].as_ref();
                !report.waits_for_window && !earlier.is_some_and(|earlier| earlier.waits_for_window)
            }
            Effect::Publish(..) | Effect::Delete(_) | Effect::DeleteTag(..) => true,
            _ => false,
        };
        if self.oracles.is_window && is_decision {
            self.violate("I10 quiet", || format!("{target:?} decides {effect:?} although nothing changed"));
        }
    }

    /// I12: nothing is copied by an outdated spec or observation, or twice at the same time.
    fn check_copy(&mut self, target: Target, assignment: &Assignment) {
        let (number, index) = (tag_index(&assignment.tag), repository_index(assignment.repository.as_str()));
        let running = &self.processes[&target.process].running[&target.configuration];
        let wanted = content(&assignment.digest);
        let sight = running.seen.get(&(index, number, wanted));
        let is_fresh = sight.is_some_and(|sight| sight.sent_at >= running.fresh_from);
        let key = Key::of(assignment);
        let is_alone = !running.copies.values().any(|copying| copying.key == key);
        let is_wanted = is_wanted(running, assignment);
        let others = running.machine.pairs().filter(|pair| pair.place == assignment.place);
        let is_merged = others.into_iter().any(|pair| pair.key.repository != assignment.repository);
        let is_deleting =
            running.deletions.values().any(|deleting| deleting.deletion.assignment.place == assignment.place);
        let configuration = running.machine.configuration().expect("no copy without a spec").clone();
        // A list says nothing of a tag that was seen since it was requested.
        let sights = running.seen.iter().filter(|((of, tag, _), _)| (*of, *tag) == (index, number));
        let sights = sights.map(|(_, sight)| sight.sent_at + 1).chain([running.chosen_from]);
        let times = (self.proof_interval(target, &configuration), sights.max().unwrap_or_default()..self.now);
        let choice = configuration.selection.rules[0].choice_hash.as_str();
        let is_outside = self.oracles.deletions.is_outside(target, (index, number, choice), times);
        let is_in_window = configuration.windows.at(at(self.now)).is_open;
        self.oracles.deletions.copied(target.configuration, key, choice);
        if is_outside {
            self.violate("N newest", || format!("{target:?} copies {assignment:?}, which newer tags have pushed out"));
        }
        if !is_in_window {
            self.violate("W windows", || format!("{target:?} copies {assignment:?} outside of the windows"));
        }
        if is_merged {
            self.violate("T names", || format!("{target:?} copies {assignment:?} where another repository goes"));
        }
        if is_deleting {
            self.violate("D5 alone", || format!("{target:?} copies {assignment:?} beside a deletion"));
        }
        if !is_fresh {
            self.violate("I12 closed", || format!("{target:?} copies {assignment:?} by an observation of before"));
        }
        if !is_alone {
            self.violate("I3 one writer", || {
                format!("{target:?} copies {assignment:?} beside an earlier copy of the tag")
            });
        }
        if !is_wanted {
            self.violate("I12 closed", || format!("{target:?} copies {assignment:?}, which no valid spec wants"));
        }
    }

    /// Returns true if newer tags may have pushed out one of a repository at some time.
    pub(super) fn may_be_outside(&self, configuration: usize, repository: usize, tag: usize) -> bool {
        let newer = self.source.repositories[repository].tags[tag + 1..].iter().filter(|tag| !tag.0.is_empty());
        self.declared[configuration].least_newest.is_some_and(|count| newer.count() >= count as usize)
    }

    /// Returns true if the image was read back after the last write.
    fn is_verified(&self, assignment: &Assignment) -> bool {
        let key = Key::of(assignment);
        self.oracles.verified.get(&key) == Some(&content(&assignment.digest))
    }

    /// I3 and I4: a write that is sent is wanted and permitted, and never older than one that was sent before.
    pub(super) fn check_write(&mut self, target: Target, copy: u64, key: Key, wanted: Content) {
        let history = &self.source.repositories[key.repository].tags[key.tag];
        let running = &self.processes[&target.process].running[&target.configuration];
        let assignment = running.copies[&copy].assignment.clone();
        let is_wanted = is_wanted(running, &assignment);
        let sight = running.seen[&(key.repository, key.tag, wanted)];
        let order = history.order(wanted, sight.pushes);
        // It may have been seen again since the copy began, which is then no newer than it was.
        let begun = running.copies[&copy].pushes.map_or(order, |pushes| history.order(wanted, pushes));
        let earlier = self.oracles.sent.insert(key, (wanted, begun));
        // What newer tags have pushed out is not followed any more.
        let is_newer = earlier.is_none_or(|(_, earlier)| order >= earlier)
            || self.may_be_outside(target.configuration, key.repository, key.tag);
        self.oracles.verified.remove(&key);
        if !is_newer {
            self.violate("I3 no regress", || {
                format!("{target:?} sends content {wanted} to {key:?} after content {earlier:?}")
            });
        }
        if !is_wanted {
            self.violate("I4 authority", || {
                format!("{target:?} writes {key:?} although it is not to be replicated any more")
            });
        }
        self.check_authority(target, copy, key, &assignment);
    }

    /// I8 and I9: a status counts every image, and says COMPLETE only of what was read back after the last write.
    fn check_publication(&mut self, target: Target, id: PairId, identity: &PairIdentity, images: u64) {
        let running = &self.processes[&target.process].running[&target.configuration];
        let Some(pair) = running.machine.pairs().find(|pair| pair.identity.name == identity.name) else { return };
        if !self.processes[&target.process].claims.holds(&running.machine.orders().holder.uid, &pair.place) {
            return; // It learns that soon.
        }
        let index = repository_index(pair.key.repository.as_str());
        let mut counted: BTreeSet<usize> = pair.ledger.entries().map(|(tag, _)| tag_index(tag)).collect();
        let stored = self.oracles.stored.get(&identity.name);
        // Of a status that shows more than is known only what moves is withdrawn.
        let is_withdrawal = pair.is_short() && pair.has_object();
        if let Some(stored) = stored.filter(|_| is_withdrawal) {
            counted.clone_from(stored);
        }
        let is_excused = |number: &usize| {
            let has_vanished = self.source.repositories[index].tags[*number].has_vanished();
            // New images make up in number for what a status had no room for, or another process published: until the
            // first list, and longer if that is wrong.
            let is_partial = self.store.room < 250 || self.processes[&target.process].has_regained;
            let makes_up = stored.is_some_and(|stored| counted.len() >= stored.len());
            let is_hidden =
                is_partial && (makes_up || self.source.lies_to((target.process, target.configuration), index));
            let is_pushed_out = self.may_be_outside(target.configuration, index, *number);
            let is_edited = *number == 0 && self.declared[target.configuration].varies_tags;
            let are_lies = self.oracles.deletions.are_lies(target.configuration, index, *number);
            has_vanished || is_hidden || is_pushed_out || is_edited || are_lies
        };
        let lost =
            stored.into_iter().flatten().find(|number| !counted.contains(number) && !is_excused(number)).copied();
        let is_proved = |(tag, row): &(&Tag, &Row)| {
            let (key, wanted) = (Key::in_pair(pair, tag), content(&row.digest));
            let is_known = millis(row.observed_at.get().max(super::names::at(-1))) >= running.fresh_from;
            // An image that was verified stays complete while it is read back, and written again if it is gone.
            let is_copied = running.copies.values().any(|copying| (copying.key, copying.content) == (key, wanted));
            let is_due = matches!(pair.ledger.attempt(tag, at(self.now)), Attempt::Copy(_));
            let is_repaired = (is_copied || is_due) && self.oracles.ever_verified.contains(&(key, wanted));
            !is_complete(row) || !is_known || is_repaired || self.oracles.verified.get(&key) == Some(&wanted)
        };
        let false_row = pair.ledger.rows().find(|row| !is_proved(row)).map(|(tag, row)| format!("{tag} {row:?}"));
        let shown = self.store.statuses.get(&identity.name).map(|stored| stored.status.summary.images);
        let is_kept = is_withdrawal && (stored.is_none() || shown == Some(images));
        let is_counted = images as usize == counted.len() || is_kept;
        // Such a status shows what an earlier one did, whatever is known by now.
        if stored.is_some() || !is_withdrawal {
            self.oracles.counted.insert((target, id), counted);
        }
        if let Some(lost) = lost {
            self.violate("I8 no loss", || {
                format!("{target:?} publishes {} without t{lost}, which is there", identity.name)
            });
        }
        if let Some(row) = false_row {
            self.violate("I9 truth", || {
                format!("{target:?} says COMPLETE of {row} of {}, which was not read back", identity.name)
            });
        }
        if !is_counted {
            self.violate("I9 truth", || format!("{target:?} counts {images} images of {}", identity.name));
        }
    }

    /// I8: a status is deleted only if its pair is not wanted any more.
    fn check_deletion(&mut self, target: Target, identity: &PairIdentity) {
        let process = &self.processes[&target.process];
        let running = &process.running[&target.configuration];
        let spec = &identity.spec;
        let index = repository_index(&spec.source.repository);
        let to = destination_index_of(identity);
        // A spec that is invalid by now says nothing.
        let is_selected = running.machine.configuration().is_some_and(|configuration| {
            let matches = configuration.selection.matches(&repository(index));
            let target = &spec.destination.repository;
            matches.iter().any(|m| destination_index(&m.destination) == to && m.target.as_str() == target)
        });
        let latest = format!("uid-d{to}-{}", self.destinations[to].last_uid);
        let is_replaced = spec.destination.registry_ref.uid != latest;
        let repository = spec.destination.repository.parse().expect("a repository name");
        let place = RepositoryAddress { host: super::cluster::host(to), repository };
        let others = self.declared.iter().filter(|declared| declared.index != target.configuration);
        // It may have lost the place some time ago: what was deleted there is reported before its status is deleted.
        let holds = process.claims.holds(&self.declared[target.configuration].uid(), &place);
        let may_hold = |other: &Declared| other.exists && !holds || process.claims.holds(&other.uid(), &place);
        let may_lose = |other: &Declared| other.was_deleted || may_hold(other);
        let is_lost = others.into_iter().any(may_lose);
        // It may have been dropped some time ago, and be there anew: it is published again then.
        let is_anew = running.machine.pairs().any(|pair| pair.identity.name == identity.name);
        let source = &spec.source.repository;
        let is_merged =
            running.machine.pairs().any(|pair| pair.place == place && pair.key.repository.as_str() != source);
        let source = &self.source.repositories[index];
        let is_gone = is_anew || is_merged || source.was_unlisted || !source.is_listed || running.machine.is_ending();
        self.oracles.stored.remove(&identity.name);
        let is_repeated = self.oracles.undeleted.remove(&identity.name);
        if is_repeated {
            return;
        }
        if is_selected && !is_replaced && !is_lost && !is_gone && !self.oracles.is_deferred {
            self.violate("I8 no loss", || format!("{target:?} deletes {}, which is there and wanted", identity.name));
        }
    }

    /// Ready means verified.
    fn check_report(&mut self, target: Target, report: &ConfigurationReport) {
        let owed = self.oracles.owed[target.configuration].first().copied();
        if let Some(owed) = owed.filter(|_| is_ready(report)) {
            self.violate("Ready means verified", || format!("{target:?} is Ready although {owed:?} is not verified"));
        }
    }

    /// Nothing stays in progress without a living owner.
    pub(super) fn check_rest(&mut self, process: u32) {
        if self.leader != Some(process) || self.now < self.store.failing_until + 60_000 {
            return;
        }
        // A pair of which images are unknown yet is not published, nor one that no list was seen of.
        let running = self.processes[&process].running.values();
        let known = running.flat_map(|running| running.machine.pairs());
        let known = known.filter(|pair| !pair.is_short() && !pair.is_left_alone());
        let known: BTreeSet<&String> = known.map(|pair| &pair.identity.name).collect();
        let busy = self.store.statuses.values().filter(|status| status.status.summary.in_progress > 0);
        let busy = busy.map(|status| status.identity.name.clone()).find(|name| known.contains(name));
        if let Some(name) = busy {
            self.violate("I9 truth", || {
                format!("{name} stays IN_PROGRESS although process {process} ended in good order")
            });
        }
    }
}

/// Returns true if the spec that a process knows wants the copy, as it is.
fn is_wanted(running: &Running, assignment: &Assignment) -> bool {
    let Ok(configuration) = &running.machine.orders().configuration else { return false };
    let matches = configuration.selection.matches(&assignment.repository);
    let rule = matches.iter().find(|m| m.destination == assignment.destination);
    let to = (&assignment.destination, &assignment.place.repository);
    let is_taken = configuration.selection.rules_to(&assignment.repository, to).take(&assignment.tag);
    let is_named = rule.is_some_and(|rule| rule.target == assignment.place.repository);
    !configuration.suspend && is_named && is_taken && rule.is_some_and(|rule| rule.options == assignment.options)
}

/// Returns the number of the destination of a pair.
pub(super) fn destination_index_of(identity: &PairIdentity) -> usize {
    last_digit(&identity.spec.destination.registry_ref.name)
}

fn is_complete(row: &Row) -> bool {
    matches!(row.state, RowState::Complete { .. })
}
