//! Circles of claims: copies by which content would come back, and the link of a circle that gives way.

use super::claims::{Claim, Claimant, Claims, RepositoryAddress, Standing};

impl Claims {
    /// Returns true if a copy from `source` to `destination` is refused because it would bring back content that was
    /// copied from there, or that `claimant` itself has copied: by any number of configurations between them.
    ///
    /// Of a circle the weakest link gives way, of equal standing the youngest: where that is another one,
    /// [`Claims::claim`] takes it away.
    pub fn closes_circle(
        &self,
        claimant: &Claimant,
        standing: Standing,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> bool {
        // A weaker claim gives way, so that what comes through it is not the claimant's own.
        let links = self.links(source).take_while(|(_, claim)| claim.standing <= standing);
        let mut length = 0;
        if links.inspect(|_| length += 1).any(|(_, claim)| claim.claimant.uid == claimant.uid) || length == MAX_CHAIN {
            return true;
        }
        // Two configurations that would copy to and fro are a conflict, which the better one wins.
        let is_reverse = self.held.get(source).is_some_and(|claim| claim.source == *destination);
        let weakest = self.weakest_link(source, destination).filter(|_| !is_reverse);
        weakest.is_some_and(|(_, claim)| claim.is_as_good_as(standing, claimant))
    }

    /// Returns the weakest of the claims by which content of `destination` comes to `source`, if it does, and the place
    /// that it claims.
    pub(super) fn weakest_link(
        &self,
        source: &RepositoryAddress,
        destination: &RepositoryAddress,
    ) -> Option<(&RepositoryAddress, &Claim)> {
        let mut weakest = None;
        for link @ (_, claim) in self.links(source) {
            weakest = weakest.max(Some((claim.standing, &claim.claimant, link.0)));
            if claim.source == *destination {
                return weakest.and_then(|(_, _, place)| self.held.get_key_value(place));
            }
        }
        None
    }

    /// Returns true if all claims by which content came to `source` are of configurations of `namespace`.
    pub fn leads_within(&self, namespace: &str, source: &RepositoryAddress) -> bool {
        self.links(source).all(|(_, claim)| self.is_of(namespace, claim))
    }

    /// Returns the claims by which content comes to a place, each with the place that it claims, the last one first.
    fn links<'a>(&'a self, place: &RepositoryAddress) -> impl Iterator<Item = (&'a RepositoryAddress, &'a Claim)> {
        let earlier = |(_, claim): &(&'a RepositoryAddress, &'a Claim)| self.held.get_key_value(&claim.source);
        std::iter::successors(self.held.get_key_value(place), earlier).take(MAX_CHAIN)
    }
}

