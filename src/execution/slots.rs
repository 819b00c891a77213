//! The images that a process copies at once: the copies of one image to several destinations take one slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// Slots for images.
pub struct Slots {
    free: Arc<Semaphore>,
    groups: Mutex<HashMap<(String, u64), Weak<Shared>>>,
}

/// A slot, free again when the last of its copies has ended.
pub struct Slot(#[expect(dead_code, reason = "it is held until it is dropped")] Arc<Shared>);

type Shared = OnceCell<OwnedSemaphorePermit>;

impl Slots {
    /// So many slots.
    pub fn new(slots: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(slots)), groups: Mutex::default() }
    }

    /// Waits for a slot for a copy of `group` of the configuration `uid`.
    pub async fn take(&self, uid: &str, group: u64) -> Slot {
        let shared = {
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            if groups.len() > SWEEP_ABOVE {
                groups.retain(|_, shared| shared.strong_count() > 0);
            }
            let key = (uid.to_owned(), group);
            let present = groups.get(&key).and_then(Weak::upgrade);
            present.unwrap_or_else(|| {
                let shared = Arc::new(Shared::new());
                groups.insert(key, Arc::downgrade(&shared));
                shared
            })
        };
        let free = self.free.clone();
        // The semaphore is never closed.
        shared.get_or_init(|| async { free.acquire_owned().await.expect("it is open") }).await;
        Slot(shared)
    }
}

const SWEEP_ABOVE: usize = 1_024;

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn copies_of_one_image_share_a_slot_and_others_wait() {
        let slots = Slots::new(1);
        let first = slots.take("c", 1).await;
        let second = slots.take("c", 1).await;
        assert!(slots.take("c", 2).now_or_never().is_none() && slots.take("d", 1).now_or_never().is_none());
        drop(first);
        assert!(slots.take("c", 2).now_or_never().is_none());
        drop(second);
        assert!(slots.take("c", 2).now_or_never().is_some());
    }
}
