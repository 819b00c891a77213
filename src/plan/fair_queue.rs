//! A queue that is fair between namespaces, then between hosts, then first in, first out.
//!
//! The namespace with the fewest running entries is next; of several the one that was served longest ago. Inside a
//! namespace urgent entries come first, then those of the highest priority, of them the host with the fewest running
//! ones. Some slots are reserved: for
//! namespaces without a running entry, and for a few urgent ones of each namespace. An entry that makes no progress
//! still counts for its namespace, but takes no slot from others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct FairLimits {
    /// The entries that run at once, and the most of one namespace.
    pub shared: usize,
    /// Further entries, of namespaces that have none running and for urgent ones.
    pub reserved: usize,
}

/// The owner of an entry, by whom shares are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOwner {
    /// The namespace.
    pub namespace: String,
    /// The host that the entry works with.
    pub host: String,
    /// True if it goes before other entries of its namespace.
    pub is_urgent: bool,
    /// The priority among the entries of its namespace; the higher one goes first.
    pub priority: i32,
}

/// The number of an entry; numbers grow in the order of arrival.
pub type Ticket = u64;

/// The order of the entries of one owner: by priority, then by arrival.
type Precedence = (Reverse<i32>, Ticket);

/// Entries that wait or run.
#[derive(Debug)]
pub struct FairQueue<T> {
    limits: FairLimits,
    shares: HashMap<String, NamespaceShare<T>>,
    entries: HashMap<Ticket, QueueEntry>,
    /// The namespaces with waiting entries: by running ones, last turn and name.
    order: BTreeSet<(usize, u64, String)>,
    /// The namespaces with urgent waiting entries: by urgent running ones, last turn and name.
    urgent_order: BTreeSet<(usize, u64, String)>,
    next_ticket: Ticket,
    turn: u64,
    running: usize,
    slow: usize,
}

