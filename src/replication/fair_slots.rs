//! Slots that tasks wait for, given out by a fair queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::locked::Locked;
use crate::plan::{FairLimits, FairQueue, ShareOwner, Ticket};

/// A bounded number of slots, fair between namespaces and their hosts.
#[derive(Clone)]
pub(crate) struct FairSlots(Arc<Locked<FairQueue<oneshot::Sender<()>>>>);

/// One slot; free again when this is dropped.
pub(crate) struct FairSlot {
    slots: FairSlots,
    ticket: Ticket,
}

/// Returns the slots of comparisons: all of a process share them, fairly between namespaces, then between sources.
pub(crate) fn comparison_slots() -> FairSlots {
    FairSlots::new(FairLimits { shared: COMPARISONS_AT_ONCE, reserved: COMPARISONS_AT_ONCE })
}

impl FairSlots {
    /// Returns slots that are all free.
    pub(crate) fn new(limits: FairLimits) -> Self {
        Self(Arc::new(Locked::new(FairQueue::new(limits))))
    }

    /// Waits for a slot. Dropping the future ends the wait.
    pub(crate) async fn take(&self, owner: ShareOwner) -> FairSlot {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.0.lock().push(owner, sender);
        let slot = FairSlot { slots: self.clone(), ticket };
        self.start();
        // The sender stays in the queue as long as the slot is not dropped.
        let _ = receiver.await;
        slot
    }

    /// Returns true if a task waits although a slot is free for it. Such a task gets it at once: for longer than a moment
    /// this is a fault.
    pub(crate) fn stand_still(&self) -> bool {
        self.0.lock().may_start()
    }

    fn start(&self) {
        let mut queue = self.0.lock();
        while let Some((_, sender)) = queue.start_next() {
            let _ = sender.send(()); // A task that was dropped just now gives its slot back.
        }
    }
}

impl FairSlot {
    /// Notes that the task makes no progress to speak of, or does again: a slow one lends its slot to others.
    pub(crate) fn set_slow(&self, is_slow: bool) {
        self.slots.0.lock().set_slow(self.ticket, is_slow);
        self.slots.start();
    }

    /// Returns true if the task is to end and to come back later, as all slots are taken and a namespace has none.
    pub(crate) fn must_end(&self) -> bool {
        self.slots.0.lock().to_end() == Some(self.ticket)
    }

    /// Does `work`, and lends the slot to others once it takes longer than `pause`.
    pub(crate) async fn lend_after<T>(self, pause: Duration, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
            return done;
        }
        self.set_slow(true);
        work.await
    }
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        self.slots.0.lock().remove(self.ticket);
        self.slots.start();
    }
}

const COMPARISONS_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn owner(namespace: &str) -> ShareOwner {
        ShareOwner { namespace: namespace.to_owned(), host: "h".to_owned(), is_urgent: false, priority: 0 }
    }

    #[tokio::test]
    async fn work_that_takes_long_lends_its_slot_and_quick_work_passes_it_on() {
        let slots = FairSlots::new(FairLimits { shared: 1, reserved: 0 });
        let slow = slots.take(owner("a")).await;
        let slow = tokio::spawn(slow.lend_after(Duration::from_millis(10), std::future::pending::<()>()));
        for _ in 0..100 {
            slots.take(owner("b")).await.lend_after(Duration::from_secs(60), async {}).await;
        }
        slow.abort();
    }

    #[tokio::test]
    async fn a_queue_stands_still_while_a_free_slot_is_not_given_to_one_that_waits() {
        let slots = FairSlots::new(FairLimits { shared: 1, reserved: 0 });
        let first = slots.take(owner("a")).await;
        let mut second = Box::pin(slots.take(owner("a")));
        assert!(second.as_mut().now_or_never().is_none() && !slots.stand_still(), "it waits for a slot");
        slots.0.lock().remove(first.ticket);
        assert!(slots.stand_still(), "a wake-up was lost");
        drop(first);
        assert!(second.now_or_never().is_some() && !slots.stand_still());
    }

    #[tokio::test]
    async fn a_slot_goes_on_when_its_task_ends_is_slow_or_never_waited_to_the_end() {
        let slots = FairSlots::new(FairLimits { shared: 1, reserved: 0 });
        let first = slots.take(owner("a")).await;
        let mut second = Box::pin(slots.take(owner("b")));
        let mut third = Box::pin(slots.take(owner("c")));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        drop(second);
        let third = third.now_or_never().expect("the one before it has gone");
        let mut fourth = Box::pin(slots.take(owner("d")));
        assert!(fourth.as_mut().now_or_never().is_none());
        third.set_slow(true);
        assert!(fourth.now_or_never().is_some());
    }
}
