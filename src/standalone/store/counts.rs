//! The deletions of pairs that were dropped, in one file that is replaced at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::disk;
use crate::locked::Locked;
use crate::plan::FormerCounts;
use crate::terms::FormerDeletions;

/// The file `DIR/deletions.json`.
#[derive(Debug)]
pub(super) struct CountFiles {
    file: PathBuf,
    /// The counts of each configuration, by namespace and name.
    known: Locked<BTreeMap<String, Vec<FormerDeletions>>>,
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

    /// Returns the counts of a configuration.
    pub(super) fn read(&self, namespace: &str, name: &str) -> FormerCounts {
        let known = self.known.lock();
        let counts = known.get(&format!("{namespace}/{name}")).map_or(&[][..], Vec::as_slice);
        FormerCounts::restore(namespace, counts)
    }

    /// Writes the counts of a configuration, if they are others than before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, namespace: &str, name: &str, counts: &FormerCounts) -> io::Result<()> {
        let (key, counts) = (format!("{namespace}/{name}"), counts.published());
        let mut known = self.known.lock();
        if known.get(&key).map_or(counts.is_empty(), |earlier| *earlier == counts) {
            return Ok(());
        }
        match counts.is_empty() {
            true => drop(known.remove(&key)),
            false => drop(known.insert(key, counts)),
        }
        let partial = disk::partial(&self.file);
        std::fs::write(&partial, serde_json::to_vec(&*known)?)?;
        std::fs::rename(&partial, &self.file)
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
        let (mut counts, mut former) = (DeletionCounts::default(), FormerCounts::default());
        counts.add(3, now);
        former.keep((&registry, "app"), &counts, now);
        let files = CountFiles::new(folder.path());
        files.write("team-a", "one", &FormerCounts::default()).unwrap();
        assert!(!folder.path().join("deletions.json").exists(), "nothing is written for nothing");
        files.write("team-a", "one", &former).unwrap();
        let again = CountFiles::new(folder.path());
        assert_eq!((again.read("team-a", "one"), again.read("team-a", "two")), (former, FormerCounts::default()));
        again.write("team-a", "one", &FormerCounts::default()).unwrap();
        assert_eq!(CountFiles::new(folder.path()).read("team-a", "one"), FormerCounts::default());
        std::fs::write(folder.path().join("deletions.json"), "{half").unwrap();
        assert_eq!(CountFiles::new(folder.path()).read("team-a", "one"), FormerCounts::default());
    }
}
