//! One writer per destination repository: the oldest configuration that wants it and has consent holds it.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use super::probe_turns::ProbeTurns;
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

/// The weight of a claim: a weaker one gives way, however old it is. A Registry object that only names the URL of
/// another owner's registry keeps none of them away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The registry has accepted the credentials.
    #[default]
    Accepted,
    /// It answers, and no credentials are sent.
    Anonymous,
    /// It has not accepted the credentials yet, or refuses them by now.
    Unproven,
}

/// The writers of all destination repositories, over all configurations.
///
/// Only claims with the consent of the destination's owner are made here; one is released when consent goes. The turns
/// of probes are kept with them, as the other state that configurations share.
#[derive(Debug, Default)]
pub struct Claims {
    pub(super) held: HashMap<RepositoryAddress, Claim>,
    /// The destinations of each configuration.
    places: HashMap<String, HashSet<RepositoryAddress>>,
    waiting: BTreeSet<String>,
    /// Destinations that a configuration gave up, or lost to another, with its uid.
    former: HashMap<RepositoryAddress, String>,
    changes: u64,
    /// The namespaces of configurations, by uid.
    namespaces: HashMap<String, String>,
    probe_turns: ProbeTurns,
}

/// The claim of a configuration on a destination.
#[derive(Clone, Debug)]
pub struct Claim {
    pub(super) claimant: Claimant,
    pub(super) standing: Standing,
    pub(super) source: RepositoryAddress,
}

impl Claim {
    /// Returns true if another claim does not displace this one.
    pub(super) fn is_as_good_as(&self, standing: Standing, claimant: &Claimant) -> bool {
        (self.standing, &self.claimant) <= (standing, claimant)
    }
}

/// The error of a claim on a destination that another configuration holds. That one is not named: it may have another
/// owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict;

