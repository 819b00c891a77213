//! The images that a process copies at once: the copies of one image to several destinations take one slot, and begin
//! together.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch};

use crate::locked::Locked;
use crate::replication::machine::Group;

/// A bound of images that are copied at once.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    groups: Locked<HashMap<(String, u64), Weak<GroupSlot>>>,
}

/// One copy of a group; its slot is kept until all members are dropped.
pub(crate) struct Member {
    shared: Arc<GroupSlot>,
    free: Arc<Semaphore>,
    size: usize,
    is_counted: bool,
}

/// The slot of a group, free again when the last of its copies has ended.
struct GroupSlot {
    permit: OnceCell<OwnedSemaphorePermit>,
    /// Copies that have begun, or ended without that.
    counted: watch::Sender<usize>,
}

impl Slots {
    /// At most `slots` images at once.
    pub(crate) fn new(slots: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(slots)), groups: Locked::default() }
    }

    /// Announces a copy of a group of the configuration `uid`.
    pub(crate) fn join(&self, uid: &str, group: Group) -> Member {
        let mut groups = self.groups.lock();
        if groups.len() > SWEEP_ABOVE {
            groups.retain(|_, shared| shared.strong_count() > 0);
        }
        let key = (uid.to_owned(), group.number);
        let shared = groups.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Arc::new(GroupSlot { permit: OnceCell::new(), counted: watch::Sender::new(0) });
            groups.insert(key, Arc::downgrade(&shared));
            shared
        });
        Member { shared, free: self.free.clone(), size: group.size, is_counted: false }
    }
}

impl Member {
    /// Waits for the slot of the group, and a moment for the other copies, so that what they need is read once. The
    /// slot is kept until this is dropped.
    pub(crate) async fn begin(&mut self) {
        let free = self.free.clone();
        // The semaphore is never closed.
        self.shared.permit.get_or_init(|| async { free.acquire_owned().await.expect("it is open") }).await;
        self.count();
        let mut counted = self.shared.counted.subscribe();
        let all = counted.wait_for(|counted| *counted >= self.size);
        let _ = tokio::time::timeout(MAX_WAIT, all).await;
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn group(number: u64, size: usize) -> Group {
        Group { number, size }
    }

    #[tokio::test]
    async fn copies_of_one_image_share_a_slot_and_others_wait() {
        let slots = Slots::new(1);
        let (mut first, mut second) = (slots.join("c", group(1, 2)), slots.join("c", group(1, 2)));
        futures::join!(first.begin(), second.begin());
        let begins = |uid, number| slots.join(uid, group(number, 1)).begin().now_or_never().is_some();
        assert!(!begins("c", 2) && !begins("d", 1));
        drop(first);
        assert!(!begins("c", 2));
        drop(second);
        assert!(begins("c", 2));
    }

    #[tokio::test]
    async fn copies_begin_together_and_wait_for_none_that_was_refused() {
        let slots = Slots::new(1);
        let (mut first, second) = (slots.join("c", group(1, 2)), slots.join("c", group(1, 2)));
        assert!(first.begin().now_or_never().is_none());
        drop(second);
        assert!(first.begin().now_or_never().is_some());
        let mut alone = slots.join("c", group(1, 2));
        alone.begin().await;
    }
}
