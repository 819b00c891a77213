//! The deletions of a process, in the model: a last look at both ends, consent, and a request that may take effect late.

use std::sync::Arc;

use super::names::{Content, Key, content, digest};
use super::world::{Target, Task, World};
use crate::plan::{CodedError, Removal};
use crate::replication::machine::{CopyId, Deletion, DeletionOutcome, Event};
use crate::terms::FailureCode;

/// A deletion that runs.
#[derive(Debug)]
pub(super) struct Deleting {
    pub deletion: Arc<Deletion>,
    pub key: Key,
    /// The digest that is recorded for the tag.
    pub recorded: Option<Content>,
    /// The changes of the tag at the source before the deletion began.
    pub changes: usize,
    /// The content of the tag at the destination before the deletion began.
    pub there: Option<Content>,
    waits: u32,
    /// A request was sent and is not answered yet.
    is_sending: bool,
    /// A request was sent that is never answered.
    is_unanswered: bool,
}

/// The next thing that a deletion does.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeletionStep {
    LookAtSource,
    LookAtDestination,
    Send,
    Answered,
    TimedOut,
    Unavailable,
    Verify,
}

/// A switch for `make mutants`: deletions begin without a look at the destination.
const LOOKS_AT_DESTINATION: bool = true;

impl World {
    pub(super) fn begin_deletion(&mut self, target: Target, copy: CopyId, deletion: Arc<Deletion>) {
        let assignment = &deletion.assignment;
        let key = Key::of(assignment);
        let recorded = assignment.written.as_ref().map(content);
        let changes = self.source.repositories[key.repository].tags[key.tag].0.len();
        let there = self.destinations[key.destination].tags.get(&key.slot()).copied();
        let (waits, is_sending, is_unanswered) = (0, false, false);
        let deleting = Deleting { deletion, key, recorded, changes, there, waits, is_sending, is_unanswered };
        let Some(running) = self.running(target) else { return };
        running.deletions.insert(copy, deleting);
        self.then_delete(target, copy, DeletionStep::LookAtSource);
    }

    fn then_delete(&mut self, target: Target, copy: CopyId, step: DeletionStep) {
        let delay = self.delay();
        self.after(delay, Task::Deletion(target, copy, step));
    }

    fn deleting(&mut self, target: Target, copy: CopyId) -> &mut Deleting {
        self.running(target).and_then(|running| running.deletions.get_mut(&copy)).expect("a deletion that runs")
    }

    pub(super) fn delete(&mut self, target: Target, copy: CopyId, step: DeletionStep) {
        let Some(deleting) = self.running(target).and_then(|running| running.deletions.get(&copy)) else { return };
        let (key, recorded, is_outside) = (deleting.key, deleting.recorded, deleting.deletion.is_outside());
        let there = self.destinations[key.destination].tags.get(&key.slot()).copied();
        match step {
            DeletionStep::LookAtSource if is_outside => {
                self.then_delete(target, copy, DeletionStep::LookAtDestination);
            }
            DeletionStep::LookAtSource => self.look_at_source(target, copy, key),
            DeletionStep::LookAtDestination if !self.destinations[key.destination].answers(self.now) => {
                let delay = self.draw(2_000, 20_000);
                self.after(delay, Task::Deletion(target, copy, DeletionStep::Unavailable));
            }
            DeletionStep::LookAtDestination if there == recorded || !LOOKS_AT_DESTINATION => {
                self.then_delete(target, copy, DeletionStep::Send);
            }
            DeletionStep::LookAtDestination => {
                let removal = there.map_or(Removal::Absent, |there| Removal::Changed(digest(there)));
                self.end_deletion(target, copy, Some(Ok(removal)));
            }
            DeletionStep::Send => self.send_deletion(target, copy),
            DeletionStep::Answered => {
                self.deleting(target, copy).is_sending = false;
                self.then_delete(target, copy, DeletionStep::Verify);
            }
            DeletionStep::TimedOut => {
                let deleting = self.deleting(target, copy);
                (deleting.is_sending, deleting.is_unanswered) = (false, true);
                self.fail_deletion(target, copy, FailureCode::DestinationUnavailable);
            }
            DeletionStep::Unavailable => self.fail_deletion(target, copy, FailureCode::DestinationUnavailable),
            DeletionStep::Verify if there.is_some() => {
                self.fail_deletion(target, copy, FailureCode::VerificationFailed);
            }
            DeletionStep::Verify => self.end_deletion(target, copy, Some(Ok(Removal::Done))),
        }
    }

