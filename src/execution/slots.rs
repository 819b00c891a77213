//! The images that a process copies at once: the copies of one image to several destinations take one slot, and begin
//! together.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, watch};

use crate::locked::Locked;
use crate::plan::{FairLimits, ShareOwner};
use crate::replication::machine::{Assignment, Group};
use crate::replication::{FairSlot, FairSlots};

/// A bound of images that are copied at once, fair between namespaces.
pub(crate) struct Slots {
    slots: FairSlots,
    groups: Locked<HashMap<(String, u64), Weak<GroupSlot>>>,
}

/// One copy of a group; its slot is kept until all members are dropped.
pub(crate) struct Member {
    shared: Arc<GroupSlot>,
    slots: FairSlots,
    owner: ShareOwner,
    size: usize,
    is_counted: bool,
    /// The bytes of this copy so far.
    bytes: u64,
}

/// The slot of a group, free again when the last of its copies has ended.
struct GroupSlot {
    slot: OnceCell<FairSlot>,
    /// Copies that have begun, or ended without that.
    counted: watch::Sender<usize>,
    throughput: Locked<Throughput>,
    requested: Locked<EndRequest>,
}

/// The time since which the copies of a group are asked to end without a break.
#[derive(Debug, Default)]
struct EndRequest(Option<Instant>);

impl EndRequest {
    /// Notes if the copies are asked to end now. Returns true once they are to: slow ones at once, others if no other
    /// slot became free for a while.
    fn is_due(&mut self, is_asked: bool, is_slow: bool, now: Instant) -> bool {
        let since = is_asked.then(|| *self.0.get_or_insert(now));
        self.0 = since;
        since.is_some_and(|since| is_slow || now.saturating_duration_since(since) >= PATIENCE)
    }
}

/// The bytes of a group's copies in the present period.
#[derive(Debug)]
struct Throughput {
    since: Instant,
    moved: u64,
    is_slow: bool,
}

impl Throughput {
    fn new(now: Instant) -> Self {
        Self { since: now, moved: 0, is_slow: false }
    }

    /// Counts bytes. Returns true or false once a period shows that the copies are slow, or no longer are.
    fn add(&mut self, bytes: u64, now: Instant) -> Option<bool> {
        self.moved += bytes;
        let period = now.saturating_duration_since(self.since);
        if period < PERIOD {
            return None;
        }
        let is_slow = self.moved < FLOOR * period.as_secs();
        (self.since, self.moved) = (now, 0);
        (std::mem::replace(&mut self.is_slow, is_slow) != is_slow).then_some(is_slow)
    }
}

impl Slots {
    /// At most `slots` images at once. Half as many more are for namespaces of which none is copied, and for pushes.
    pub(crate) fn new(slots: usize) -> Self {
        let limits = FairLimits { shared: slots, reserved: slots.div_ceil(2) };
        Self { slots: FairSlots::new(limits), groups: Locked::default() }
    }

    /// Returns the queue of images that wait.
    pub(crate) fn queue(&self) -> FairSlots {
        self.slots.clone()
    }

    /// Announces a copy of a group.
    pub(crate) fn join(&self, assignment: &Assignment) -> Member {
        let owner = ShareOwner {
            namespace: assignment.configuration.0.clone(),
            host: assignment.place.host.clone(),
            is_urgent: assignment.is_urgent,
            priority: assignment.priority,
        };
        self.join_group(&assignment.uid, assignment.group, owner)
    }

    fn join_group(&self, uid: &str, group: Group, owner: ShareOwner) -> Member {
        let mut groups = self.groups.lock();
        if groups.len() > SWEEP_ABOVE {
            groups.retain(|_, shared| shared.strong_count() > 0);
        }
        let key = (uid.to_owned(), group.number);
        let shared = groups.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let throughput = Locked::new(Throughput::new(Instant::now()));
            let (slot, counted, requested) = (OnceCell::new(), watch::Sender::new(0), Locked::default());
            let shared = Arc::new(GroupSlot { slot, counted, throughput, requested });
            groups.insert(key, Arc::downgrade(&shared));
            shared
        });
        Member { shared, slots: self.slots.clone(), owner, size: group.size, is_counted: false, bytes: 0 }
    }
}

