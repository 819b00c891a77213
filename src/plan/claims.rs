//! One writer per destination repository: the oldest configuration that wants it holds it.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::image::RepositoryName;

/// A repository of a registry, independent of the Registry objects that name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryAddress {
    /// The canonical host of the registry, with its port unless that is the default.
    pub host: String,
    /// The name of the repository.
    pub repository: RepositoryName,
}

/// A configuration, ordered by age: the oldest first, by uid if two are equally old.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claimant {
    /// The creation time of the configuration.
    pub created: Timestamp,
    /// The uid of the configuration.
    pub uid: String,
}

/// The writers of all destination repositories, over all configurations.
#[derive(Debug, Default)]
pub struct Claims {
    held: HashMap<RepositoryAddress, Claim>,
    waiting: BTreeSet<String>,
    /// Destinations that a configuration gave up, or lost to an older one.
    former: HashSet<RepositoryAddress>,
    changes: u64,
}

/// The claim of a configuration on a destination.
#[derive(Clone, Debug)]
pub struct Claim {
    claimant: Claimant,
    source: RepositoryAddress,
}

/// The error of a claim on a destination that an older configuration holds. That one is not named: it may have another
/// owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict;

impl Claims {
    /// Claims `destination` for `claimant`, which copies there from `source`. Returns the uids of younger
    /// configurations that lose a claim by this.
    ///
    /// Two configurations that would copy one repository back and forth conflict too.
    ///
    /// # Errors
    /// [`Conflict`] if an older configuration holds it. `claimant` then waits: a later [`Claims::release`] returns its
    /// uid.
    pub fn claim(
        &mut self,
        claimant: &Claimant,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> Result<Vec<String>, Conflict> {
        let same_target = self.held.get(destination).filter(|claim| claim.claimant.uid != claimant.uid);
        let reverse =
            self.held.get(source).filter(|claim| claim.source == *destination && claim.claimant.uid != claimant.uid);
        if [same_target, reverse].into_iter().flatten().any(|claim| claim.claimant < *claimant) {
            self.waiting.insert(claimant.uid.clone());
            return Err(Conflict);
        }
        let displaced: Vec<String> =
            [same_target, reverse].into_iter().flatten().map(|claim| claim.claimant.uid.clone()).collect();
        if reverse.is_some() {
            self.held.remove(source);
        }
        if self.held.get(destination).is_some_and(|claim| claim.claimant.uid != claimant.uid) {
            self.remember(destination.clone());
        }
        self.changes += u64::from(!displaced.is_empty());
        self.held.insert(destination.clone(), Claim { claimant: claimant.clone(), source: source.clone() });
        Ok(displaced)
    }

    /// Returns true if a copy by `uid` from `source` to `destination` would bring back content that was copied from there,
    /// or that `uid` itself has copied: by any number of configurations between them.
    pub fn closes_circle(&self, uid: &str, source: &RepositoryAddress, destination: &RepositoryAddress) -> bool {
        let mut place = source;
        for length in 0..MAX_CHAIN {
            let Some(claim) = self.held.get(place) else { return false };
            // Two configurations that would copy to and fro are a conflict, which the older one wins.
            let is_back = claim.source == *destination && length > 0;
            if claim.claimant.uid == uid || is_back {
                return true;
            }
            place = &claim.source;
        }
        true
    }

    /// Returns true if `uid` still holds `destination`.
    pub fn holds(&self, uid: &str, destination: &RepositoryAddress) -> bool {
        self.held.get(destination).is_some_and(|claim| claim.claimant.uid == uid)
    }

    /// Releases the claims of `uid` that `keep` does not pick. Returns the uids of the configurations that wait for a
    /// claim, if any was released.
    pub fn release(&mut self, uid: &str, keep: impl Fn(&RepositoryAddress) -> bool) -> Vec<String> {
        let before = self.held.len();
        let given_up = |(place, claim): &(&RepositoryAddress, &Claim)| claim.claimant.uid == uid && !keep(place);
        let given_up: Vec<RepositoryAddress> =
            self.held.iter().filter(given_up).map(|(place, _)| place.clone()).collect();
        for place in given_up {
            self.held.remove(&place);
            self.remember(place);
        }
        self.waiting.remove(uid);
        if self.held.len() == before {
            return Vec::new();
        }
        self.changes += 1;
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// Returns true if the destination was held before: writes of that time may still be under way.
    pub fn is_inherited(&self, destination: &RepositoryAddress) -> bool {
        self.former.contains(destination)
    }

    fn remember(&mut self, place: RepositoryAddress) {
        if self.former.len() >= MAX_FORMER {
            self.former.clear();
        }
        self.former.insert(place);
    }

    /// Returns the number of releases and displacements so far: configurations check their claims again when it
    /// changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

/// The largest number of configurations that copy one after the other.
const MAX_CHAIN: usize = 32;
/// The largest number of destinations that are remembered as held before.
const MAX_FORMER: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(age: i64, uid: &str) -> Claimant {
        Claimant { created: Timestamp::from_second(age).unwrap(), uid: uid.to_owned() }
    }

    fn place(host: &str, repository: &str) -> RepositoryAddress {
        RepositoryAddress { host: host.to_owned(), repository: repository.parse().unwrap() }
    }

    #[test]
    fn the_older_configuration_keeps_the_destination_in_either_order() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, b, target) = (place("a", "x"), place("b", "x"), place("t", "x"));
        let mut claims = Claims::default();
        assert_eq!(claims.claim(&older, &a, &target), Ok(vec![]));
        assert_eq!(claims.claim(&younger, &b, &target), Err(Conflict));
        let mut claims = Claims::default();
        assert_eq!(claims.claim(&younger, &b, &target), Ok(vec![]));
        assert_eq!(claims.claim(&older, &a, &target), Ok(vec!["y".to_owned()]));
        assert!(claims.holds("o", &target) && !claims.holds("y", &target));
    }

