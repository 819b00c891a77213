use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn sighting(holder: &str, version: u64) -> LeaseSighting {
    LeaseSighting { holder: holder.to_owned(), duration: LEASE_DURATION, version: version.to_string() }
}

#[test]
fn a_lease_is_free_once_it_has_not_changed_for_its_whole_duration() {
    let (start, mut candidate) = (Instant::now(), LeaseCandidate::new("b".to_owned()));
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(candidate.bid(None, at(0)), LeaseBid::Create);
    assert_eq!(candidate.bid(Some(sighting("a", 1)), at(1)), LeaseBid::Wait);
    assert_eq!(candidate.bid(Some(sighting("a", 1)), at(15)), LeaseBid::Wait, "it was seen at 1");
    assert_eq!(candidate.bid(Some(sighting("a", 2)), at(15)), LeaseBid::Wait, "it was renewed");
    assert_eq!(candidate.bid(Some(sighting("a", 2)), at(29)), LeaseBid::Wait);
    assert_eq!(candidate.bid(Some(sighting("a", 2)), at(30)), LeaseBid::TakeOver);
    assert_eq!(candidate.bid(Some(sighting("b", 3)), at(31)), LeaseBid::Renew);
    assert_eq!(candidate.bid(Some(sighting("c", 4)), at(90)), LeaseBid::Wait, "another one has taken it");
    assert_eq!(candidate.bid(None, at(91)), LeaseBid::Wait, "it was deleted under its leader");
    assert_eq!(candidate.bid(None, at(106)), LeaseBid::Create);
    assert_eq!(candidate.bid(Some(sighting("", 5)), at(107)), LeaseBid::TakeOver, "it was given up");
}

/// A replica of the model: its clock, its election and the request that is under way.
struct RivalReplica {
    candidate: LeaseCandidate,
    /// Its clock runs at this many thousandths of the true one.
    rate: u64,
    is_dead: bool,
    paused_until: u64,
    act_at: u64,
    /// The write that is under way: the version that it expects, when it arrives, and when it was sent.
    writing: Option<(Option<u64>, u64, Instant)>,
    leads_until: Option<Instant>,
}

/// Several replicas and the Lease at the API server, in milliseconds of the true time.
struct LeaseModel {
    rng: SmallRng,
    now: u64,
    start: Instant,
    replicas: Vec<RivalReplica>,
    lease: Option<(String, u64)>,
    version: u64,
}

impl LeaseModel {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let replicas = (0..3).map(|number| RivalReplica {
            candidate: LeaseCandidate::new(number.to_string()),
            rate: rng.random_range(950..=1050),
            is_dead: false,
            paused_until: 0,
            act_at: rng.random_range(0..2_000),
            writing: None,
            leads_until: None,
        });
        let replicas = replicas.collect();
        Self { rng, now: 0, start: Instant::now(), replicas, lease: None, version: 0 }
    }

    fn clock(&self, index: usize) -> Instant {
        self.start + Duration::from_micros(self.now * self.replicas[index].rate)
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |index: &usize| self.replicas[*index].leads_until.is_some_and(|until| self.clock(*index) < until);
        (0..self.replicas.len()).filter(leads).collect()
    }

    fn tick(&mut self) {
        self.now += 50;
        for index in 0..self.replicas.len() {
            self.arrive(index);
            let replica = &self.replicas[index];
            let is_awake = !replica.is_dead && replica.paused_until <= self.now;
            if is_awake && replica.act_at <= self.now && replica.writing.is_none() {
                self.act(index);
            }
        }
    }

    /// Reads the Lease and sends a write, which may arrive late, or be lost.
    fn act(&mut self, index: usize) {
        let sent = self.clock(index);
        let found = self.lease.as_ref().map(|(holder, version)| sighting(holder, *version));
        let expected = self.lease.as_ref().map(|(_, version)| *version);
        let bid = self.replicas[index].candidate.bid(found, sent);
        self.replicas[index].act_at = self.now + 2_000;
        if bid != LeaseBid::Wait && self.rng.random_ratio(9, 10) {
            let arrives = self.now + self.rng.random_range(0..6_000);
            self.replicas[index].writing = Some((expected, arrives, sent));
        }
    }

    /// Applies a write that has arrived, if the Lease is as it was read; the answer may be lost.
    fn arrive(&mut self, index: usize) {
        let Some((expected, arrives, sent)) = self.replicas[index].writing else { return };
        if arrives > self.now {
            return;
        }
        self.replicas[index].writing = None;
        let is_answered = self.rng.random_ratio(9, 10) && !self.replicas[index].is_dead;
        if self.lease.as_ref().map(|(_, version)| *version) == expected {
            self.version += 1;
            self.lease = Some((index.to_string(), self.version));
            if is_answered {
                self.replicas[index].leads_until = Some(sent + LEADS_FOR);
            }
        }
    }

    fn disturb(&mut self) {
        let index = self.rng.random_range(0..self.replicas.len());
        let until = self.now + self.rng.random_range(1_000..40_000);
        let replica = &mut self.replicas[index];
        if self.rng.random_ratio(2, 3) {
            replica.paused_until = until;
        } else {
            // Its container is started again, and knows nothing.
            replica.candidate = LeaseCandidate::new(replica.candidate.identity().to_owned());
            (replica.writing, replica.leads_until, replica.act_at) = (None, None, until);
        }
    }
}

#[test]
fn a_successor_gives_grants_once_those_of_its_predecessor_have_ended() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut candidate = LeaseCandidate::new("b".to_owned());
    assert_eq!(candidate.predecessor_ends(at(0)), at(0));
    candidate.bid(Some(sighting("a", 1)), at(1));
    candidate.bid(Some(sighting("a", 1)), at(16));
    assert_eq!(candidate.predecessor_ends(at(16)), at(11), "it acted until 11 at most");
    candidate.bid(Some(sighting("", 2)), at(17));
    assert_eq!(candidate.predecessor_ends(at(17)), at(17));
    candidate.bid(Some(sighting("b", 3)), at(18));
    assert_eq!(candidate.predecessor_ends(at(18)), at(18), "its container was started again");
}

#[test]
fn two_replicas_never_lead_at_once_through_pauses_and_lost_answers() {
    let mut led = 0;
    for seed in 0..300 {
        let mut model = LeaseModel::new(seed);
        for step in 0..4_000 {
            if step % 400 == 399 && model.rng.random_ratio(2, 3) {
                model.disturb();
            }
            model.tick();
            let leaders = model.leaders();
            assert!(leaders.len() <= 1, "seed {seed}, {} ms: {leaders:?} lead", model.now);
            led += leaders.len();
        }
    }
    assert!(led > 300 * 4_000 / 2, "one of them leads most of the time: {led}");
}

#[test]
fn a_replica_leads_soon_after_the_leader_has_died() {
    for seed in 0..100 {
        let mut model = LeaseModel::new(seed);
        (0..400).for_each(|_| model.tick());
        let Some(leader) = model.leaders().first().copied() else { continue };
        model.replicas[leader].is_dead = true;
        model.replicas[leader].writing = None;
        let died = model.now;
        while model.leaders().iter().all(|index| *index == leader) {
            model.tick();
            assert!(model.now - died < 60_000, "seed {seed}: nothing leads");
        }
    }
}
