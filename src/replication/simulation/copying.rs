//! The executor of a process, in the model: a copy reads, asks for consent, writes the tag, and reads it back.

use std::sync::Arc;

use super::cluster::Home;
use super::names::{Content, Key, Millis, content};
use super::world::{Target, Task, World};
use crate::plan::{CodedError, Replica};
use crate::replication::machine::{Assignment, CopyId, CopyProgress, Event, Outcome};
use crate::terms::FailureCode;

/// A copy that runs.
#[derive(Debug)]
pub(super) struct Copying {
    pub assignment: Arc<Assignment>,
    pub key: Key,
    pub content: Content,
    /// The number of changes of the tag that the observation before it may show, if there was one in this process.
    pub pushes: Option<usize>,
    tries: u32,
    /// The number of times that it has waited for authority or a grant.
    waits: u32,
    /// A write was sent and is not answered yet.
    is_writing: bool,
    /// A write was sent that is never answered.
    is_unanswered: bool,
}

/// The right to write one tag, of one copy at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub configuration: usize,
    pub copy: CopyId,
    pub until: Millis,
}

/// The next thing that a copy does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Begin,
    Read,
    Check,
    Write,
    Answered,
    TimedOut,
    Unavailable,
    Verify,
}

/// A switch for `make mutants`: the former executor gave a grant back at once.
const GRANTS_RUN_OUT: bool = true;
/// A switch for `make mutants`: the former executor did not notice that its process had been frozen.
const AUTHORITY_EXPIRES: bool = true;

impl World {
    pub(super) fn begin_copy(&mut self, target: Target, copy: CopyId, assignment: Arc<Assignment>) {
        let key = Key::of(&assignment);
        let content = content(&assignment.digest);
        let (tries, waits) = (0, 0);
        let Some(running) = self.running(target) else { return };
        let pushes = running.seen.get(&(key.repository, key.tag, content)).map(|sight| sight.pushes);
        let copying =
            Copying { assignment, key, content, pushes, tries, waits, is_writing: false, is_unanswered: false };
        running.copies.insert(copy, copying);
        let delay = self.delay();
        self.after(delay, Task::Copy(target, copy, Step::Begin));
    }

    /// Stops a copy; it sends nothing any more.
    pub(super) fn stop_copy(&mut self, target: Target, copy: CopyId) {
        self.end_copy(target, copy, None);
        self.end_deletion(target, copy, None);
    }

    pub(super) fn copy(&mut self, target: Target, copy: CopyId, step: Step) {
        let Some(copying) = self.running(target).and_then(|running| running.copies.get(&copy)) else { return };
        let (key, wanted) = (copying.key, copying.content);
        match step {
            Step::Begin => self.begin(target, copy),
            Step::Read if self.now < self.source.down_until => self.fail(target, copy, FailureCode::SourceUnavailable),
            Step::Read if self.source.repositories[key.repository].tags[key.tag].now().is_none() && self.chance(30) => {
                self.fail(target, copy, FailureCode::ImageNotFound);
            }
            Step::Read => self.then(target, copy, Step::Check),
            Step::Check => self.check(target, copy),
            Step::Write => self.write(target, copy),
            Step::Answered => {
                self.copying(target, copy).is_writing = false;
                self.then(target, copy, Step::Verify);
            }
            Step::TimedOut => self.time_out(target, copy),
            Step::Unavailable => self.fail(target, copy, FailureCode::DestinationUnavailable),
            Step::Verify if !self.destinations[key.destination].answers(self.now) => {
                self.fail(target, copy, FailureCode::DestinationUnavailable);
            }
            Step::Verify => {
                let is_there = self.destinations[key.destination].tags.get(&key.slot()) == Some(&wanted);
                if is_there {
                    self.oracles.verified.insert(key, wanted);
                    self.oracles.ever_verified.insert((key, wanted));
                    self.succeed(target, copy);
                } else {
                    self.fail(target, copy, FailureCode::VerificationFailed);
                }
            }
        }
    }

