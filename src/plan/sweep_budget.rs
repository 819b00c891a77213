//! The budget for looks at known tags of one host: a rate that all configurations of the process share.
//!
//! The host as a whole has the largest rate that a Registry of it sets, and each Registry its own: an owner who sets
//! little slows down no other owner. Looks that wait are served in turns: by namespace, then by configuration.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::NamespacedName;

/// The user of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepOwner {
    /// The source Registry, in the namespace of the configuration.
    pub registry: NamespacedName,
    /// The name of the configuration.
    pub configuration: String,
}

/// The budget of one host, and the looks `T` that wait for it.
#[derive(Debug)]
pub struct SweepBudget<T> {
    host: SweepCredit,
    registries: BTreeMap<NamespacedName, SweepCredit>,
    /// The namespaces with waiting looks, the next one first.
    turns: VecDeque<String>,
    lines: BTreeMap<String, NamespaceLine<T>>,
}

/// The looks of one namespace that wait, by configuration; the next one first.
#[derive(Debug)]
struct NamespaceLine<T> {
    turns: VecDeque<SweepOwner>,
    waiting: BTreeMap<String, VecDeque<T>>,
}

/// Looks that may be made: earned with time, up to those of [`PAUSE_EARNS`].
#[derive(Clone, Copy, Debug)]
struct SweepCredit {
    rate: f64,
    looks: f64,
    at: Timestamp,
    used_at: Timestamp,
    waiting: usize,
}

impl SweepCredit {
    fn new(rate: u32, now: Timestamp) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, looks: rate * PAUSE_EARNS.as_secs_f64(), at: now, used_at: now, waiting: 0 }
    }

    fn earn(&mut self, now: Timestamp) {
        let passed = Duration::try_from(now.duration_since(self.at)).unwrap_or_default().as_secs_f64();
        self.looks = (self.looks + passed * self.rate).min(self.most());
        self.at = self.at.max(now);
    }

    fn set(&mut self, rate: u32, now: Timestamp) {
        self.earn(now);
        (self.rate, self.used_at) = (f64::from(rate.max(1)), now);
        self.looks = self.looks.min(self.most());
    }

    fn most(&self) -> f64 {
        self.rate * PAUSE_EARNS.as_secs_f64()
    }

    fn has_one(&self) -> bool {
        self.looks >= 1.0 - ROUNDING
    }

    /// Returns the time at which the next look is earned.
    fn ready_at(&self) -> Timestamp {
        let wait = ((1.0 - self.looks) / self.rate).max(0.0);
        self.at + Duration::from_secs_f64(wait)
    }
}

impl<T> SweepBudget<T> {
    /// Returns a budget from which nothing was taken yet; `rate` is that of the first Registry that uses it.
    pub fn new(rate: u32, now: Timestamp) -> Self {
        Self {
            host: SweepCredit::new(rate, now),
            registries: BTreeMap::new(),
            turns: VecDeque::new(),
            lines: BTreeMap::new(),
        }
    }

    /// Takes one look at once; false if there is none left, or others wait. `rate` is the one that the Registry of
    /// `owner` sets.
    pub fn take(&mut self, owner: &SweepOwner, rate: u32, now: Timestamp) -> bool {
        self.update(owner, rate, now);
        let is_free = self.turns.is_empty() && self.host.has_one() && self.registries[&owner.registry].has_one();
        if is_free {
            self.spend(&owner.registry);
        }
        is_free
    }

    /// Adds a look that waits for its turn.
    pub fn wait(&mut self, owner: &SweepOwner, rate: u32, look: T, now: Timestamp) {
        self.update(owner, rate, now);
        let namespace = &owner.registry.namespace;
        if !self.lines.contains_key(namespace) {
            self.turns.push_back(namespace.clone());
        }
        let line = self
            .lines
            .entry(namespace.clone())
            .or_insert_with(|| NamespaceLine { turns: VecDeque::new(), waiting: BTreeMap::new() });
        if !line.waiting.contains_key(&owner.configuration) {
            line.turns.push_back(owner.clone());
        }
        line.waiting.entry(owner.configuration.clone()).or_default().push_back(look);
        if let Some(registry) = self.registries.get_mut(&owner.registry) {
            registry.waiting += 1;
        }
    }

