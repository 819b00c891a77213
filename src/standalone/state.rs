//! Remembers in a folder what was verified, one file a pair of repositories, each replaced as a whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::{Digest, Tag};
use crate::plan::CopyOptions;

/// The folder, or nothing.
pub(super) struct State(Option<PathBuf>);

/// What was verified of one pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The configuration, as `namespace/name`.
    pub(super) configuration: String,
    /// The source, as `host/repository`.
    pub(super) source: String,
    /// The destination, as `host/repository`.
    pub(super) destination: String,
    /// [`CopyOptions::fingerprint`](crate::plan::CopyOptions::fingerprint) of how they were copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) copy_options: Option<String>,
    /// What was read back at the destination, by tag.
    pub(super) images: BTreeMap<String, Verified>,
}

/// An image that was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verified {
    pub(super) digest: String,
    /// Where it is another one at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) destination_digest: Option<Digest>,
    pub(super) bytes: u64,
    pub(super) completed_at: Timestamp,
}

impl State {
    /// Uses `folder`; it is made when something is saved.
    ///
    /// # Errors
    /// It is there and no folder.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self, String> {
        match folder {
            Some(folder) if folder.exists() && !folder.is_dir() => {
                Err(format!("--state {} is no folder", folder.display()))
            }
            folder => Ok(Self(folder.map(Path::to_owned))),
        }
    }

    /// What is remembered of a pair. What cannot be read, or was copied by other options, is as good as nothing: everything is
    /// looked at again.
    pub(super) fn load(
        &self,
        configuration: &str,
        (source, destination): (&str, &str),
        options: &CopyOptions,
    ) -> Record {
        let empty = Record {
            configuration: configuration.to_owned(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            copy_options: options.fingerprint(),
            images: BTreeMap::new(),
        };
        let Some(file) = self.file(&empty) else { return empty };
        let read = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let same = |record: &Record| {
            (&record.configuration, &record.source, &record.destination, &record.copy_options)
                == (&empty.configuration, &empty.source, &empty.destination, &empty.copy_options)
        };
        read.filter(same).unwrap_or(empty)
    }

    /// Replaces what is remembered of a pair; a reader sees the earlier or the new record, never a part.
    ///
    /// # Errors
    /// What could not be written, in a sentence.
    pub(super) fn save(&self, record: &Record) -> Result<(), String> {
        let (Some(folder), Some(file)) = (&self.0, self.file(record)) else { return Ok(()) };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let partial = file.with_extension(format!("{}.partial", std::process::id()));
            let mut opened = std::fs::File::create(&partial)?;
            opened.write_all(&serde_json::to_vec_pretty(record)?)?;
            opened.sync_all()?;
            std::fs::rename(&partial, &file)
        };
        write().map_err(|error| format!("{} cannot be written: {error}", file.display()))
    }

    fn file(&self, record: &Record) -> Option<PathBuf> {
        let key = format!("{}\n{}\n{}", record.configuration, record.source, record.destination);
        let digest = Digest::sha256(key.as_bytes()).to_string();
        self.0.as_ref().map(|folder| folder.join(format!("{}.json", &digest["sha256:".len()..][..24])))
    }
}

impl Record {
    /// Whether `digest` was verified under `tag`.
    pub(super) fn has(&self, tag: &Tag, digest: &Digest) -> bool {
        self.digest_of(tag).is_some_and(|verified| verified == *digest)
    }

    /// The digest that the source had under `tag` when it was verified.
    pub(super) fn digest_of(&self, tag: &Tag) -> Option<Digest> {
        self.images.get(tag.as_str())?.digest.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_for_its_own_pair_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(Some(folder.path())).unwrap();
        let all = CopyOptions::default();
        let mut record = state.load("ns/c", ("a/x", "b/x"), &all);
        let (tag, digest): (Tag, _) = ("v1".parse().unwrap(), Digest::sha256(b"1"));
        let verified = Verified {
            digest: digest.to_string(),
            destination_digest: None,
            bytes: 1,
            completed_at: Timestamp::UNIX_EPOCH,
        };
        record.images.insert("v1".to_owned(), verified);
        state.save(&record).unwrap();
        assert!(state.load("ns/c", ("a/x", "b/x"), &all).has(&tag, &digest));
        assert!(!state.load("ns/c", ("a/x", "c/x"), &all).has(&tag, &digest));
        let some = CopyOptions { platforms: vec!["linux/amd64".parse().unwrap()], ..CopyOptions::default() };
        assert!(!state.load("ns/c", ("a/x", "b/x"), &some).has(&tag, &digest), "other platforms are another matter");
        let file = state.file(&record).unwrap();
        std::fs::write(&file, b"{\"half").unwrap();
        assert!(!state.load("ns/c", ("a/x", "b/x"), &all).has(&tag, &digest), "what cannot be read is nothing");
        assert!(State::open(Some(&file)).is_err());
    }
}