/// The largest number of configurations that copy one after the other.
const MAX_CHAIN: usize = 32;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::claims::Conflict;
    use super::Standing::{Accepted, Anonymous, Unproven};
    use super::*;

    fn claimant(age: i64, uid: &str) -> Claimant {
        Claimant { created: Timestamp::from_second(age).unwrap(), uid: uid.to_owned() }
    }

    fn places<const COUNT: usize>(hosts: [&str; COUNT]) -> [RepositoryAddress; COUNT] {
        hosts.map(|host| RepositoryAddress { host: host.to_owned(), repository: "x".parse().unwrap() })
    }

    #[test]
    fn content_does_not_come_back_by_a_chain() {
        let uids = ["1", "2", "3"].map(|uid| claimant(1, uid));
        let places = places(["a", "b", "c", "d"]);
        let mut claims = Claims::default();
        claims.claim(&uids[0], Accepted, &places[0], &places[1]).unwrap();
        assert!(!claims.closes_circle(&uids[1], Accepted, &places[1], &places[2]), "a chain");
        claims.claim(&uids[1], Accepted, &places[1], &places[2]).unwrap();
        assert!(claims.closes_circle(&uids[2], Accepted, &places[2], &places[0]), "a circle of three");
        assert!(claims.closes_circle(&uids[0], Accepted, &places[2], &places[3]), "its own copy of a copy");
        assert!(claims.closes_circle(&uids[0], Accepted, &places[1], &places[3]), "its own copy");
        assert!(!claims.closes_circle(&uids[2], Accepted, &places[2], &places[3]));
        assert!(!claims.closes_circle(&uids[1], Accepted, &places[1], &places[0]), "a conflict of two");
    }

    /// Claims the links of a circle one after the other, as configurations do, and those that are taken away again,
    /// until nothing changes. Returns the links that are held.
    fn settle(order: [usize; 3], links: &[(Claimant, Standing); 3]) -> [bool; 3] {
        let places = places(["a", "b", "c"]);
        let place = |link: usize| &places[(link + 1) % 3];
        let (mut claims, mut due) = (Claims::default(), Vec::from(order));
        for _ in 0..20 {
            if due.is_empty() {
                return [0, 1, 2].map(|link| claims.holds(&links[link].0.uid, place(link)));
            }
            let link = due.remove(0);
            let (claimant, standing) = &links[link];
            let is_refused = claims.closes_circle(claimant, *standing, &places[link], place(link));
            let claimed = claims.claim(claimant, *standing, &places[link], place(link));
            assert_eq!(is_refused, claimed.is_err());
            let woken = claimed.unwrap_or_default().into_iter();
            due.extend(woken.map(|uid| links.iter().position(|(claimant, _)| claimant.uid == uid).unwrap()));
        }
        panic!("configurations take a circle from each other for ever: {links:?}");
    }

    #[test]
    fn of_a_circle_the_weakest_link_gives_way_whatever_came_first() {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let link = |age, uid: &str, standing| (claimant(age, uid), standing);
        let table = [
            ([link(3, "1", Accepted), link(1, "2", Anonymous), link(2, "3", Accepted)], 1),
            ([link(1, "1", Unproven), link(2, "2", Anonymous), link(3, "3", Accepted)], 0),
            ([link(1, "1", Accepted), link(2, "2", Accepted), link(3, "3", Anonymous)], 2),
            ([link(1, "1", Anonymous), link(3, "2", Anonymous), link(2, "3", Anonymous)], 1),
            ([link(1, "3", Accepted), link(1, "2", Accepted), link(1, "1", Accepted)], 0),
        ];
        for (links, weakest) in table {
            let held: [bool; 3] = std::array::from_fn(|link| link != weakest);
            orders.iter().for_each(|order| assert_eq!(settle(*order, &links), held, "{links:?} in order {order:?}"));
        }
    }

    #[test]
    fn a_link_that_gives_way_leaves_its_place_to_those_that_wait() {
        let [a, b, c, other] = places(["a", "b", "c", "other"]);
        let mut claims = Claims::default();
        claims.claim(&claimant(1, "1"), Accepted, &a, &b).unwrap();
        claims.claim(&claimant(1, "2"), Anonymous, &b, &c).unwrap();
        assert_eq!(claims.claim(&claimant(2, "waits"), Anonymous, &other, &c), Err(Conflict));
        let woken = claims.claim(&claimant(3, "3"), Accepted, &c, &a);
        assert_eq!(woken, Ok(vec!["2".to_owned(), "waits".to_owned()]));
        assert!(claims.claim(&claimant(2, "waits"), Anonymous, &other, &c).is_ok());
    }

    #[test]
    fn a_standing_that_changes_decides_a_circle_anew() {
        let [a, b, c] = places(["a", "b", "c"]);
        let uids = [3, 2, 1].map(|age| claimant(age, &age.to_string()));
        let mut claims = Claims::default();
        claims.claim(&uids[0], Accepted, &a, &b).unwrap();
        claims.claim(&uids[1], Accepted, &b, &c).unwrap();
        assert_eq!(claims.claim(&uids[2], Anonymous, &c, &a), Err(Conflict));
        // It weighs more by now.
        assert_eq!(claims.claim(&uids[2], Accepted, &c, &a), Ok(vec!["1".to_owned(), "3".to_owned()]));
        assert!(claims.closes_circle(&uids[0], Accepted, &a, &b));
        assert_eq!(claims.claim(&uids[0], Accepted, &a, &b), Err(Conflict));
        // It weighs less again.
        assert_eq!(claims.claim(&uids[2], Unproven, &c, &a), Ok(vec!["3".to_owned()]));
        assert_eq!(claims.claim(&uids[0], Accepted, &a, &b), Ok(vec!["1".to_owned()]));
    }
}