    /// Returns the next look that may be made by `now`. One that is not wanted any more costs nothing.
    pub fn next(&mut self, is_wanted: impl Fn(&T) -> bool, now: Timestamp) -> Option<T> {
        self.host.earn(now);
        self.registries.values_mut().for_each(|registry| registry.earn(now));
        let mut passed = 0;
        while self.host.has_one() && passed < self.turns.len() {
            let namespace = self.turns.pop_front()?;
            let line = self.lines.get_mut(&namespace)?;
            let registries = &self.registries;
            let taken = line.take(|owner| registries.get(&owner.registry).is_none_or(SweepCredit::has_one));
            if line.turns.is_empty() {
                self.lines.remove(&namespace);
            } else {
                self.turns.push_back(namespace);
            }
            passed += usize::from(taken.is_none());
            let Some((owner, look)) = taken else { continue };
            if let Some(registry) = self.registries.get_mut(&owner.registry) {
                registry.waiting -= 1;
            }
            if is_wanted(&look) {
                self.spend(&owner.registry);
                return Some(look);
            }
        }
        None
    }

    /// Returns the time at which the next look may be made; `None` if none waits.
    pub fn ready_at(&self) -> Option<Timestamp> {
        let waiting = self.registries.values().filter(|registry| registry.waiting > 0);
        Some(waiting.map(SweepCredit::ready_at).min()?.max(self.host.ready_at()))
    }

    /// Returns true if nothing waits, and a new budget would have earned as much.
    pub fn is_unused(&self, now: Timestamp) -> bool {
        self.turns.is_empty() && self.host.used_at + FORGET_AFTER < now
    }

    fn update(&mut self, owner: &SweepOwner, rate: u32, now: Timestamp) {
        let registry = self.registries.entry(owner.registry.clone()).or_insert_with(|| SweepCredit::new(rate, now));
        registry.set(rate, now);
        self.registries.retain(|_, credit| credit.waiting > 0 || credit.used_at + FORGET_AFTER >= now);
        let rates = self.registries.values().map(|registry| registry.rate as u32);
        self.host.set(rates.max().unwrap_or(rate), now);
    }

    fn spend(&mut self, registry: &NamespacedName) {
        self.host.looks -= 1.0;
        if let Some(registry) = self.registries.get_mut(registry) {
            registry.looks -= 1.0;
        }
    }
}

impl<T> NamespaceLine<T> {
    /// Takes the next look whose owner may make one.
    fn take(&mut self, may: impl Fn(&SweepOwner) -> bool) -> Option<(SweepOwner, T)> {
        let position = self.turns.iter().position(may)?;
        let owner = self.turns.remove(position)?;
        let looks = self.waiting.get_mut(&owner.configuration)?;
        let look = looks.pop_front()?;
        if looks.is_empty() {
            self.waiting.remove(&owner.configuration);
        } else {
            self.turns.push_back(owner.clone());
        }
        Some((owner, look))
    }
}