impl Member {
    /// Waits for the slot of the group, which is kept until this is dropped.
    pub(crate) async fn take_slot(&self) {
        let (slots, shared) = (&self.slots, &self.shared);
        let take = async {
            let slot = slots.take(self.owner.clone()).await;
            *shared.throughput.lock() = Throughput::new(Instant::now());
            slot
        };
        shared.slot.get_or_init(|| take).await;
    }

    /// Waits a moment for the other copies of the group, so that what they need is read once: each has announced itself
    /// to the engine by then.
    pub(crate) async fn meet_others(&mut self) {
        self.count();
        let mut counted = self.shared.counted.subscribe();
        let all = counted.wait_for(|counted| *counted >= self.size);
        let _ = tokio::time::timeout(MAX_WAIT, all).await;
    }

    /// Notes the bytes that this copy has moved so far; to be called every second or so. Copies that move next to
    /// nothing go on, but their slot is another's. Returns true if the copy is to end, so that a namespace without any
    /// has its turn.
    pub(crate) fn note(&mut self, bytes: u64) -> bool {
        let moved = bytes.saturating_sub(std::mem::replace(&mut self.bytes, bytes));
        let verdict = self.shared.throughput.lock().add(moved, Instant::now());
        let Some(slot) = self.shared.slot.get() else { return false };
        verdict.into_iter().for_each(|is_slow| slot.set_slow(is_slow));
        let is_slow = self.shared.throughput.lock().is_slow;
        let is_asked = slot.must_end();
        self.shared.requested.lock().is_due(is_asked, is_slow, Instant::now())
    }

    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.shared.counted.send_modify(|counted| *counted += 1);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.count(); // The others do not wait for a copy that was refused.
    }
}

const SWEEP_ABOVE: usize = 1_024;
/// Copies whose destinations are not ready at the same time begin one after another.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// The throughput in bytes a second below which a copy does not keep others waiting: a registry, or the limiter of its
/// host, does then.
const FLOOR: u64 = 64 << 10;
const PERIOD: Duration = Duration::from_secs(5);
/// The time in which another copy may end, before one that is not slow has to.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn member(slots: &Slots, namespace: &str, (number, size): (u64, usize)) -> Member {
        let owner = ShareOwner { namespace: namespace.to_owned(), host: "h".to_owned(), is_urgent: false, priority: 0 };
        slots.join_group(&format!("configuration of {namespace}"), Group { number, size }, owner)
    }

    #[tokio::test]
    async fn copies_of_one_image_share_a_slot_and_others_wait() {
        let slots = Slots::new(1);
        let (first, second) = (member(&slots, "c", (1, 2)), member(&slots, "c", (1, 2)));
        futures::join!(first.take_slot(), second.take_slot());
        let begins = |namespace, number| member(&slots, namespace, (number, 1)).take_slot().now_or_never().is_some();
        assert!(!begins("c", 2));
        assert!(begins("d", 1), "a namespace without a copy has a slot");
        drop(first);
        assert!(!begins("c", 2));
        drop(second);
        assert!(begins("c", 2));
    }

    #[tokio::test]
    async fn copies_begin_together_and_wait_for_none_that_was_refused() {
        let slots = Slots::new(1);
        let (mut first, second) = (member(&slots, "c", (1, 2)), member(&slots, "c", (1, 2)));
        assert!(first.meet_others().now_or_never().is_none());
        drop(second);
        assert!(first.meet_others().now_or_never().is_some());
        let mut alone = member(&slots, "c", (1, 2));
        alone.meet_others().await;
    }

    #[test]
    fn a_copy_that_gets_on_ends_only_if_no_other_makes_room() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut request = EndRequest::default();
        let asked = [(true, 0), (true, 9), (false, 10), (true, 11), (true, 20)];
        assert!(asked.iter().all(|(is_asked, seconds)| !request.is_due(*is_asked, false, at(*seconds))));
        assert!(request.is_due(true, false, at(21)));
        assert!(EndRequest::default().is_due(true, true, began), "a slow one ends at once");
        assert!(!request.is_due(false, true, at(22)));
    }

    #[test]
    fn a_period_below_the_floor_is_slow_and_one_above_it_is_not() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut throughput = Throughput::new(began);
        assert_eq!(throughput.add(0, at(4)), None, "too early to say");
        assert_eq!(throughput.add(10_000, at(5)), Some(true));
        assert_eq!(throughput.add(10_000, at(10)), None, "it still is");
        assert_eq!(throughput.add(5 * FLOOR, at(15)), Some(false));
    }
}
