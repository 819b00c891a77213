//! The images that have left the source, and what becomes of each at its destination: for people.

use super::departed_image::{DepartedFate, DepartedImage};
use super::state::HeldDeletions;
use super::{Machine, Pair, PairId};
use crate::image::Tag;
use crate::plan::Row;
use crate::terms::reason;

impl Machine {
    /// Returns the images that have left the source, where the rules delete such images: those that were deleted in
    /// this run, and those that are still there.
    pub(crate) fn departed(&self) -> Vec<DepartedImage> {
        let pairs = self.pairs.iter().filter(|(_, pair)| pair.deletions.brake.is_some());
        let there = pairs.flat_map(|(id, pair)| {
            let held = self.deletions.held.get(id);
            pair.ledger.departed().map(move |(tag, digest, row)| DepartedImage {
                key: pair.key.clone(),
                tag: tag.clone(),
                digest: digest.clone(),
                is_outside: row.is_outside(),
                fate: self.fate_of(pair, tag, row, held),
            })
        });
        self.deletions.made.iter().cloned().chain(there).collect()
    }

    fn fate_of(&self, pair: &Pair, tag: &Tag, row: &Row, held: Option<&HeldDeletions>) -> DepartedFate {
        if let Some(since) = row.absent_since().filter(|_| !row.is_leaving()) {
            let interval = self.configuration.as_ref().map(|configured| configured.pace.proof_interval());
            return DepartedFate::Unproved(since + interval.unwrap_or_default());
        }
        let failed = pair.deletions.failed.get(tag);
        let held = held.filter(|held| held.planned.iter().any(|planned| planned.tag == *tag));
        match (failed, held) {
            (Some(failed), _) if failed.is_transient => DepartedFate::Failed(failed.message.clone()),
            (Some(failed), _) => DepartedFate::Held(failed.message.clone()),
            (None, Some(held)) if held.reason == reason::DELETION_LIMIT => {
                DepartedFate::Held("deleteReplication allows fewer deletions within 24 h".to_owned())
            }
            (None, Some(held)) => DepartedFate::Held(held.message.clone()),
            (None, None) => DepartedFate::Due,
        }
    }

    /// Returns the reason and the sentence of the condition about deletions that wait.
    pub(crate) fn held_deletions(&self) -> Option<&(&'static str, String)> {
        self.deletions.condition.as_ref()
    }

    /// Remembers that a run has deleted an image, which the ledger has still.
    pub(super) fn note_deleted(&mut self, id: PairId, tag: &Tag) {
        let pair = &self.pairs[&id];
        let Some((digest, row)) = pair.ledger.row(tag).and_then(|row| Some((row.written.clone()?, row))) else {
            return;
        };
        if self.orders.once.is_some() {
            let (key, tag, is_outside) = (pair.key.clone(), tag.clone(), row.is_outside());
            self.deletions.made.push(DepartedImage { key, tag, digest, is_outside, fate: DepartedFate::Deleted });
        }
    }
}
