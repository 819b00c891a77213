//! The sweep: known tags are observed one after the other to see if they have moved, at the pace of a budget.
//!
//! Comparisons observe what is new or in doubt, and the others only as far as the budget allows it at once. A round of
//! the sweep follows a comparison and observes every known tag that was not observed since.

use std::collections::BTreeSet;
use std::iter::successors;
use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;

use super::sweep_state::{SweepPlace, SweepRound};
use super::takers::TagTakers;
use super::{Effect, KnownLooks, Looked, Machine, Observed, Pair, PairId, Record};
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::{Claims, REFERRERS_INTERVAL, part_of_cycle};
use crate::terms::{DEFAULT_SWEEP_REQUESTS, ReferrersMode};

impl Machine {
    /// Returns true if the comparison that begins observes every tag: a person requested it, or too many are in doubt.
    pub(super) fn begins_thoroughly(&mut self) -> bool {
        let is_handled = self.requested == self.handled || self.requested == self.handling;
        self.sweep.take_all_doubted() || (self.requested.is_some() && !is_handled)
    }

    /// Returns true if a listed tag may be left to the sweep: every destination that takes it has its digest, and
    /// nothing waits for another observation.
    pub(super) fn may_be_swept(
        &self,
        (repository, tag): (&RepositoryName, &Tag),
        pairs: &[PairId],
        takers: &TagTakers<'_>,
        now: Timestamp,
    ) -> bool {
        if self.sweep.is_doubted(repository, tag) {
            return false;
        }
        let (mut is_known, mut is_lacked) = (false, false);
        for pair in pairs.iter().map(|id| &self.pairs[id]) {
            let Some(row) = pair.ledger.row(tag) else {
                is_lacked = true;
                continue;
            };
            let is_observed = row.observed_at >= self.observe_from.max(pair.observe_from);
            let is_due = || pair.ledger.due_at(tag).is_none_or(|at| at <= now + DUE_SOON);
            if !pair.ledger.is_known(tag) || (!is_observed && is_due()) {
                return false;
            }
            is_known = true;
        }
        is_known && (!is_lacked || takers.know(tag))
    }

    /// Returns the known tags to observe; those of `due` in any case. Where the sweep asks about referrers, it observes
    /// the images, too.
    pub(super) fn known_looks(&self, repository: &RepositoryName, due: BTreeSet<Tag>, asks: bool) -> KnownLooks {
        let is_owed = self.comparison.as_ref().is_some_and(|comparison| comparison.owed.contains(repository));
        if !self.asks_by_sweep() || is_owed {
            KnownLooks::All
        } else if asks || self.sweep.round.is_some() {
            KnownLooks::Only(due)
        } else {
            KnownLooks::WithinBudget(due)
        }
    }

    /// Returns true unless a run ends with its comparison.
    fn sweeps(&self) -> bool {
        self.orders.once.is_none() && !self.orders.is_dry
    }

    /// Begins a round after a comparison, or has one follow the round that is under way.
    pub(super) fn begin_sweep(&mut self, begun: Timestamp, now: Timestamp) {
        if !self.sweeps() {
            return;
        }
        // A repository that is missing keeps each comparison from being whole: the others are swept all the same.
        self.sweep.go_on();
        if self.sweep.round.is_some() {
            self.sweep.is_due = true;
            return;
        }
        if !std::mem::replace(&mut self.sweep.is_placed, true) {
            self.sweep.start = self.place_in_cycle(now);
        }
        self.begin_round(begun, now);
    }

    fn begin_round(&mut self, begun: Timestamp, now: Timestamp) {
        self.sweep.round = Some(SweepRound::new(begun, self.sweep.start.clone(), now));
        self.sweep.is_due = false;
    }

