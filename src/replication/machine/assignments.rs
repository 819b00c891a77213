//! One image as an executor takes it, to copy or to delete.

use super::{Assignment, Group, Machine, PairId};
use crate::image::Tag;

impl Machine {
    /// Returns the image under a tag as it is copied or deleted; `None` if one of its Registries does not exist.
    pub(super) fn assignment(&self, id: PairId, tag: &Tag, group: Group, is_urgent: bool) -> Option<Assignment> {
        let pair = &self.pairs[&id];
        let row = pair.ledger.row(tag)?;
        let source_uid = self.orders.registries.get(&self.source())?.uid.clone();
        let destination = pair.key.destination.clone();
        self.orders.registries.contains_key(&destination).then_some(())?;
        Some(Assignment {
            configuration: (self.orders.namespace.clone(), self.orders.name.clone()),
            uid: self.orders.holder.uid.clone(),
            source: self.source(),
            source_uid,
            destination,
            destination_uid: pair.destination_uid.clone(),
            place: pair.place.clone(),
            repository: pair.key.repository.clone(),
            tag: tag.clone(),
            digest: row.digest.clone(),
            options: pair.options.clone(),
            was_there: row.was_there,
            written: row.written.clone(),
            referrer_tags: self.referrer_tags(&pair.key.repository),
            class: self.orders.class.clone(),
            is_urgent,
            priority: self.configuration.as_ref().map_or(0, |configuration| configuration.priority),
            group,
        })
    }
}
