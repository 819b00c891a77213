//! Lists of a source with names that are not valid, as `plan` and `sync` show them.

use std::fmt;

use serde::Serialize;

use super::wiring::name_of;
use crate::image::InvalidNames;
use crate::replication::machine::Machine;

/// One list of repositories or tags with names that nothing can be replicated by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InvalidList {
    configuration: String,
    /// The Registry, or its repository whose tags are listed.
    list: String,
    names: InvalidNames,
}

impl InvalidList {
    /// Returns the lists of a configuration.
    pub(super) fn of(machine: &Machine) -> Vec<Self> {
        let Some(configuration) = machine.configuration() else { return Vec::new() };
        let (excluded, source) = (machine.excluded(), &configuration.source);
        let repositories =
            Some((source.clone(), &excluded.invalid_repositories)).filter(|(_, names)| !names.is_empty());
        let tags = excluded.invalid_tags.iter().map(|(repository, names)| (format!("{source}/{repository}"), names));
        let lists = repositories.into_iter().chain(tags);
        lists.map(|(list, names)| Self { configuration: name_of(configuration), list, names: names.clone() }).collect()
    }
}

impl fmt::Display for InvalidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} lists {}; they are left out", self.configuration, self.list, self.names)
    }
}
