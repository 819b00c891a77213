//! The room for the bodies of a port, shared fairly between their senders.
//!
//! A sender may hold as much as it leaves free for others: one alone gets half of the room, two a third each. Bodies
//! wait in the order in which they came; one whose sender holds too much already lets the others pass.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::locked::Locked;

/// The room for bodies, in KiB.
#[derive(Clone)]
pub(super) struct Room(Arc<Locked<Shares>>);

/// Room that one body takes, given back when this is dropped.
pub(super) struct Place {
    room: Room,
    sender: Arc<str>,
    kibibytes: usize,
}

struct Shares {
    free: usize,
    held: HashMap<Arc<str>, usize>,
    waiting: VecDeque<WaitingBody>,
}

/// A body that waits.
struct WaitingBody {
    sender: Arc<str>,
    kibibytes: usize,
    granted: oneshot::Sender<Place>,
}

impl Room {
    /// Returns free room.
    pub(super) fn new(kibibytes: usize) -> Self {
        let shares = Shares { free: kibibytes, held: HashMap::new(), waiting: VecDeque::new() };
        Self(Arc::new(Locked::new(shares)))
    }

    /// Waits for room for a body of `sender`; `None` if the room has gone. Dropping the future ends the wait.
    pub(super) async fn take(&self, sender: &str, kibibytes: usize) -> Option<Place> {
        let (granted, place) = oneshot::channel();
        self.0.lock().waiting.push_back(WaitingBody { sender: sender.into(), kibibytes, granted });
        self.grant();
        place.await.ok()
    }

    /// Gives room to those that wait, as far as there is some.
    fn grant(&self) {
        let granted = self.0.lock().take_granted();
        for WaitingBody { sender, kibibytes, granted } in granted {
            // One that waits no longer gives its room back by being dropped here, without the lock.
            let _ = granted.send(Place { room: self.clone(), sender, kibibytes });
        }
    }
}

impl Shares {
    /// Removes those that wait no longer, and returns those that have room now.
    fn take_granted(&mut self) -> Vec<WaitingBody> {
        let (mut granted, mut waiting) = (Vec::new(), VecDeque::new());
        for body in std::mem::take(&mut self.waiting) {
            if body.granted.is_closed() {
                continue;
            }
            let held = self.held.get(&body.sender).copied().unwrap_or_default();
            if held + body.kibibytes > self.free.saturating_sub(body.kibibytes) {
                waiting.push_back(body);
                continue;
            }
            self.free -= body.kibibytes;
            self.held.insert(body.sender.clone(), held + body.kibibytes);
            granted.push(body);
        }
        self.waiting = waiting;
        granted
    }

    fn give_back(&mut self, sender: &Arc<str>, kibibytes: usize) {
        self.free += kibibytes;
        let Some(held) = self.held.get_mut(sender) else { return };
        *held -= kibibytes;
        if *held == 0 {
            self.held.remove(sender);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.0.lock().give_back(&self.sender, self.kibibytes);
        self.room.grant();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take_now(room: &Room, sender: &str, kibibytes: usize) -> Option<Place> {
        room.take(sender, kibibytes).now_or_never().flatten()
    }

    fn fill(room: &Room, sender: &str) -> Vec<Place> {
        std::iter::from_fn(|| take_now(room, sender, 64)).collect()
    }

    #[test]
    fn a_sender_takes_no_more_room_than_it_leaves_to_others() {
        let room = Room::new(8 * 1024);
        let first = fill(&room, "a");
        assert_eq!(first.len() * 64, 4 * 1024);
        let second = fill(&room, "b");
        assert_eq!(second.len() * 64, 2 * 1024);
        assert!(take_now(&room, "a", 1).is_none() && take_now(&room, "c", 1024).is_some());
        drop((first, second));
        let shares = room.0.lock();
        assert!(shares.held.is_empty() && shares.free == 8 * 1024 && shares.waiting.is_empty());
    }

    #[test]
    fn bodies_wait_in_their_order_and_one_of_a_greedy_sender_blocks_no_other() {
        let room = Room::new(1024);
        let mut held = fill(&room, "a");
        let mut of_greedy = Box::pin(room.take("a", 128));
        assert!(of_greedy.as_mut().now_or_never().is_none());
        let other = take_now(&room, "b", 128).expect("it came later, and its sender holds nothing");
        let mut large = Box::pin(room.take("c", 512));
        let mut gone = Box::pin(room.take("d", 512));
        assert!(large.as_mut().now_or_never().is_none() && gone.as_mut().now_or_never().is_none());
        drop(gone);
        held.truncate(2);
        let of_greedy = of_greedy.now_or_never().expect("it holds little now");
        assert!(large.as_mut().now_or_never().is_none());
        drop((held, other, of_greedy));
        assert!(large.now_or_never().is_some());
        assert_eq!(room.0.lock().free, 1024, "the one that had given up holds nothing");
    }
}