    #[test]
    fn a_released_destination_goes_to_the_one_that_waits() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&older, &a, &target).unwrap();
        claims.claim(&younger, &a, &target).unwrap_err();
        assert_eq!(claims.release("o", |_| true), Vec::<String>::new());
        assert_eq!(claims.release("o", |_| false), ["y"]);
        assert!(claims.claim(&younger, &a, &target).is_ok());
        assert!(claims.is_inherited(&target) && !claims.is_inherited(&a));
    }

    #[test]
    fn two_registries_are_not_copied_to_and_fro() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, b) = (place("a", "x"), place("b", "x"));
        let mut claims = Claims::default();
        claims.claim(&older, &a, &b).unwrap();
        assert_eq!(claims.claim(&younger, &b, &a), Err(Conflict));
        let mut claims = Claims::default();
        claims.claim(&younger, &b, &a).unwrap();
        assert_eq!(claims.claim(&older, &a, &b), Ok(vec!["y".to_owned()]));
        assert!(!claims.holds("y", &a));
    }

    #[test]
    fn content_does_not_come_back_by_a_chain() {
        let uids = ["1", "2", "3"].map(|uid| claimant(1, uid));
        let places = ["a", "b", "c", "d"].map(|host| place(host, "x"));
        let mut claims = Claims::default();
        claims.claim(&uids[0], &places[0], &places[1]).unwrap();
        assert!(!claims.closes_circle("2", &places[1], &places[2]), "a chain");
        claims.claim(&uids[1], &places[1], &places[2]).unwrap();
        assert!(claims.closes_circle("3", &places[2], &places[0]), "a circle of three");
        assert!(claims.closes_circle("1", &places[2], &places[3]), "its own copy of a copy");
        assert!(claims.closes_circle("1", &places[1], &places[3]), "its own copy");
        assert!(!claims.closes_circle("3", &places[2], &places[3]));
        assert!(!claims.closes_circle("2", &places[1], &places[0]), "a conflict of two");
    }

    #[test]
    fn equally_old_configurations_are_ordered_by_uid() {
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&claimant(1, "b"), &a, &target).unwrap();
        assert_eq!(claims.claim(&claimant(1, "a"), &a, &target), Ok(vec!["b".to_owned()]));
        assert_eq!(claims.claim(&claimant(1, "b"), &a, &target), Err(Conflict));
    }
}
