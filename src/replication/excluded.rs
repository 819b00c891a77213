//! Collects examples of excluded tags, one for each cause, from lists of any length.

use std::collections::BTreeMap;

use crate::image::Tag;
use crate::locked::Locked;
use crate::plan::{ComparedTag, TagChoice};

/// Looks at tags as they are listed.
pub(super) struct Examples<'a> {
    choice: &'a TagChoice,
    /// By cause.
    found: Locked<BTreeMap<Vec<usize>, Tag>>,
}

impl<'a> Examples<'a> {
    /// None yet.
    pub(super) fn of(choice: &'a TagChoice) -> Self {
        Self { choice, found: Locked::default() }
    }

    /// Returns true if some rule takes the tag.
    pub(super) fn takes(&self, tag: &ComparedTag<'_>) -> bool {
        let Some(causes) = self.choice.why_not(tag) else { return true };
        let mut found = self.found.lock();
        if found.len() < MAX_EXAMPLES && !found.contains_key(&causes) {
            found.insert(causes, tag.tag().clone());
        }
        false
    }

    /// Returns the examples, for people.
    pub(super) fn for_people(self) -> String {
        let found = self.found.into_inner();
        let example = |(causes, tag): (&Vec<usize>, &Tag)| format!("{tag} ({})", self.choice.describe(causes));
        found.iter().map(example).collect::<Vec<_>>().join(", ")
    }
}

const MAX_EXAMPLES: usize = 5;
