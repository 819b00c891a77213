//! Leadership of one of several replicas by a Lease, with the semantics of client-go's leader election.

use std::time::{Duration, Instant};

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSighting {
    /// The identity of the leader; empty if the last one gave the Lease up.
    pub holder: String,
    /// The time after which a Lease that does not change any more is free.
    pub duration: Duration,
    /// The version of the object: it changes with each renewal.
    pub version: String,
}

/// The write by which a candidate tries to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseBid {
    /// There is no Lease: create it.
    Create,
    /// The Lease is free: take it over.
    TakeOver,
    /// The candidate holds it: renew it.
    Renew,
    /// Another one holds it.
    Wait,
}

/// One of the processes that may lead.
///
/// Clocks of several machines are never compared: a Lease is free once its candidate has seen no change of it for its
/// whole duration.
#[derive(Debug)]
pub struct LeaseCandidate {
    identity: String,
    seen: Option<(LeaseSighting, Instant)>,
}

impl LeaseCandidate {
    /// Returns a candidate that has seen no Lease. A process that follows another one of the same identity leads at once:
    /// the other one has to have ended.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None }
    }

    /// Returns the name by which the candidate holds the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the end of the time for which a leader before this one may have acted: to be asked when the Lease was
    /// taken, at `now`.
    pub fn predecessor_ends(&self, now: Instant) -> Instant {
        let renewed = self.seen.as_ref().filter(|(seen, _)| !seen.holder.is_empty() && seen.holder != self.identity);
        renewed.map_or(now, |(_, since)| now.min(*since + LEADS_FOR))
    }

    /// Decides about the next write, after the Lease was read at `now`. The write has to fail if the Lease has changed
    /// since.
    pub fn bid(&mut self, found: Option<LeaseSighting>, now: Instant) -> LeaseBid {
        let Some(found) = found else {
            // It was deleted under its leader, which does not know that yet.
            let is_held = self.seen.as_ref().is_some_and(|(seen, since)| {
                !seen.holder.is_empty() && seen.holder != self.identity && now < *since + seen.duration
            });
            return if is_held { LeaseBid::Wait } else { LeaseBid::Create };
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == found => *since,
            _ => now,
        };
        let is_free = found.holder.is_empty() || now.saturating_duration_since(since) >= found.duration;
        let is_own = found.holder == self.identity;
        self.seen = Some((found, since));
        match (is_own, is_free) {
            (true, _) => LeaseBid::Renew,
            (false, true) => LeaseBid::TakeOver,
            (false, false) => LeaseBid::Wait,
        }
    }
}

/// The time after which a Lease that is not renewed is free.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The time for which a leader may act, from the moment at which it sent the last renewal that was confirmed. It is
/// shorter than [`LEASE_DURATION`] by more than any clock of a sound machine runs slow or fast.
pub const LEADS_FOR: Duration = Duration::from_secs(10);
/// The pause of a leader between two renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// The pause of a follower between two looks at the Lease.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