    /// Returns the tag that the sweep has reached by the clock: a process goes on about where the one before it ended.
    fn place_in_cycle(&self, now: Timestamp) -> Option<SweepPlace> {
        let largest = |repository: &RepositoryName| {
            let ids = self.pairs.of_repository(repository).iter();
            ids.map(|id| &self.pairs[id].ledger).max_by_key(|ledger| ledger.counts().images)
        };
        let ledgers = || self.repositories.iter().filter_map(|repository| Some((repository, largest(repository)?)));
        let images: u64 = ledgers().map(|(_, ledger)| ledger.counts().images).sum();
        let cycle = Duration::from_secs(images / u64::from(DEFAULT_SWEEP_REQUESTS));
        let mut place = (images as f64 * part_of_cycle(&self.orders.holder.uid, cycle, now)) as u64;
        for (repository, ledger) in ledgers() {
            let images = ledger.counts().images;
            if place < images {
                let tag = ledger.tag_at(usize::try_from(place).ok()?)?;
                return Some((repository.clone(), tag.clone()));
            }
            place -= images;
        }
        None
    }

    /// Keeps some looks waiting for the budget, and ends the round behind its last tag.
    pub(super) fn go_on_sweeping(&mut self, now: Timestamp) {
        while self.sweep.looks < LOOKS_AT_ONCE
            && !self.sweep.is_paused
            && let Some((repository, tag)) = self.next_swept()
        {
            self.sweep.looks += 1;
            let asks = !is_referrer_tag(&tag) && self.asks_now(&repository);
            if let Some(round) = self.sweep.round.as_mut().filter(|_| asks) {
                round.asked.entry(repository.clone()).or_insert(true);
            }
            self.effects.push(Effect::Sweep { repository, tag, asks });
        }
        if self.sweep.looks > 0 {
            return;
        }
        if let Some(round) = self.sweep.round.take_if(|round| round.is_over) {
            let duration = Duration::try_from(now.duration_since(round.since)).unwrap_or_default();
            self.sweep.last = Some(duration);
            self.effects.push(Effect::Swept(duration));
            self.record_asked(round);
            if self.sweep.is_due {
                self.begin_round(now, now);
                self.go_on_sweeping(now);
            }
        }
    }

    /// Returns the next tag of the round, and goes on behind it.
    fn next_swept(&mut self) -> Option<SweepPlace> {
        let round = self.sweep.round.as_ref().filter(|round| !round.is_over)?;
        let (begun, is_around) = (round.begun, round.is_around);
        let mut found = self.known_behind(round.last.as_ref(), begun);
        let end = self.sweep.start.clone();
        if is_around {
            found = found.filter(|place| end.as_ref().is_none_or(|end| place <= end));
        }
        let has_more = found.is_none() && !is_around;
        let round = self.sweep.round.as_mut()?;
        round.is_over = found.is_none() && !has_more;
        round.is_around |= has_more;
        round.last.clone_from(&found);
        if has_more { self.next_swept() } else { found }
    }

    /// Returns the first known tag behind a place that was last observed before a time.
    fn known_behind(&self, place: Option<&SweepPlace>, before: Timestamp) -> Option<SweepPlace> {
        let from = place.map_or(Bound::Unbounded, |(repository, _)| Bound::Included(repository));
        let repositories = self.repositories.range::<RepositoryName, _>((from, Bound::Unbounded));
        let leaves_out = |name: &RepositoryName| self.sweep.round.as_ref().is_some_and(|round| round.leaves_out(name));
        repositories.filter(|repository| !leaves_out(repository)).find_map(|repository| {
            let after = place.filter(|(last, _)| last == repository).map(|(_, tag)| tag);
            // A list has the digests of some registries, and none of referrers.
            let asked = if self.asks_now(repository) { Timestamp::MAX } else { before };
            // The next comparison looks at what is in doubt.
            let is_left = |tag: &&Tag| !self.sweep.is_doubted(repository, tag);
            let images = self.listed_pairs(repository).filter_map(|pair| {
                successors(pair.ledger.next_known(after, asked), |tag| pair.ledger.next_known(Some(tag), asked))
                    .find(is_left)
            });
            let source = self.sources.get(repository).filter(|_| self.listed_pairs(repository).next().is_some());
            let referrers = source.and_then(|source| {
                let seen = &source.seen;
                successors(seen.next_known(after, before), |tag| seen.next_known(Some(tag), before)).find(is_left)
            });
            Some((repository.clone(), images.chain(referrers).min()?.clone()))
        })
    }

