//! The copies of a replicator: what waits, what runs, and how each ends.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{self, AbortHandle};

use super::copying::{self, Assignment, Outcome};
use super::pair::PairKey;
use super::replicator::Replicator;
use crate::api::ExecutionMode;
use crate::image::{Digest, Tag};
use crate::plan::{Attempt, CopyOptions};

/// An image that waits to be copied.
pub(super) struct Queued {
    pub(super) key: PairKey,
    pub(super) tag: Tag,
    pub(super) hurried: bool,
}

/// A copy that runs.
pub(super) struct Copying {
    key: PairKey,
    tag: Tag,
    digest: Digest,
    /// How: what a rule says since then is another matter.
    options: CopyOptions,
}

/// A copy that began, or goes on; without bytes one that waits again.
pub(super) struct Began {
    copy: task::Id,
    bytes: Option<u64>,
}

impl Replicator {
    /// Has the tag copied when its turn comes; one in a hurry is the next.
    pub(super) fn enqueue(&mut self, key: PairKey, tag: Tag, hurried: bool) {
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        if pair.running.contains_key(&tag) || !pair.queued.insert(tag.clone()) {
            return;
        }
        let queued = Queued { key, tag, hurried };
        if hurried {
            self.queue.push_front(queued);
        } else {
            self.queue.push_back(queued);
        }
    }

    /// The class of the Jobs that copy for this configuration; `None` for this process.
    pub(super) fn class(&self) -> Option<&str> {
        let execution = &self.current.configuration.execution;
        let mode = execution.mode.unwrap_or(self.context.settings.default_execution);
        (mode == ExecutionMode::Job).then_some(execution.class.as_str())
    }

    pub(super) fn start_copy(&mut self, Queued { key, tag, hurried }: Queued, now: Timestamp) {
        let class = self.class().map(str::to_owned);
        let configuration = &self.current.configuration;
        let Some(source) = self.context.registry(&configuration.namespace, &configuration.source) else { return };
        let referrer_tags = self.referrer_tags(&key.repository);
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        pair.queued.remove(&tag);
        let Attempt::Copy(digest) = pair.ledger.attempt(&tag, now) else { return };
        if pair.running.contains_key(&tag) {
            return; // An attempt with an earlier digest ends first: what it writes must not come after what we write.
        }
        pair.ledger.begin(&tag);
        let assignment = Arc::new(Assignment {
            configuration: (configuration.namespace.clone(), configuration.name.clone()),
            uid: self.current.holder.uid.clone(),
            source,
            destination: key.destination.clone(),
            place: pair.place.clone(),
            repository: key.repository.clone(),
            tag: tag.clone(),
            digest: digest.clone(),
            options: pair.options.clone(),
            referrer_tags,
            class,
            hurried,
        });
        let (context, began) = (self.context.clone(), self.began.0.clone());
        let handle = self.copies.spawn(async move {
            let copy = task::id();
            // A full channel loses a number of bytes that the next one corrects.
            copying::copy(&context, &assignment, |bytes| drop(began.try_send(Began { copy, bytes }))).await
        });
        let options = pair.options.clone();
        self.copying.insert(handle.id(), Copying { key, tag: tag.clone(), digest, options });
        pair.running.insert(tag, handle);
    }

    pub(super) fn take_began(&mut self, began: &Began) {
        let Some(Copying { key, tag, digest, .. }) = self.copying.get(&began.copy) else { return };
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let is_new = match began.bytes {
            Some(bytes) => pair.ledger.progress(tag, digest, bytes),
            None => pair.ledger.interrupt(tag),
        };
        if is_new {
            pair.change(Timestamp::now());
        }
    }

    pub(super) fn take_outcome(&mut self, copied: Result<(task::Id, Outcome), task::JoinError>) {
        let now = Timestamp::now();
        let (id, outcome) = match copied {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a copy panicked");
                }
                (error.id(), None)
            }
        };
        let Some(Copying { key, tag, digest, options }) = self.copying.remove(&id) else { return };
        let Some(pair) = self.pairs.get_mut(&key) else { return };
        pair.running.remove(&tag);
        pair.change(now);
        let jitter = rand::random::<f64>();
        match outcome {
            // It was copied as the rule said before it was changed.
            Some(_) if options != pair.options => drop(pair.ledger.interrupt(&tag)),
            Some(Outcome { permission, result: Ok(replica) }) => {
                pair.permission = Some(permission);
                pair.ledger.complete(&tag, &digest, replica, now);
                self.context.metrics.copied("complete");
            }
            Some(Outcome { permission, result: Err(failed) }) => {
                tracing::info!(repository = %key.repository, %tag, code = ?failed.code, "an image failed: {}", failed.message);
                pair.permission = Some(permission);
                pair.ledger.fail(&tag, &digest, (failed.code, failed.message), failed.retry_after, now, jitter);
                self.context.metrics.copied("failed");
            }
            None => drop(pair.ledger.interrupt(&tag)),
        }
        match pair.ledger.attempt(&tag, now) {
            Attempt::Copy(_) if !self.current.configuration.suspend => self.enqueue(key, tag, false),
            Attempt::Wait(until) => self.retry_at = self.retry_at.into_iter().chain([until]).min(),
            _ => {}
        }
    }

    pub(super) fn stop_copies(&mut self, now: Timestamp) {
        self.queue.clear();
        for pair in self.pairs.values_mut() {
            pair.queued.clear();
            pair.running.values().for_each(AbortHandle::abort);
            pair.change(now);
        }
    }
}
