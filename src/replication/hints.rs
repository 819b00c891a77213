//! A bounded mailbox of hints for one configuration.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::Notify;

use super::machine::Hints;
use crate::image::{Digest, RepositoryName, Tag};
use crate::locked::Locked;

/// Tags that were pushed and status objects that were deleted, until the configuration takes them.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Locked<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    tags: BTreeMap<(RepositoryName, Tag), Option<Digest>>,
    overflown: bool,
    statuses: BTreeSet<String>,
}

impl Mailbox {
    /// Adds a pushed tag, with the digest that it is said to have. One that does not fit is found by the next
    /// comparison, which is due at once then.
    pub(crate) fn push(&self, repository: &RepositoryName, tag: &Tag, digest: Option<Digest>) {
        let mut waiting = self.waiting.lock();
        let key = (repository.clone(), tag.clone());
        if waiting.tags.len() < MAX_HINTS || waiting.tags.contains_key(&key) {
            waiting.tags.insert(key, digest);
        } else {
            waiting.overflown = true;
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Adds the name of a status object that was deleted.
    pub(crate) fn lost(&self, status: &str) {
        self.waiting.lock().statuses.insert(status.to_owned());
        self.arrived.notify_one();
    }

    /// Waits until there is something and takes it: at most `most` tags, and every deleted status.
    pub(crate) async fn take(&self, most: usize) -> (Hints, BTreeSet<String>) {
        loop {
            {
                let mut waiting = self.waiting.lock();
                let overflown = std::mem::take(&mut waiting.overflown);
                let statuses = std::mem::take(&mut waiting.statuses);
                let mut tags = Vec::new();
                while tags.len() < most
                    && let Some(((repository, tag), digest)) = waiting.tags.pop_first()
                {
                    tags.push((repository, tag, digest));
                }
                if overflown || !tags.is_empty() || !statuses.is_empty() {
                    return (Hints { tags, overflown }, statuses);
                }
            }
            self.arrived.notified().await;
        }
    }
}

const MAX_HINTS: usize = 10_000;