    fn look_at_source(&mut self, target: Target, copy: CopyId, key: Key) {
        let is_at_source = self.source.repositories[key.repository].tags[key.tag].now().is_some();
        if self.now < self.source.down_until {
            self.fail_deletion(target, copy, FailureCode::SourceUnavailable);
        } else if self.source.withholds(key.repository, key.tag) {
            self.fail_deletion(target, copy, FailureCode::SourceDenied);
        } else if is_at_source {
            self.end_deletion(target, copy, Some(Ok(Removal::AtSource)));
        } else {
            self.then_delete(target, copy, DeletionStep::LookAtDestination);
        }
    }

    /// Sends the request, with the consent of the owner, a claim, authority and a grant.
    fn send_deletion(&mut self, target: Target, copy: CopyId) {
        let deleting = self.deleting(target, copy);
        let (key, assignment) = (deleting.key, deleting.deletion.assignment.clone());
        let may_delete = self.destinations[key.destination].may_delete;
        let refused = self.refusal(target, key.destination, &assignment);
        if let Some(refused) = refused.or((!may_delete).then_some(FailureCode::PolicyRevoked)) {
            return self.fail_deletion(target, copy, refused);
        }
        if !self.take_grant(target, copy, key) {
            let deleting = self.deleting(target, copy);
            deleting.waits += 1;
            return if deleting.waits > 40 {
                self.fail_deletion(target, copy, FailureCode::WorkerFailed)
            } else {
                self.after(1_000, Task::Deletion(target, copy, DeletionStep::Send))
            };
        }
        self.deleting(target, copy).is_sending = true;
        self.trace(|_| format!("{}/c{} deletion {copy} sends for {key:?}", target.process, target.configuration));
        self.check_sent_deletion(target, copy);
        let timeout = self.draw(5_000, 20_000);
        let (lands, answered) = self.fate(key.destination, timeout);
        lands.into_iter().for_each(|lands| self.after(lands, Task::Remove(key, target.configuration)));
        match answered.filter(|_| lands.is_some()) {
            Some(answered) => self.after(answered, Task::Deletion(target, copy, DeletionStep::Answered)),
            None => self.after(timeout, Task::Deletion(target, copy, DeletionStep::TimedOut)),
        }
    }

    /// A person approves the deletions that the status of the first configuration says are held.
    pub(super) fn approve(&mut self) {
        let report = self.store.reports[0].as_ref();
        let held = report.and_then(|report| report.held_deletions.as_ref()).map(|(_, message)| message.as_str());
        let Some((_, rest)) = held.and_then(|held| held.split_once("approve-deletions: ")) else { return };
        self.declared[0].approved = rest.split(' ').next().map(str::to_owned);
        for process in self.processes.values() {
            let running = process.running.get(&0);
            running.into_iter().for_each(|running| self.oracles.deletions.approve(0, running));
        }
        self.notify(0);
    }

    fn fail_deletion(&mut self, target: Target, copy: CopyId, code: FailureCode) {
        self.end_deletion(target, copy, Some(Err(CodedError::new(code, format!("{code:?}")))));
    }

    /// Ends a deletion; without a result it was stopped, and sends nothing any more.
    pub(super) fn end_deletion(&mut self, target: Target, copy: CopyId, result: Option<Result<Removal, CodedError>>) {
        let Some(running) = self.running(target) else { return };
        let Some(deleting) = running.deletions.remove(&copy) else { return };
        let is_unanswered = deleting.is_unanswered || deleting.is_sending;
        self.give_grant_back(target, copy, deleting.key, is_unanswered);
        let outcome = result.map(|result| DeletionOutcome { result, is_unanswered });
        let (delay, jitter) = (self.delay(), self.draw(0, 1_000) as f64 / 1_000.0);
        if self.chance(5) {
            self.after(delay, Task::Event(target, Event::TagDeleted(copy, outcome.clone(), jitter)));
        }
        self.after(delay, Task::Event(target, Event::TagDeleted(copy, outcome, jitter)));
    }
}
