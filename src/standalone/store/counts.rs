//! The deletions that no pair knows, in one file that is replaced at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::StateError;
use crate::locked::Locked;
use crate::plan::DeletionHistory;
use crate::terms::FormerDeletions;

/// The file `DIR/deletions.json`.
#[derive(Debug)]
pub(super) struct CountFiles {
    file: PathBuf,
    /// The history of each configuration, by namespace and name.
    known: Locked<BTreeMap<String, Kept>>,
}

/// The history of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    recent_deletions: Vec<FormerDeletions>,
    approved_deletions: Option<String>,
}

impl CountFiles {
    /// Reads the file of `folder`, which may be absent.
    ///
    /// # Errors
    /// It cannot be read: without it earlier deletions would not count, and a used approval would count again.
    pub(super) fn read_from(folder: &Path) -> Result<Self, StateError> {
        let file = folder.join(FILE);
        let known = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        match known {
            Ok(known) => Ok(Self { file, known: Locked::new(known) }),
            Err(error) => Err(StateError::UnreadableCounts { file, error }),
        }
    }

    /// Returns the history of a configuration.
    pub(super) fn of(&self, namespace: &str, name: &str) -> DeletionHistory {
        let kept = self.known.lock().get(&format!("{namespace}/{name}")).cloned().unwrap_or_default();
        DeletionHistory::restore(namespace, &kept.recent_deletions, kept.approved_deletions)
    }

    /// Writes the history of a configuration, if it is another than before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, namespace: &str, name: &str, history: &DeletionHistory) -> io::Result<()> {
        let key = format!("{namespace}/{name}");
        let kept = Kept { recent_deletions: history.published(), approved_deletions: history.approved.clone() };
        let mut known = self.known.lock();
        if kept == known.get(&key).cloned().unwrap_or_default() {
            return Ok(());
        }
        let mut next = known.clone();
        next.insert(key, kept);
        disk::replace(&self.file, &serde_json::to_vec(&next)?)?;
        *known = next;
        Ok(())
    }
}

/// The name of the file in a state folder.
pub(super) const FILE: &str = "deletions.json";

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::plan::{DeletionCounts, NamespacedName};

    #[test]
    fn counts_are_found_again_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let registry = NamespacedName { namespace: "b".to_owned(), name: "d".to_owned() };
        let now = Timestamp::from_second(1_000_000).unwrap();
        let (mut counts, mut former) = (DeletionCounts::default(), DeletionHistory::default());
        counts.add(3, now);
        former.keep((&registry, "app"), &counts, now);
        former.approved = Some("0123456789abcdef".to_owned());
        let read = || CountFiles::read_from(folder.path());
        let files = read().unwrap();
        files.write("team-a", "one", &DeletionHistory::default()).unwrap();
        assert!(!folder.path().join(FILE).exists(), "nothing is written for nothing");
        files.write("team-a", "one", &former).unwrap();
        let again = read().unwrap();
        assert_eq!((again.of("team-a", "one"), again.of("team-a", "two")), (former, DeletionHistory::default()));
        again.write("team-a", "one", &DeletionHistory::default()).unwrap();
        assert_eq!(read().unwrap().of("team-a", "one"), DeletionHistory::default());
        std::fs::write(folder.path().join(FILE), "{half").unwrap();
        let refused = read().unwrap_err().to_string();
        assert!(refused.contains("deletions.json cannot be read: ") && refused.contains("delete it"), "{refused}");
    }
}