    fn time_out(&mut self, target: Target, copy: CopyId) {
        let copying = self.copying(target, copy);
        (copying.is_writing, copying.is_unanswered) = (false, true);
        copying.tries += 1;
        if copying.tries < 2 && self.chance(50) {
            self.then(target, copy, Step::Write);
        } else {
            self.fail(target, copy, FailureCode::DestinationUnavailable);
        }
    }

    fn then(&mut self, target: Target, copy: CopyId, step: Step) {
        let delay = self.delay();
        self.after(delay, Task::Copy(target, copy, step));
    }

    fn begin(&mut self, target: Target, copy: CopyId) {
        if self.chance(10) {
            self.after(0, Task::Event(target, Event::Progress(copy, CopyProgress::Waiting)));
        }
        if self.chance(90) {
            self.after(0, Task::Event(target, Event::Progress(copy, CopyProgress::Running(0))));
        }
        self.then(target, copy, Step::Read);
    }

    fn copying(&mut self, target: Target, copy: CopyId) -> &mut Copying {
        self.running(target).and_then(|running| running.copies.get_mut(&copy)).expect("a copy that runs")
    }

    fn check(&mut self, target: Target, copy: CopyId) {
        let (key, wanted) = {
            let copying = self.copying(target, copy);
            (copying.key, copying.content)
        };
        let now = self.now;
        let destination = &self.destinations[key.destination];
        if !destination.allows(target.configuration) {
            return self.fail(target, copy, FailureCode::RegistryPermissionDenied);
        }
        if destination.refused == Some(target.configuration) {
            return self.fail(target, copy, FailureCode::DestinationDenied);
        }
        if !destination.answers(now) {
            let delay = self.draw(2_000, 20_000);
            return self.after(delay, Task::Copy(target, copy, Step::Unavailable));
        }
        let is_there = destination.tags.get(&key.slot()) == Some(&wanted);
        self.then(target, copy, if is_there { Step::Verify } else { Step::Write });
    }

    /// Sends the write of the tag, with the consent of the owner, a claim, authority and a grant.
    fn write(&mut self, target: Target, copy: CopyId) {
        let copying = self.copying(target, copy);
        let (key, wanted, assignment) = (copying.key, copying.content, copying.assignment.clone());
        if let Some(refused) = self.refusal(target, key.destination, &assignment) {
            return self.fail(target, copy, refused);
        }
        if !self.take_grant(target, copy, key) {
            let copying = self.copying(target, copy);
            copying.waits += 1;
            return if copying.waits > 40 {
                self.fail(target, copy, FailureCode::WorkerFailed)
            } else {
                self.after(1_000, Task::Copy(target, copy, Step::Write))
            };
        }
        self.copying(target, copy).is_writing = true;
        self.check_write(target, copy, key, wanted);
        self.send(target, copy, key, wanted);
    }

    /// Returns the cause for which nothing may be written for an assignment.
    pub(super) fn refusal(&self, target: Target, to: usize, assignment: &Assignment) -> Option<FailureCode> {
        let destination = &self.destinations[to];
        let uid = destination.uid.map(|uid| format!("uid-d{to}-{uid}"));
        if uid.as_ref() != Some(&assignment.destination_uid) {
            return Some(FailureCode::DestinationNotReady);
        }
        let is_held = self.processes[&target.process].claims.holds(&assignment.uid, &assignment.place);
        (!is_held || !destination.allows(target.configuration)).then_some(FailureCode::PolicyRevoked)
    }

