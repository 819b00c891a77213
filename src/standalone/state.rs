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
    /// When the referrers API of the source was last asked for each image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) referrers_asked_at: Option<Timestamp>,
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
    #[serde(default, flatten)]
    pub(super) referred: Referred,
}

/// Fingerprints of what referred to an image at the source; `None` for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referred {
    /// By its tags.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "referrerTags")]
    pub(super) tags: Option<String>,
    /// By the referrers API.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "referrers")]
    pub(super) listed: Option<String>,
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
            referrers_asked_at: None,
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
    /// Whether `digest` was verified under `tag`, with everything that refers to it; the referrers API counts where it was asked.
    pub(super) fn has(&self, tag: &Tag, digest: &Digest, referred: &Referred, is_asked: bool) -> bool {
        self.images.get(tag.as_str()).is_some_and(|image| {
            image.digest == digest.as_str()
                && image.referred.tags == referred.tags
                && (!is_asked || image.referred.listed == referred.listed)
        })
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
        let referred = Referred { tags: Some("one".to_owned()), listed: None };
        let verified = Verified {
            digest: digest.to_string(),
            destination_digest: None,
            bytes: 1,
            completed_at: Timestamp::UNIX_EPOCH,
            referred: referred.clone(),
        };
        record.images.insert("v1".to_owned(), verified);
        state.save(&record).unwrap();
        let has = |to: &str, options: &CopyOptions, referred: &Referred, is_asked: bool| {
            state.load("ns/c", ("a/x", to), options).has(&tag, &digest, referred, is_asked)
        };
        assert!(has("b/x", &all, &referred, true));
        assert!(!has("c/x", &all, &referred, true));
        let signed = Referred { listed: Some("two".to_owned()), ..referred.clone() };
        assert!(!has("b/x", &all, &signed, true), "what was signed since is to be copied");
        assert!(has("b/x", &all, &signed, false), "it was not asked");
        let some = CopyOptions { platforms: vec!["linux/amd64".parse().unwrap()], ..CopyOptions::default() };
        assert!(!has("b/x", &some, &referred, true), "other platforms are another matter");
        let file = state.file(&record).unwrap();
        std::fs::write(&file, b"{\"half").unwrap();
        assert!(!has("b/x", &all, &referred, true), "what cannot be read is nothing");
        assert!(State::open(Some(&file)).is_err());
    }
}