#[derive(Debug)]
struct QueueEntry {
    owner: ShareOwner,
    phase: EntryPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryPhase {
    Waiting,
    Running,
    Slow,
}

/// The entries of one namespace.
#[derive(Debug)]
struct NamespaceShare<T> {
    urgent: BTreeMap<Precedence, T>,
    hosts: BTreeMap<String, HostShare<T>>,
    waiting: usize,
    running: usize,
    running_urgent: usize,
    served_at: u64,
}

/// The entries of one namespace for one host. Urgent ones wait elsewhere, and run here.
#[derive(Debug)]
struct HostShare<T> {
    waiting: BTreeMap<Precedence, T>,
    running: usize,
    served_at: u64,
}

impl<T> Default for NamespaceShare<T> {
    fn default() -> Self {
        let (urgent, hosts) = (BTreeMap::new(), BTreeMap::new());
        Self { urgent, hosts, waiting: 0, running: 0, running_urgent: 0, served_at: 0 }
    }
}

impl<T> Default for HostShare<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), running: 0, served_at: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Returns an empty queue. At least one entry may run.
    pub fn new(limits: FairLimits) -> Self {
        Self {
            limits: FairLimits { shared: limits.shared.max(1), ..limits },
            shares: HashMap::new(),
            entries: HashMap::new(),
            order: BTreeSet::new(),
            urgent_order: BTreeSet::new(),
            next_ticket: 0,
            turn: 0,
            running: 0,
            slow: 0,
        }
    }

    /// Adds an entry that waits.
    pub fn push(&mut self, owner: ShareOwner, work: T) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.change(&owner.namespace, |share| {
            share.waiting += 1;
            let turn = (Reverse(owner.priority), ticket);
            if owner.is_urgent {
                share.urgent.insert(turn, work);
            } else {
                share.host(&owner.host).waiting.insert(turn, work);
            }
        });
        self.entries.insert(ticket, QueueEntry { owner, phase: EntryPhase::Waiting });
        ticket
    }

    /// Starts the next entry, if one may start.
    pub fn start_next(&mut self) -> Option<(Ticket, T)> {
        let (namespace, urgent_only) = self.next_namespace()?;
        self.turn += 1;
        let turn = self.turn;
        let (ticket, work) = self.change(&namespace, |share| share.take(urgent_only))?;
        let entry = self.entries.get_mut(&ticket)?;
        entry.phase = EntryPhase::Running;
        let owner = entry.owner.clone();
        self.running += 1;
        self.change(&namespace, |share| {
            share.served_at = turn;
            share.running += 1;
            share.running_urgent += usize::from(owner.is_urgent);
            let host = share.host(&owner.host);
            host.running += 1;
            host.served_at = turn;
        });
        Some((ticket, work))
    }

    /// Removes an entry that has ended, or that is no longer to run.
    pub fn remove(&mut self, ticket: Ticket) {
        let Some(QueueEntry { owner, phase }) = self.entries.remove(&ticket) else { return };
        if phase != EntryPhase::Waiting {
            self.running -= 1;
            self.slow -= usize::from(phase == EntryPhase::Slow);
        }
        self.change(&owner.namespace, |share| {
            if phase == EntryPhase::Waiting {
                share.waiting -= 1;
                let turn = (Reverse(owner.priority), ticket);
                share.urgent.remove(&turn);
                share.host(&owner.host).waiting.remove(&turn);
            } else {
                share.running -= 1;
                share.running_urgent -= usize::from(owner.is_urgent);
                share.host(&owner.host).running -= 1;
            }
            share.forget_host(&owner.host);
        });
    }

    /// Notes that a running entry makes no progress to speak of, or does again. A slow one keeps its place in the count
    /// of its namespace and gives its slot to others.
    pub fn set_slow(&mut self, ticket: Ticket, is_slow: bool) {
        let Some(entry) = self.entries.get_mut(&ticket).filter(|entry| entry.phase != EntryPhase::Waiting) else {
            return;
        };
        let was_slow = entry.phase == EntryPhase::Slow;
        entry.phase = if is_slow { EntryPhase::Slow } else { EntryPhase::Running };
        self.slow = self.slow + usize::from(is_slow) - usize::from(was_slow);
    }

    /// Returns an entry that is to end and to come back later, so that a namespace without any has its turn: a slow one
    /// where more are slow than may lend their slots, else one of the namespace with the most.
    pub fn to_end(&self) -> Option<Ticket> {
        let is_waiting = || self.order.first().is_some_and(|(running, ..)| *running == 0);
        if !is_waiting() || self.next_namespace().is_some() {
            return None;
        }
        let share = |entry: &QueueEntry| self.shares.get(&entry.owner.namespace).map_or(0, |share| share.running);
        let is_meant = |entry: &QueueEntry| match entry.phase {
            EntryPhase::Waiting => false,
            // The end of one that lends its slot makes no room.
            EntryPhase::Slow => self.slow > MAX_SLOW,
            EntryPhase::Running => self.slow <= MAX_SLOW && share(entry) > 1,
        };
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(entry));
        // The one that came last has moved least.
        let turn = |ticket: Ticket, entry: &QueueEntry| (share(entry), !entry.owner.is_urgent, ticket);
        meant.max_by_key(|(ticket, entry)| turn(**ticket, entry)).map(|(ticket, _)| *ticket)
    }

    /// Returns true if an entry that waits may start.
    pub fn may_start(&self) -> bool {
        self.next_namespace().is_some()
    }

    /// Returns the number of entries that wait.
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.running
    }

    /// Returns the namespace whose turn it is, and true if only an urgent entry of it may start.
    fn next_namespace(&self) -> Option<(String, bool)> {
        let taken = self.running - self.slow.min(MAX_SLOW);
        let (running, _, namespace) = self.order.first()?;
        if taken < self.limits.shared && *running < self.limits.shared {
            return Some((namespace.clone(), false));
        }
        if taken >= self.limits.shared + self.limits.reserved {
            return None;
        }
        if *running == 0 {
            return Some((namespace.clone(), false));
        }
        let (urgent, _, namespace) = self.urgent_order.first()?;
        (*urgent < MAX_RESERVED_URGENT).then(|| (namespace.clone(), true))
    }

    fn change<R>(&mut self, namespace: &str, change: impl FnOnce(&mut NamespaceShare<T>) -> R) -> R {
        if !self.shares.contains_key(namespace) {
            self.shares.insert(namespace.to_owned(), NamespaceShare::default());
        }
        let share = self.shares.get_mut(namespace).expect("it was inserted");
        self.order.remove(&(share.running, share.served_at, namespace.to_owned()));
        self.urgent_order.remove(&(share.running_urgent, share.served_at, namespace.to_owned()));
        let changed = change(share);
        if share.waiting > 0 {
            self.order.insert((share.running, share.served_at, namespace.to_owned()));
        }
        if !share.urgent.is_empty() {
            self.urgent_order.insert((share.running_urgent, share.served_at, namespace.to_owned()));
        }
        if share.waiting == 0 && share.running == 0 {
            self.shares.remove(namespace);
        }
        changed
    }
}