    /// Takes the grant for a tag, if its process has authority and no other copy or deletion has it. Files have no grants.
    pub(super) fn take_grant(&mut self, target: Target, copy: CopyId, key: Key) -> bool {
        let now = self.now;
        let has_authority = self.has_authority(target.process) || !AUTHORITY_EXPIRES;
        if self.home == Home::Files {
            return has_authority;
        }
        let process = self.processes.get_mut(&target.process).expect("it runs");
        let own = Grant { configuration: target.configuration, copy, until: now + GRANT };
        let granted = process.grants.get(&key).filter(|grant| grant.until > now);
        let is_free = granted.is_none_or(|grant| grant.configuration == own.configuration && grant.copy == copy);
        if has_authority && is_free {
            process.grants.insert(key, own);
        }
        has_authority && is_free
    }

    /// Gives the grant for a tag back, unless a request was sent and not answered.
    pub(super) fn give_grant_back(&mut self, target: Target, copy: CopyId, key: Key, is_unanswered: bool) {
        let Some(process) = self.processes.get_mut(&target.process) else { return };
        let granted = process.grants.get(&key).map(|grant| (grant.configuration, grant.copy));
        if (!is_unanswered || !GRANTS_RUN_OUT) && granted == Some((target.configuration, copy)) {
            process.grants.remove(&key);
        }
    }

    fn send(&mut self, target: Target, copy: CopyId, key: Key, wanted: Content) {
        self.trace(|_| {
            format!("{}/c{} copy {copy} sends content {wanted} to {key:?}", target.process, target.configuration)
        });
        let timeout = self.draw(5_000, 20_000);
        let (lands, answered) = self.fate(key.destination, timeout);
        if let Some(lands) = lands {
            self.after(lands, Task::Land(key, wanted));
        }
        match answered.filter(|_| lands.is_some()) {
            Some(answered) => self.after(answered, Task::Copy(target, copy, Step::Answered)),
            None => self.after(timeout, Task::Copy(target, copy, Step::TimedOut)),
        }
    }

    /// Draws when a request takes effect at a destination, and when it is answered, if at all.
    pub(super) fn fate(&mut self, to: usize, timeout: Millis) -> (Option<Millis>, Option<Millis>) {
        let destination = &self.destinations[to];
        let (answers, is_slow, is_dead) =
            (destination.answers(self.now), destination.is_slow(self.now), destination.is_dead);
        match (answers, is_slow) {
            (true, false) => {
                let lands = self.draw(5, 200);
                (Some(lands), Some(lands + self.draw(5, 100)))
            }
            (true, true) => {
                let lands = self.draw(100, 50_000);
                let answered = lands + self.draw(5, 100);
                (self.chance(90).then_some(lands), (answered < timeout && self.chance(60)).then_some(answered))
            }
            (false, _) => ((!is_dead && self.chance(30)).then_some(self.draw(100, 50_000)), None),
        }
    }

    fn succeed(&mut self, target: Target, copy: CopyId) {
        self.end_copy(target, copy, Some(Ok(Replica { bytes: 7, ..Replica::default() })));
    }

    fn fail(&mut self, target: Target, copy: CopyId, code: FailureCode) {
        self.end_copy(target, copy, Some(Err(CodedError::new(code, format!("{code:?}")))));
    }

    fn end_copy(&mut self, target: Target, copy: CopyId, result: Option<Result<Replica, CodedError>>) {
        let Some(running) = self.running(target) else { return };
        let Some(copying) = running.copies.remove(&copy) else { return };
        let is_unanswered = copying.is_unanswered || copying.is_writing;
        self.give_grant_back(target, copy, copying.key, is_unanswered);
        let permission = self.destinations[copying.key.destination].decide(target.configuration);
        let outcome = result.map(|result| Outcome { permission, result, moved: 7, is_unanswered });
        let (delay, jitter) = (self.delay(), self.draw(0, 1_000) as f64 / 1_000.0);
        if self.chance(5) {
            self.after(delay, Task::Event(target, Event::Ended(copy, outcome.clone(), jitter)));
        }
        self.after(delay, Task::Event(target, Event::Ended(copy, outcome, jitter)));
    }
}

const GRANT: Millis = 8_000;
