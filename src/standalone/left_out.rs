//! Remembers examples of the tags that no rule takes, one for each cause, while a list of any length goes by.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::image::Tag;
use crate::plan::TagChoice;

/// The tags of one repository that no rule takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftOut {
    pub(super) configuration: String,
    pub(super) repository: String,
    pub(super) tags: usize,
    /// An example of each cause, and the cause.
    pub(super) because: String,
}

/// Looks at tags as they are listed.
pub(super) struct Examples<'a> {
    choice: &'a TagChoice,
    /// By cause.
    found: Mutex<BTreeMap<Vec<usize>, Tag>>,
}

impl<'a> Examples<'a> {
    /// None yet.
    pub(super) fn of(choice: &'a TagChoice) -> Self {
        Self { choice, found: Mutex::default() }
    }

    /// Whether some rule takes the tag.
    pub(super) fn takes(&self, tag: &Tag) -> bool {
        let Some(causes) = self.choice.why_not(tag) else { return true };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MOST_EXAMPLES && !found.contains_key(&causes) {
            found.insert(causes, tag.clone());
        }
        false
    }

    /// The examples, for people.
    pub(super) fn for_people(self) -> String {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let example = |(causes, tag): (&Vec<usize>, &Tag)| format!("{tag} ({})", self.choice.describe(causes));
        found.iter().map(example).collect::<Vec<_>>().join(", ")
    }
}

const MOST_EXAMPLES: usize = 5;