impl<T> NamespaceShare<T> {
    fn host(&mut self, host: &str) -> &mut HostShare<T> {
        if !self.hosts.contains_key(host) {
            self.hosts.insert(host.to_owned(), HostShare::default());
        }
        self.hosts.get_mut(host).expect("it was inserted")
    }

    fn forget_host(&mut self, host: &str) {
        if self.hosts.get(host).is_some_and(|host| host.waiting.is_empty() && host.running == 0) {
            self.hosts.remove(host);
        }
    }

    /// Takes the entry whose turn it is.
    fn take(&mut self, urgent_only: bool) -> Option<(Ticket, T)> {
        let ((_, ticket), work) = self.urgent.pop_first().or_else(|| {
            let waiting = self.hosts.values_mut().filter(|host| !urgent_only && !host.waiting.is_empty());
            let priority = |host: &HostShare<T>| host.waiting.keys().next().map(|(priority, _)| *priority);
            waiting.min_by_key(|host| (priority(host), host.running, host.served_at))?.waiting.pop_first()
        })?;
        self.waiting -= 1;
        Some((ticket, work))
    }
}

/// Slow entries beyond this number take slots.
const MAX_SLOW: usize = 64;
/// Urgent entries of one namespace that may run in reserved slots.
const MAX_RESERVED_URGENT: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(namespace: &str, host: &str) -> ShareOwner {
        ShareOwner { namespace: namespace.into(), host: host.into(), is_urgent: false, priority: 0 }
    }

    fn urgent(namespace: &str, host: &str) -> ShareOwner {
        ShareOwner { is_urgent: true, ..owner(namespace, host) }
    }

    fn queue(shared: usize, reserved: usize) -> FairQueue<&'static str> {
        FairQueue::new(FairLimits { shared, reserved })
    }

    fn push(queue: &mut FairQueue<&'static str>, count: usize, owner: &ShareOwner, name: &'static str) {
        for _ in 0..count {
            queue.push(owner.clone(), name);
        }
    }

    fn started(queue: &mut FairQueue<&'static str>) -> Vec<(Ticket, &'static str)> {
        std::iter::from_fn(|| queue.start_next()).collect()
    }

    fn names(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        started(queue).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_namespace_without_an_entry_starts_although_another_has_all_slots() {
        let mut queue = queue(4, 2);
        push(&mut queue, 30, &owner("a", "h"), "a");
        assert_eq!(names(&mut queue), ["a"; 4], "the reserve is for others");
        for name in ["b", "c", "d"] {
            queue.push(owner(name, "h"), name);
            queue.push(owner(name, "h"), name);
        }
        assert_eq!(names(&mut queue), ["b", "c"], "one each, while the reserve lasts");
    }

    #[test]
    fn namespaces_take_turns_and_so_do_hosts_of_one() {
        let mut queue = queue(1, 0);
        for (namespace, host, name) in [
            ("a", "1", "a1"),
            ("a", "1", "a1 again"),
            ("a", "2", "a2"),
            ("b", "1", "b"),
            ("b", "1", "b again"),
            ("c", "1", "c"),
        ] {
            queue.push(owner(namespace, host), name);
        }
        let mut order = Vec::new();
        while let Some((ticket, name)) = queue.start_next() {
            order.push(name);
            queue.remove(ticket);
        }
        assert_eq!(order, ["a1", "b", "c", "a2", "b again", "a1 again"]);
    }

    #[test]
    fn a_host_with_long_entries_leaves_room_for_others_of_its_namespace() {
        let mut queue = queue(4, 0);
        push(&mut queue, 9, &owner("a", "slow"), "slow");
        queue.push(owner("a", "fast"), "fast");
        assert_eq!(names(&mut queue), ["fast", "slow", "slow", "slow"]);
    }

    #[test]
    fn an_urgent_entry_never_waits_behind_a_backfill() {
        let mut queue = queue(2, 2);
        push(&mut queue, 9, &owner("a", "h"), "backfill");
        assert_eq!(names(&mut queue), ["backfill"; 2]);
        push(&mut queue, 3, &urgent("a", "h"), "push");
        let pushes = started(&mut queue);
        assert_eq!(pushes.len(), 2, "a namespace has so many reserved slots for pushes");
        queue.remove(pushes[0].0);
        assert_eq!(names(&mut queue), ["push"]);
        queue.remove(pushes[1].0);
        assert_eq!(names(&mut queue), [""; 0]);
    }

    #[test]
    fn a_slow_entry_gives_its_slot_to_others_and_not_to_its_own_namespace() {
        let mut queue = queue(2, 1);
        push(&mut queue, 9, &owner("a", "h"), "a");
        let slow = started(&mut queue);
        push(&mut queue, 9, &owner("b", "h"), "b");
        let others = started(&mut queue);
        assert_eq!(others.len(), 1);
        slow.iter().for_each(|(ticket, _)| queue.set_slow(*ticket, true));
        assert_eq!(names(&mut queue), ["b"], "as many as the slots, and no more of the namespace that is slow");
        queue.set_slow(slow[0].0, false);
        queue.remove(slow[0].0);
        assert_eq!(names(&mut queue), [""; 0], "the slots are those of the other");
        queue.remove(others[0].0);
        assert_eq!(names(&mut queue), ["a"], "it has fewer");
    }

    #[test]
    fn more_slow_entries_than_lend_their_slots_keep_no_namespace_out() {
        let mut queue = queue(16, 8);
        for team in 0..13 {
            push(&mut queue, 16, &owner(&format!("slow-{team}"), "h"), "slow");
            for (ticket, _) in started(&mut queue) {
                queue.set_slow(ticket, true);
            }
        }
        assert_eq!((queue.running, queue.to_end()), (MAX_SLOW + 16 + 8, None), "each has one at least");
        push(&mut queue, 1, &owner("good", "h"), "good");
        assert_eq!(names(&mut queue), [""; 0]);
        let ended = queue.to_end().expect("a slow one makes room");
        queue.remove(ended);
        assert_eq!(names(&mut queue), ["good"]);
        assert_eq!(queue.to_end(), None, "only for a namespace that has none");
    }

    #[test]
    fn pushes_of_a_few_namespaces_keep_no_other_one_out() {
        for (others, pushes) in [(4, 2), (8, 1)] {
            let mut queue = queue(16, 8);
            push(&mut queue, 16, &owner("a", "h"), "a");
            let first = started(&mut queue);
            for other in 0..others {
                push(&mut queue, pushes, &urgent(&format!("other-{other}"), "h"), "push");
            }
            assert_eq!(names(&mut queue).len(), 8);
            assert_eq!(queue.to_end(), None, "each has one");
            push(&mut queue, 2, &owner("late", "h"), "late");
            assert_eq!(names(&mut queue), [""; 0]);
            assert_eq!(queue.to_end(), Some(first[15].0), "the one that came last has moved least");
            queue.set_slow(first[14].0, true);
            assert_eq!(names(&mut queue), ["late"], "it lends its slot");
            assert_eq!(queue.to_end(), None, "only for a namespace that has none");
        }
    }

    #[test]
    fn one_entry_each_ends_for_none_and_a_push_after_the_others() {
        let mut queue = queue(2, 1);
        for name in ["a", "b", "c", "d"] {
            queue.push(owner(name, "h"), name);
        }
        assert_eq!((started(&mut queue).len(), queue.to_end()), (3, None));
        let mut queue = super::tests::queue(2, 1);
        queue.push(owner("a", "h"), "backfill");
        let backfill = started(&mut queue)[0].0;
        push(&mut queue, 2, &urgent("a", "h"), "push");
        assert_eq!(names(&mut queue).len(), 2);
        queue.push(owner("b", "h"), "b");
        assert_eq!(queue.to_end(), Some(backfill));
    }

    #[test]
    fn two_namespaces_end_nothing_of_one_another() {
        let mut queue = queue(16, 8);
        push(&mut queue, 40, &owner("a", "h"), "a");
        assert_eq!(names(&mut queue).len(), 16);
        push(&mut queue, 9, &urgent("a", "h"), "push");
        assert_eq!(names(&mut queue), ["push"; 2]);
        push(&mut queue, 40, &owner("b", "h"), "b");
        assert_eq!((names(&mut queue), queue.to_end()), (vec!["b"], None));
    }

    #[test]
    fn a_priority_orders_the_entries_of_its_namespace_alone() {
        let mut queue = queue(1, 0);
        for (namespace, host, priority, name) in [
            ("a", "1", 0, "usual"),
            ("a", "1", 100, "high"),
            ("a", "2", -100, "low"),
            ("a", "2", 100, "high at another host"),
            ("b", "1", 0, "another namespace"),
        ] {
            queue.push(ShareOwner { priority, ..owner(namespace, host) }, name);
        }
        queue.push(ShareOwner { priority: -5, ..urgent("a", "1") }, "push");
        queue.push(ShareOwner { priority: 5, ..urgent("a", "1") }, "push of a higher priority");
        let mut order = Vec::new();
        while let Some((ticket, name)) = queue.start_next() {
            order.push(name);
            queue.remove(ticket);
        }
        let expected =
            ["push of a higher priority", "another namespace", "push", "high at another host", "high", "usual", "low"];
        assert_eq!(order, expected);
    }

    #[test]
    fn an_entry_that_is_removed_while_it_waits_never_starts() {
        let mut queue = queue(1, 0);
        let tickets = [queue.push(owner("a", "h"), "first"), queue.push(urgent("a", "h"), "second")];
        tickets.into_iter().for_each(|ticket| queue.remove(ticket));
        assert_eq!((queue.start_next(), queue.waiting(), queue.shares.len()), (None, 0, 0));
    }

    #[derive(Clone, Debug)]
    enum QueueAction {
        Push { namespace: u8, host: u8, is_urgent: bool, priority: i32 },
        End(prop::sample::Index),
        Withdraw(prop::sample::Index),
        Slow(prop::sample::Index, bool),
    }

    fn action() -> impl Strategy<Value = QueueAction> {
        prop_oneof![
            4 => (0..5u8, 0..3u8, prop::bool::weighted(0.2), -1..=1)
                .prop_map(|(namespace, host, is_urgent, priority)| QueueAction::Push { namespace, host, is_urgent, priority }),
            3 => any::<prop::sample::Index>().prop_map(QueueAction::End),
            1 => any::<prop::sample::Index>().prop_map(QueueAction::Withdraw),
            1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(index, is_slow)| QueueAction::Slow(index, is_slow)),
        ]
    }

    /// The entries as the test knows them: waiting, and running with their slowness.
    #[derive(Default)]
    struct KnownEntries {
        waiting: BTreeMap<Ticket, ShareOwner>,
        running: BTreeMap<Ticket, (ShareOwner, bool)>,
    }

    impl KnownEntries {
        fn running_of(&self, namespace: &str) -> usize {
            self.running.values().filter(|(owner, _)| owner.namespace == namespace).count()
        }

        fn taken(&self) -> usize {
            self.running.values().filter(|(_, is_slow)| !is_slow).count()
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_and_each_entry_starts_once_in_its_turn(
            actions in prop::collection::vec(action(), 1..200),
            shared in 1..5usize,
            reserved in 0..4usize,
        ) {
            let mut queue = FairQueue::new(FairLimits { shared, reserved });
            let mut known = KnownEntries::default();
            for action in actions {
                match action {
                    QueueAction::Push { namespace, host, is_urgent, priority } => {
                        let owner = ShareOwner { namespace: namespace.to_string(), host: host.to_string(), is_urgent, priority };
                        known.waiting.insert(queue.push(owner.clone(), ()), owner);
                    }
                    QueueAction::End(index) if !known.running.is_empty() => {
                        let ticket = *index.get(&known.running.keys().copied().collect::<Vec<_>>());
                        known.running.remove(&ticket);
                        queue.remove(ticket);
                    }
                    QueueAction::Withdraw(index) if !known.waiting.is_empty() => {
                        let ticket = *index.get(&known.waiting.keys().copied().collect::<Vec<_>>());
                        known.waiting.remove(&ticket);
                        queue.remove(ticket);
                    }
                    QueueAction::Slow(index, is_slow) if !known.running.is_empty() => {
                        let ticket = *index.get(&known.running.keys().copied().collect::<Vec<_>>());
                        known.running.get_mut(&ticket).unwrap().1 = is_slow;
                        queue.set_slow(ticket, is_slow);
                    }
                    _ => {}
                }
                while let Some((ticket, ())) = queue.start_next() {
                    let owner = known.waiting.remove(&ticket).expect("it waited");
                    let is_before = |other: &ShareOwner| *other == owner;
                    prop_assert!(known.waiting.iter().all(|(other, o)| *other > ticket || !is_before(o)), "first in");
                    prop_assert!(known.taken() < shared + reserved);
                    let fewest = known.waiting.values().map(|o| known.running_of(&o.namespace)).min();
                    prop_assert!(owner.is_urgent || fewest.is_none_or(|n| n >= known.running_of(&owner.namespace)));
                    prop_assert!(owner.is_urgent || known.running_of(&owner.namespace) < shared);
                    known.running.insert(ticket, (owner, false));
                }
                let has_room = known.taken() < shared + reserved;
                let is_kept_out = |o: &ShareOwner| known.running_of(&o.namespace) == 0;
                prop_assert!(!(has_room && known.waiting.values().any(is_kept_out)), "one without an entry waits");
                prop_assert_eq!(queue.waiting(), known.waiting.len());
            }
            // Once all that runs ends, all that waits starts.
            while !known.running.is_empty() || !known.waiting.is_empty() {
                for ticket in std::mem::take(&mut known.running).into_keys() {
                    queue.remove(ticket);
                }
                let before = known.waiting.len();
                while let Some((ticket, ())) = queue.start_next() {
                    let owner = known.waiting.remove(&ticket).expect("it waited");
                    known.running.insert(ticket, (owner, false));
                }
                prop_assert!(before == 0 || known.waiting.len() < before);
            }
            prop_assert!(queue.shares.is_empty() && queue.order.is_empty() && queue.urgent_order.is_empty());
        }
    }
}