/// The pause for which looks are saved up: so many may be made at once after it.
const PAUSE_EARNS: Duration = Duration::from_secs(10);
/// Longer than [`PAUSE_EARNS`].
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Sums of parts of looks are not exact.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + millis).unwrap()
    }

    fn owner(namespace: &str, configuration: &str) -> SweepOwner {
        let registry = NamespacedName { namespace: namespace.to_owned(), name: "hub".to_owned() };
        SweepOwner { registry, configuration: configuration.to_owned() }
    }

    /// Has every owner keep looks waiting, and returns the looks that were made in so many seconds, by owner.
    fn served(owners: &[(SweepOwner, u32)], seconds: i64) -> Vec<usize> {
        let mut budget = SweepBudget::new(owners[0].1, at(0));
        // What a pause has earned is spent first.
        while owners.iter().any(|(owner, rate)| budget.take(owner, *rate, at(0))) {}
        let mut counts = vec![0; owners.len()];
        for (index, (owner, rate)) in owners.iter().enumerate() {
            (0..4).for_each(|_| budget.wait(owner, *rate, index, at(0)));
        }
        let mut now = at(0);
        while let Some(next) = budget.ready_at().filter(|next| *next <= at(seconds * 1_000)) {
            now = now.max(next);
            while let Some(index) = budget.next(|_| true, now) {
                counts[index] += 1;
                let (owner, rate) = &owners[index];
                budget.wait(owner, *rate, index, now);
            }
            now += Duration::from_millis(1);
        }
        counts
    }

    #[test]
    fn a_host_gets_as_many_looks_as_its_rate() {
        let counts = served(&[(owner("a", "c"), 20)], 100);
        assert!((1_980..=2_001).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn looks_are_shared_by_namespace_then_by_configuration() {
        let owners = [(owner("a", "one"), 20), (owner("a", "two"), 20), (owner("b", "one"), 20)];
        let counts = served(&owners, 100);
        assert!(counts.iter().sum::<usize>() <= 2_001, "{counts:?}");
        assert!((480..=510).contains(&counts[0]) && (480..=510).contains(&counts[1]), "{counts:?}");
        assert!((960..=1_010).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn an_owner_who_sets_little_slows_down_no_other() {
        let counts = served(&[(owner("a", "c"), 1), (owner("b", "c"), 20)], 100);
        assert!((95..=105).contains(&counts[0]), "its own rate: {counts:?}");
        assert!((1_880..=1_910).contains(&counts[1]), "the rest of the host's: {counts:?}");
    }

    #[test]
    fn a_pause_earns_the_looks_of_ten_seconds_and_no_more() {
        let (mut budget, owner) = (SweepBudget::<()>::new(20, at(0)), owner("a", "c"));
        let mut taken = |now| std::iter::repeat_with(|| budget.take(&owner, 20, now)).take_while(|is| *is).count();
        assert_eq!((taken(at(0)), taken(at(0))), (200, 0));
        assert_eq!((taken(at(50)), taken(at(1_050))), (1, 20));
        assert_eq!(taken(at(3_600_000)), 200);
    }

    #[test]
    fn looks_that_wait_come_before_a_comparison() {
        let (mut budget, waits, compares) = (SweepBudget::new(20, at(0)), owner("a", "c"), owner("b", "c"));
        budget.wait(&waits, 20, 'w', at(0));
        assert!(!budget.take(&compares, 20, at(0)));
        assert_eq!(budget.next(|_| true, at(0)), Some('w'));
        assert!(budget.take(&compares, 20, at(0)));
    }

    #[test]
    fn a_look_that_is_not_wanted_any_more_costs_nothing() {
        let (mut budget, owner) = (SweepBudget::new(1, at(0)), owner("a", "c"));
        while budget.take(&owner, 1, at(0)) {}
        ["gone", "gone", "there"].into_iter().for_each(|look| budget.wait(&owner, 1, look, at(0)));
        assert_eq!((budget.ready_at(), budget.next(|_| true, at(999))), (Some(at(1_000)), None));
        assert_eq!(budget.next(|look| *look != "gone", at(1_000)), Some("there"));
        assert_eq!(
            (budget.ready_at(), budget.is_unused(at(60_000)), budget.is_unused(at(61_001))),
            (None, false, true)
        );
    }

    #[test]
    fn a_changed_rate_counts_at_once() {
        let (mut budget, owner) = (SweepBudget::<()>::new(20, at(0)), owner("a", "c"));
        while budget.take(&owner, 20, at(0)) {}
        let mut taken = |rate, now| (0..1_000).take_while(|_| budget.take(&owner, rate, now)).count();
        assert_eq!(taken(100, at(0)), 0);
        assert_eq!(taken(100, at(1_000)), 100);
        assert_eq!(taken(1, at(11_000)), 10, "what a higher rate has earned is lost");
    }
}
