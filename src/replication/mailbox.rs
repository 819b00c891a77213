//! The mailbox from which one configuration takes what comes from outside: its orders, and hints of pushes and deletions.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;

use super::hint_space::HintReservation;
use super::hints::Hint;
use super::machine::Orders;
use crate::image::{RepositoryName, Tag};
use crate::locked::Locked;

/// The last orders, the cause that keeps Jobs from running, tags that were pushed, repositories in which something was
/// deleted, and status objects that were deleted, until the configuration takes them. Hints are bounded by
/// [`HintSpace`](super::hint_space::HintSpace).
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: Locked<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    orders: Option<Arc<Orders>>,
    workers: Option<Option<String>>,
    hints: BTreeSet<ByTag>,
    deleted_in: BTreeMap<RepositoryName, HintReservation>,
    is_overflown: bool,
    statuses: BTreeSet<String>,
    listed: Option<BTreeSet<String>>,
}

/// A hint, ordered and found by its tag.
struct ByTag(Arc<Hint>);

/// The contents of a mailbox that a configuration takes at once.
pub(crate) struct Mail {
    /// New orders.
    pub orders: Option<Arc<Orders>>,
    /// Another cause that keeps Jobs from running, or none.
    pub workers: Option<Option<String>>,
    /// Pushed tags.
    pub hints: Vec<Arc<Hint>>,
    /// Repositories in which something was deleted.
    pub deleted_in: BTreeSet<RepositoryName>,
    /// True if there were more than fit: only a comparison finds them.
    pub is_overflown: bool,
    /// The names of status objects that were deleted.
    pub statuses: BTreeSet<String>,
    /// The names of all status objects that exist, after a gap in what is known of them.
    pub listed: Option<BTreeSet<String>>,
}

impl Mailbox {
    /// Puts orders in the place of those that wait.
    pub(super) fn order(&self, orders: Arc<Orders>) {
        self.waiting.lock().orders = Some(orders);
        self.arrived.notify_one();
    }

    /// Returns the orders that wait.
    pub(super) fn take_orders(&self) -> Option<Arc<Orders>> {
        self.waiting.lock().orders.take()
    }

    /// Says what keeps Jobs from running.
    pub(super) fn workers(&self, problem: Option<String>) {
        self.waiting.lock().workers = Some(problem);
        self.arrived.notify_one();
    }

    /// Adds pushed tags. A newer hint of a tag replaces one that waits.
    pub(crate) fn push(&self, hints: Vec<Arc<Hint>>) {
        let mut waiting = self.waiting.lock();
        for hint in hints.into_iter().map(ByTag) {
            if waiting.hints.get(&hint).is_none_or(|waiting| waiting.0.received_at <= hint.0.received_at) {
                waiting.hints.replace(hint);
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Adds a repository in which something was deleted.
    pub(super) fn deleted_in(&self, repository: RepositoryName, reservation: HintReservation) {
        self.waiting.lock().deleted_in.insert(repository, reservation);
        self.arrived.notify_one();
    }

    /// Records that hints did not fit: the next comparison finds them, which is due at once then.
    pub(crate) fn overflow(&self) {
        self.waiting.lock().is_overflown = true;
        self.arrived.notify_one();
    }

    /// Adds the name of a status object that was deleted.
    pub(crate) fn lost(&self, status: &str) {
        self.waiting.lock().statuses.insert(status.to_owned());
        self.arrived.notify_one();
    }

    /// Adds the names of all status objects that exist.
    pub(crate) fn listed(&self, statuses: BTreeSet<String>) {
        self.waiting.lock().listed = Some(statuses);
        self.arrived.notify_one();
    }

    /// Waits until there is something and takes it: at most `most` hints, and all else.
    pub(crate) async fn take(&self, most: usize) -> Mail {
        loop {
            if let Some(mail) = self.take_now(most) {
                return mail;
            }
            self.arrived.notified().await;
        }
    }

    /// The same without waiting.
    pub(super) fn take_now(&self, most: usize) -> Option<Mail> {
        let mut waiting = self.waiting.lock();
        let hints: Vec<_> = std::iter::from_fn(|| waiting.hints.pop_first()).take(most).map(|hint| hint.0).collect();
        let deleted_in: BTreeSet<RepositoryName> = std::mem::take(&mut waiting.deleted_in).into_keys().collect();
        let is_overflown = std::mem::take(&mut waiting.is_overflown);
        let statuses = std::mem::take(&mut waiting.statuses);
        let listed = waiting.listed.take();
        let (orders, workers) = (waiting.orders.take(), waiting.workers.take());
        let has_hints = !hints.is_empty() || !deleted_in.is_empty() || is_overflown;
        let is_empty = !has_hints && statuses.is_empty() && listed.is_none() && orders.is_none() && workers.is_none();
        (!is_empty).then_some(Mail { orders, workers, hints, deleted_in, is_overflown, statuses, listed })
    }
}

impl ByTag {
    fn key(&self) -> (&RepositoryName, &Tag) {
        (&self.0.repository, &self.0.tag)
    }
}

impl Ord for ByTag {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ByTag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByTag {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ByTag {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::machine::tests::orders;

    #[test]
    fn orders_that_wait_give_way_to_newer_ones_and_are_taken_once() {
        let (mailbox, generation) = (Mailbox::default(), |orders: Option<Arc<Orders>>| orders?.generation);
        mailbox.order(Arc::new(orders(1, "")));
        mailbox.order(Arc::new(orders(2, "")));
        assert_eq!(generation(mailbox.take_orders()), Some(2), "a driver that begins takes the last ones");
        assert!(mailbox.take_now(1).is_none());
        mailbox.order(Arc::new(orders(3, "")));
        let mail = mailbox.take_now(0).expect("orders do not wait for room for hints");
        assert_eq!(generation(mail.orders), Some(3));
        assert!(mailbox.take_orders().is_none());
    }
}