impl Claims {
    /// Claims `destination` for `claimant`, which copies there from `source`. Of equal standing the older one holds it.
    /// Returns the uids of configurations that lose a claim by this, or may take one that is free or weaker than before.
    ///
    /// Configurations that would copy in a circle, or one repository back and forth, conflict too: the weakest of their
    /// claims gives way.
    ///
    /// # Errors
    /// [`Conflict`] if a better claim is held. `claimant` then waits: a later [`Claims::release`] returns its uid.
    pub fn claim(
        &mut self,
        claimant: &Claimant,
        standing: Standing,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> Result<Vec<String>, Conflict> {
        let held = self.held.get(destination);
        let (own, same_target) = match held {
            Some(claim) if claim.claimant.uid == claimant.uid => (held, None),
            _ => (None, held),
        };
        let link = self.weakest_link(source, destination);
        let rivals = same_target.into_iter().chain(link.map(|(_, claim)| claim));
        if rivals.clone().any(|claim| claim.is_as_good_as(standing, claimant)) {
            self.wait(&claimant.uid);
            return Err(Conflict);
        }
        let mut concerned: BTreeSet<String> = rivals.map(|claim| claim.claimant.uid.clone()).collect();
        let is_weaker = own.is_some_and(|own| (own.standing, &own.claimant) < (standing, claimant));
        let (is_displaced, broken) = (same_target.is_some(), link.map(|(place, _)| place.clone()));
        if is_weaker || broken.is_some() {
            concerned.append(&mut self.waiting);
        }
        broken.iter().for_each(|place| self.take(place));
        if is_displaced {
            self.take(destination);
        }
        self.changes += u64::from(!concerned.is_empty());
        let claim = Claim { claimant: claimant.clone(), standing, source: source.clone() };
        self.held.insert(destination.clone(), claim);
        self.places.entry(claimant.uid.clone()).or_default().insert(destination.clone());
        Ok(concerned.into_iter().collect())
    }

    /// Has a configuration whose claim is refused wait: a later [`Claims::release`] returns its uid.
    pub fn wait(&mut self, uid: &str) {
        if !self.waiting.contains(uid) {
            self.waiting.insert(uid.to_owned());
        }
    }

    /// Records that the age of a configuration is another one, and decides nothing. Returns the uids of configurations
    /// that wait for a claim, if one has become weaker by this.
    pub fn renew(&mut self, claimant: &Claimant) -> Vec<String> {
        let mut is_weaker = false;
        for place in self.places.get(&claimant.uid).into_iter().flatten() {
            if let Some(claim) = self.held.get_mut(place) {
                is_weaker |= claim.claimant < *claimant;
                claim.claimant.created = claimant.created;
            }
        }
        if !is_weaker {
            return Vec::new();
        }
        self.changes += 1;
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// Returns true if a claim of this standing conflicts with a better one, whatever their age.
    pub fn is_outranked(
        &self,
        standing: Standing,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> bool {
        let reverse = self.held.get(source).filter(|claim| claim.source == *destination);
        [self.held.get(destination), reverse].into_iter().flatten().any(|claim| claim.standing < standing)
    }

    /// Records the namespace of a configuration: conflicts inside one namespace are no secret.
    pub fn introduce(&mut self, uid: &str, namespace: &str) {
        if !self.namespaces.contains_key(uid) {
            self.namespaces.insert(uid.to_owned(), namespace.to_owned());
        }
    }

    /// Forgets the namespace of a configuration that has ended.
    pub fn forget(&mut self, uid: &str) {
        self.namespaces.remove(uid);
    }

    /// Returns true if all claims that a copy from `source` to `destination` conflicts with are of configurations of
    /// `namespace`.
    pub fn are_within(&self, namespace: &str, source: &RepositoryAddress, destination: &RepositoryAddress) -> bool {
        let reverse = self.held.get(source).filter(|claim| claim.source == *destination);
        [self.held.get(destination), reverse].into_iter().flatten().all(|claim| self.is_of(namespace, claim))
    }

    /// Returns true if a claim is of a configuration of `namespace`.
    pub(super) fn is_of(&self, namespace: &str, claim: &Claim) -> bool {
        self.namespaces.get(&claim.claimant.uid).is_some_and(|own| own == namespace)
    }

    /// Returns true if `uid` still holds `destination`.
    pub fn holds(&self, uid: &str, destination: &RepositoryAddress) -> bool {
        self.held.get(destination).is_some_and(|claim| claim.claimant.uid == uid)
    }

    /// Returns true if `claimant` holds `destination` as it would claim it now.
    pub fn holds_as(
        &self,
        claimant: &Claimant,
        standing: Standing,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> bool {
        let is_the_same =
            |claim: &Claim| (&claim.claimant, claim.standing, &claim.source) == (claimant, standing, source);
        self.held.get(destination).is_some_and(is_the_same)
    }

    /// Releases the claims of `uid` that `keep` does not pick. Returns the uids of the configurations that wait for a
    /// claim, if any was released.
    pub fn release(&mut self, uid: &str, keep: impl Fn(&RepositoryAddress) -> bool) -> Vec<String> {
        let places = self.places.get(uid).into_iter().flatten();
        let given_up: Vec<RepositoryAddress> = places.filter(|place| !keep(place)).cloned().collect();
        given_up.iter().for_each(|place| self.take(place));
        self.waiting.remove(uid);
        if given_up.is_empty() {
            return Vec::new();
        }
        self.changes += 1;
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// Returns true if the destination was held before: writes of that time may still be under way.
    pub fn is_inherited(&self, destination: &RepositoryAddress) -> bool {
        self.former.contains_key(destination)
    }

    /// Returns true if a configuration other than `uid` held the destination last: what it has there now is unknown.
    pub fn is_taken_over(&self, uid: &str, destination: &RepositoryAddress) -> bool {
        self.former.get(destination).is_some_and(|former| former != uid)
    }

    fn take(&mut self, place: &RepositoryAddress) {
        let Some(claim) = self.held.remove(place) else { return };
        let uid = claim.claimant.uid;
        if let Some(places) = self.places.get_mut(&uid) {
            places.remove(place);
            if places.is_empty() {
                self.places.remove(&uid);
            }
        }
        if self.former.len() >= MAX_FORMER {
            self.former.clear();
        }
        self.former.insert(place.clone(), uid);
    }

    /// Returns the number of releases and displacements so far: configurations check their claims again when it
    /// changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the turns of configurations that are refused for one cause.
    pub fn probe_turns(&mut self) -> &mut ProbeTurns {
        &mut self.probe_turns
    }
}

/// The largest number of destinations that are remembered as held before.
const MAX_FORMER: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::Standing::{Accepted, Anonymous, Unproven};
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
        assert_eq!(claims.claim(&older, Accepted, &a, &target), Ok(vec![]));
        assert_eq!(claims.claim(&younger, Accepted, &b, &target), Err(Conflict));
        let mut claims = Claims::default();
        assert_eq!(claims.claim(&younger, Accepted, &b, &target), Ok(vec![]));
        assert_eq!(claims.claim(&older, Accepted, &a, &target), Ok(vec!["y".to_owned()]));
        assert!(claims.holds("o", &target) && !claims.holds("y", &target));
    }

    #[test]
    fn a_released_destination_goes_to_the_one_that_waits() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&older, Accepted, &a, &target).unwrap();
        claims.claim(&younger, Accepted, &a, &target).unwrap_err();
        assert_eq!(claims.release("o", |_| true), Vec::<String>::new());
        assert_eq!(claims.release("o", |_| false), ["y"]);
        assert!(claims.claim(&younger, Accepted, &a, &target).is_ok());
        assert!(claims.is_inherited(&target) && !claims.is_inherited(&a));
    }

    #[test]
    fn two_registries_are_not_copied_to_and_fro() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, b) = (place("a", "x"), place("b", "x"));
        let mut claims = Claims::default();
        claims.claim(&older, Accepted, &a, &b).unwrap();
        assert_eq!(claims.claim(&younger, Accepted, &b, &a), Err(Conflict));
        let mut claims = Claims::default();
        claims.claim(&younger, Accepted, &b, &a).unwrap();
        assert_eq!(claims.claim(&older, Accepted, &a, &b), Ok(vec!["y".to_owned()]));
        assert!(!claims.holds("y", &a));
    }

    #[test]
    fn a_chain_is_within_a_namespace_if_each_of_its_configurations_is() {
        let places = ["a", "b", "c"].map(|host| place(host, "x"));
        let mut claims = Claims::default();
        claims.introduce("1", "team");
        claims.claim(&claimant(1, "1"), Accepted, &places[0], &places[1]).unwrap();
        claims.claim(&claimant(1, "2"), Accepted, &places[1], &places[2]).unwrap();
        let of = |claims: &Claims, place| [claims.leads_within("team", place), claims.leads_within("other", place)];
        assert_eq!([of(&claims, &places[1]), of(&claims, &places[2])], [[true, false], [false, false]]);
        claims.introduce("2", "team");
        assert_eq!(of(&claims, &places[2]), [true, false]);
        claims.forget("1");
        assert_eq!(of(&claims, &places[2]), [false, false]);
    }

    #[test]
    fn a_claim_without_accepted_credentials_gives_way_however_old_it_is() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, target) = (place("a", "x"), place("t", "x"));
        for (weak, strong) in [(Unproven, Anonymous), (Anonymous, Accepted), (Unproven, Accepted)] {
            let mut claims = Claims::default();
            claims.claim(&older, weak, &a, &target).unwrap();
            assert_eq!(claims.claim(&younger, strong, &a, &target), Ok(vec!["o".to_owned()]));
            assert_eq!(claims.claim(&older, weak, &a, &target), Err(Conflict));
            assert!(claims.holds_as(&younger, strong, &a, &target) && claims.is_taken_over("y", &target));
            assert_eq!(claims.claim(&older, strong, &a, &target), Ok(vec!["y".to_owned()]), "age decides among equals");
        }
    }

    #[test]
    fn a_claim_that_becomes_weaker_wakes_those_that_wait() {
        let (older, younger) = (claimant(1, "o"), claimant(2, "y"));
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&older, Accepted, &a, &target).unwrap();
        claims.claim(&younger, Accepted, &a, &target).unwrap_err();
        assert_eq!(claims.claim(&older, Unproven, &a, &target), Ok(vec!["y".to_owned()]));
        assert_eq!(claims.claim(&younger, Accepted, &a, &target), Ok(vec!["o".to_owned()]));
    }

    #[test]
    fn a_place_whose_holder_is_first_by_new_ages_stays_where_it_is() {
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&claimant(1, "m"), Accepted, &a, &target).unwrap();
        claims.claim(&claimant(2, "a"), Accepted, &a, &target).unwrap_err();
        // The first of three is gone: each of the others is one earlier.
        assert_eq!(claims.renew(&claimant(0, "m")), Vec::<String>::new(), "it weighs more");
        assert_eq!(claims.claim(&claimant(1, "a"), Accepted, &a, &target), Err(Conflict));
        assert!(claims.holds_as(&claimant(0, "m"), Accepted, &a, &target));
    }

    #[test]
    fn a_place_whose_holder_is_later_by_new_ages_goes_to_the_first() {
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&claimant(0, "a"), Accepted, &a, &target).unwrap();
        claims.claim(&claimant(1, "b"), Accepted, &a, &target).unwrap_err();
        assert_eq!(claims.claim(&claimant(0, "b"), Accepted, &a, &target), Err(Conflict), "the other age is old");
        let changes = claims.changes();
        assert_eq!(claims.renew(&claimant(1, "a")), ["b"]);
        assert!(claims.changes() > changes, "configurations check their claims again");
        assert_eq!(claims.claim(&claimant(0, "b"), Accepted, &a, &target), Ok(vec!["a".to_owned()]));
        assert_eq!(claims.renew(&claimant(1, "a")), Vec::<String>::new(), "it holds nothing");
    }

    #[test]
    fn equally_old_configurations_are_ordered_by_uid() {
        let (a, target) = (place("a", "x"), place("t", "x"));
        let mut claims = Claims::default();
        claims.claim(&claimant(1, "b"), Accepted, &a, &target).unwrap();
        assert_eq!(claims.claim(&claimant(1, "a"), Accepted, &a, &target), Ok(vec!["b".to_owned()]));
        assert_eq!(claims.claim(&claimant(1, "b"), Accepted, &a, &target), Err(Conflict));
    }
}
