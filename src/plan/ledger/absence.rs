//! Tags that complete lists of the source lack: when they are forgotten, and when their absence is proved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Ledger;
use super::row::{Row, RowState, TagAbsence};
use crate::image::{Digest, Tag};

/// The fate of a tag that two complete lists in a row lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsentTags {
    /// It is forgotten, and stays at the destination.
    Forgotten,
    /// If it is at the destination, its row stays: once two lists with at least this time between them lack it, it may
    /// be deleted there.
    Proved(Duration),
}

impl Ledger {
    /// Takes a complete list that was requested at `begun` and arrived by `now`. A tag that this list and the one before
    /// lack is forgotten, or kept until it is deleted, as `fate` says. A list that is suddenly empty proves nothing; one
    /// that stays empty has tags forgotten, and none deleted. Returns the forgotten tags.
    pub fn take_listing(
        &mut self,
        listed: &BTreeSet<Tag>,
        fate: AbsentTags,
        begun: Timestamp,
        now: Timestamp,
    ) -> Vec<Tag> {
        let is_sudden = listed.is_empty() && self.counts.images > 0;
        self.empty_listings = if is_sudden { self.empty_listings + 1 } else { 0 };
        if self.empty_listings == 1 {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (tag, row) in &mut self.rows {
            let earlier = row.absence.take().map(|absence| *absence);
            let is_missed = row.observed_at < begun && !listed.contains(tag);
            let absence = match (earlier, fate) {
                _ if !is_missed => None,
                (None, _) => Some(TagAbsence { is_doubted: listed.is_empty(), ..TagAbsence::since(now) }),
                (Some(TagAbsence { is_doubted: true, .. }), AbsentTags::Proved(_)) if !listed.is_empty() => {
                    Some(TagAbsence::since(now))
                }
                (Some(absence), AbsentTags::Proved(apart)) if row.written.is_some() && !listed.is_empty() => {
                    Some(TagAbsence { is_proved: absence.is_proved || begun >= absence.since + apart, ..absence })
                }
                (Some(absence), _) => {
                    gone.push(tag.clone());
                    Some(absence)
                }
            };
            self.are_other_missed |= absence.map(|absence| absence.since) != earlier.map(|absence| absence.since);
            row.absence = absence.map(Box::new);
            if row.is_leaving() && matches!(row.state, RowState::Failed(_)) {
                (row.state, row.owed) = (RowState::Pending, false); // It is not copied any more.
            }
        }
        let rows = &self.rows;
        self.unread.retain(|tag, _| !rows.get(tag).is_some_and(|row| row.is_leaving()));
        self.recount();
        gone.iter().for_each(|tag| self.remove(tag));
        gone.extend(self.forget_unlisted(listed, begun));
        gone
    }

    /// Forgets the tags that the source has and a changed spec no longer takes as its newest; those that an earlier list
    /// lacked go on leaving. Returns them. They stay at the destination.
    pub fn forget_outside(&mut self, is_outside: impl Fn(&Tag) -> bool) -> Vec<Tag> {
        let is_gone = |(tag, row): &(&Tag, &Row)| row.absence.is_none() && is_outside(tag);
        let gone: Vec<Tag> = self.rows().filter(is_gone).map(|(tag, _)| tag.clone()).collect();
        gone.iter().for_each(|tag| self.remove(tag));
        gone
    }

    /// Notes which of the tags that lists lack the source has, where the rules take only newer ones.
    pub fn mark_outside(&mut self, is_outside: impl Fn(&Tag) -> bool) {
        for (tag, row) in &mut self.rows {
            if let Some(absence) = &mut row.absence {
                absence.is_outside = is_outside(tag);
            }
        }
    }

    /// Returns true if the last complete listing was suddenly empty: it proved nothing.
    pub fn doubts_listing(&self) -> bool {
        self.empty_listings == 1
    }

    /// Returns the tags that the last complete listing lacked, each with the time of the first one that did, if they
    /// differ from those of the last call.
    pub fn take_missed(&mut self) -> Option<BTreeMap<Tag, Timestamp>> {
        let lacked = self.rows.iter().filter_map(|(tag, row)| Some((tag, row.absence.as_deref()?)));
        let missed =
            || lacked.filter(|(_, absence)| !absence.is_doubted).map(|(tag, absence)| (tag.clone(), absence.since));
        let missed = self.are_other_missed.then(|| missed().collect());
        self.are_other_missed = false;
        missed
    }

    /// Restores the tags of [`Ledger::take_missed`]. A proof does not outlive the process that had it: the next list
    /// proves it again.
    pub fn restore_missed(&mut self, missed: &BTreeMap<Tag, Timestamp>) {
        for (tag, row) in &mut self.rows {
            row.absence = missed.get(tag).map(|since| Box::new(TagAbsence::since(*since)));
        }
        self.recount();
    }

    /// Returns the tags whose absence from the source is proved, with the digest that was last verified under each at
    /// the destination.
    pub fn leaving(&self) -> impl Iterator<Item = (&Tag, &Digest)> {
        self.rows.iter().filter(|(_, row)| row.is_leaving()).filter_map(|(tag, row)| Some((tag, row.written.as_ref()?)))
    }

    /// Returns the tags that complete lists lack, and whose absence is proved or will be by another list: with the digest
    /// that was last verified under each at the destination, and its row.
    pub fn departed(&self) -> impl Iterator<Item = (&Tag, &Digest, &Row)> {
        let lacked =
            self.rows.iter().filter(|(_, row)| row.absence.as_ref().is_some_and(|absence| !absence.is_doubted));
        lacked.filter_map(|(tag, row)| Some((tag, row.written.as_ref()?, row.as_ref())))
    }

    /// Voids the proof that a tag is absent from the source: it was seen there.
    pub fn doubt_absence(&mut self, tag: &Tag) {
        self.are_other_missed |= self.rows.get(tag).is_some_and(|row| row.absence.is_some());
        self.change(tag, |row| row.absence = None);
    }

    /// Takes back the proof that tags are gone which the source has, and only the rules put outside: there are other rules
    /// now, and their next list proves it again, or not.
    pub fn doubt_outside(&mut self) {
        if self.rows.values().any(|row| row.is_outside()) {
            self.change_all(|row| {
                if let Some(absence) = row.absence.as_mut().filter(|absence| absence.is_outside) {
                    absence.is_proved = false;
                }
            });
        }
    }

    /// Makes a tag that is about to be deleted pending: it counts as verified no longer. It is copied again if the
    /// source has it again.
    pub fn unverify(&mut self, tag: &Tag, now: Timestamp) {
        self.change(tag, |row| (row.state, row.since, row.owed) = (RowState::Pending, now.into(), false));
    }

    /// Forgets a tag that was deleted at the destination. Returns false if the source has it again.
    pub fn forget_deleted(&mut self, tag: &Tag) -> bool {
        let is_leaving = self.rows.get(tag).is_some_and(|row| row.is_leaving());
        if is_leaving {
            self.are_other_missed = true;
            self.remove(tag);
        } else {
            self.change(tag, |row| (row.written, row.was_there) = (None, false));
        }
        is_leaving
    }
}