    /// Returns true if the sweep asks the referrers API about known images, and not the comparison that is under way.
    pub(super) fn asks_by_sweep(&self) -> bool {
        self.sweeps() && self.comparison.as_ref().is_none_or(|comparison| !comparison.is_thorough)
    }

    /// Returns true if the present round asks the referrers API about the images of a repository.
    fn asks_now(&self, repository: &RepositoryName) -> bool {
        let asked_at = self.sources.get(repository).and_then(|source| source.asked_at);
        let Some(round) = &self.sweep.round else { return false };
        let is_due = asked_at.is_none_or(|asked_at| asked_at + REFERRERS_INTERVAL <= round.since);
        let mut pairs = self.listed_pairs(repository);
        is_due && self.sweeps() && pairs.any(|pair| pair.options.referrers == ReferrersMode::Replicate)
    }

    /// Records that the referrers API was asked about every image of some repositories.
    fn record_asked(&mut self, round: SweepRound) {
        for repository in round.asked.into_iter().filter_map(|(repository, is_whole)| is_whole.then_some(repository)) {
            self.source_repository(&repository).asked_at = Some(round.since);
            let pairs = self.listed_pairs(&repository);
            let record = |pair: &Pair| Effect::Record(pair.identity.clone(), Record::ReferrersAsked(round.since));
            let records: Vec<Effect> = pairs.map(record).collect();
            self.effects.extend(records);
        }
    }

    /// Returns the pairs of a repository that the last complete list had.
    fn listed_pairs(&self, repository: &RepositoryName) -> impl Iterator<Item = &Pair> {
        let ids = self.pairs.of_repository(repository).iter();
        ids.map(|id| &self.pairs[id]).filter(|pair| !pair.missed)
    }

    /// Returns true if the last complete lists had a tag of which a row is left.
    fn is_listed(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        if is_referrer_tag(tag) {
            return self.sources.get(repository).is_some_and(|source| source.seen.tags().contains_key(tag));
        }
        let mut rows = self.listed_pairs(repository).filter_map(|pair| pair.ledger.row(tag));
        rows.any(|row| row.absent_since().is_none())
    }

    /// Takes the observation of a known tag. One that is absent or cannot be read is left to the next comparison, which
    /// says why.
    pub(super) fn take_swept(
        &mut self,
        looked: Looked,
        listed: Option<Vec<Digest>>,
        claims: &mut Claims,
        now: Timestamp,
    ) {
        self.sweep.looks = self.sweep.looks.saturating_sub(1);
        if self.ending.is_some() {
            return;
        }
        match &looked {
            Looked::Seen(Observed { repository, .. }) | Looked::SeenOtherwise(Observed { repository, .. }) => {
                self.sweep.answered(repository);
            }
            Looked::Absent(repository, _) => self.sweep.answered(repository),
            Looked::Unreadable(repository, _) => self.sweep.failed(repository),
        }
        match looked {
            // A list may have lacked it meanwhile, and proves more.
            Looked::Seen(observed) if !self.is_listed(&observed.repository, &observed.tag) => {}
            Looked::Seen(observed) if is_referrer_tag(&observed.tag) => self.take_referrer_tag(observed, false, now),
            Looked::Seen(observed) | Looked::SeenOtherwise(observed) => {
                self.take_swept_image(observed, listed, claims, now);
            }
            Looked::Absent(_, tag) if is_referrer_tag(&tag) => {}
            Looked::Absent(repository, tag) | Looked::Unreadable(repository, tag) => self.sweep.doubt(repository, tag),
        }
    }

    fn take_swept_image(
        &mut self,
        mut observed: Observed,
        listed: Option<Vec<Digest>>,
        claims: &mut Claims,
        now: Timestamp,
    ) {
        if let Some(listed) = listed {
            self.source_repository(&observed.repository).seen.see_listed(&observed.digest, &listed);
            observed.with_referrers = true;
        }
        self.take_image(&observed, false, claims, now);
    }
}

/// Looks that wait for the budget at once: more than one, since a slow source answers each after a while.
const LOOKS_AT_ONCE: usize = 16;
/// An audit that is due so soon needs an observation of this process.
const DUE_SOON: Duration = Duration::from_secs(300);
