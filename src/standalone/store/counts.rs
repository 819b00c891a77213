//! The deletions that no pair knows, in one file that is replaced at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
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
    /// Reads the file of `folder`, which may be absent. One that cannot be read counts nothing, and a warning says so.
    pub(super) fn new(folder: &Path) -> Self {
        let file = folder.join("deletions.json");
        let known = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{} cannot be read: {error}; earlier deletions do not count", file.display());
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self { file, known: Locked::new(known) }
    }

    /// Returns the history of a configuration.
    pub(super) fn read(&self, namespace: &str, name: &str) -> DeletionHistory {
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
        let partial = disk::partial(&self.file);
        std::fs::write(&partial, serde_json::to_vec(&next)?)?;
        std::fs::rename(&partial, &self.file)?;
        *known = next;
        Ok(())
    }
}

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
        let files = CountFiles::new(folder.path());
        files.write("team-a", "one", &DeletionHistory::default()).unwrap();
        assert!(!folder.path().join("deletions.json").exists(), "nothing is written for nothing");
        files.write("team-a", "one", &former).unwrap();
        let again = CountFiles::new(folder.path());
        assert_eq!((again.read("team-a", "one"), again.read("team-a", "two")), (former, DeletionHistory::default()));
        again.write("team-a", "one", &DeletionHistory::default()).unwrap();
        assert_eq!(CountFiles::new(folder.path()).read("team-a", "one"), DeletionHistory::default());
        std::fs::write(folder.path().join("deletions.json"), "{half").unwrap();
        assert_eq!(CountFiles::new(folder.path()).read("team-a", "one"), DeletionHistory::default());
    }
}
