//! The dates at which images were created, as their configurations state them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::manifest_cache::ManifestCache;
use super::memo::Memo;
use super::small_blob::read_whole;
use crate::image::{Descriptor, Digest, EntryRole, IndexEntry, Manifest, ManifestKind, RepositoryName};
use crate::plan::CreationDate;
use crate::registry::{Client, ClientId, ErrorKind, Reference, RegistryError};

/// Reads the dates of images, once for each digest.
pub(super) struct ImageDates {
    known: Memo<(ClientId, Digest), CreationDate>,
    manifests: Arc<ManifestCache>,
}

impl ImageDates {
    /// Knows nothing yet, and later remembers at most `capacity` dates.
    pub(super) fn new(manifests: Arc<ManifestCache>, capacity: usize) -> Self {
        Self { known: Memo::new(capacity), manifests }
    }

    /// Returns the date of an image: from memory, or else by its manifest and its configuration.
    ///
    /// # Errors
    /// As [`Client::manifest`] and [`Client::blob`].
    pub(super) async fn of(
        &self,
        client: &Client,
        repository: &RepositoryName,
        image: &Digest,
    ) -> Result<CreationDate, RegistryError> {
        let key = (client.id(), image.clone());
        if let Some(date) = self.known.recall(&key) {
            return Ok(date);
        }
        let mut manifest = self.manifest(client, repository, image).await?;
        for _ in 0..MAX_DEPTH {
            let ManifestKind::Index { .. } = manifest.kind else { break };
            match self.first_image(client, repository, &manifest).await? {
                Some(child) => manifest = child,
                None => break,
            }
        }
        let date = match &manifest.kind {
            ManifestKind::Image { blobs, .. } => of_configuration(client, repository, blobs.first()).await?,
            ManifestKind::Index { .. } => CreationDate::Absent,
        };
        self.known.note(key, date);
        Ok(date)
    }

    /// Returns the first image of an index that the source has; `None` if it names none.
    async fn first_image(
        &self,
        client: &Client,
        repository: &RepositoryName,
        index: &Manifest,
    ) -> Result<Option<Manifest>, RegistryError> {
        let entries = IndexEntry::of(index).unwrap_or_default().into_iter();
        let images = entries.filter(|entry| !matches!(entry.role, EntryRole::AttestationOf(_)));
        let mut absent = None;
        for entry in images.take(MAX_CHILDREN) {
            match self.manifest(client, repository, &entry.digest).await {
                Ok(manifest) => return Ok(Some(manifest)),
                // An index may be sparse.
                Err(error) if error.kind == ErrorKind::NotFound => absent = Some(error),
                Err(error) => return Err(error),
            }
        }
        absent.map_or(Ok(None), Err)
    }

    /// Reads a manifest. It is kept for its copy, unless that takes the room of others.
    async fn manifest(
        &self,
        client: &Client,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Manifest, RegistryError> {
        if self.manifests.has_room() {
            self.manifests.read(client, repository, digest).await
        } else {
            client.manifest(repository, Reference::Digest(digest)).await
        }
    }
}

async fn of_configuration(
    client: &Client,
    repository: &RepositoryName,
    configuration: Option<&Descriptor>,
) -> Result<CreationDate, RegistryError> {
    let is_usable =
        |blob: &&Descriptor| IMAGE_CONFIGURATIONS.contains(&blob.media_type.as_str()) && blob.size <= MAX_CONFIGURATION;
    match configuration.filter(is_usable) {
        Some(blob) => Ok(date_in(&read_whole(client, repository, blob).await?)),
        None => Ok(CreationDate::Absent),
    }
}

/// Returns the date in a configuration. The first year of the calendar is how Go writes that there is none.
fn date_in(configuration: &[u8]) -> CreationDate {
    let dated: Option<DatedConfiguration> = serde_json::from_slice(configuration).ok();
    let date: Option<Timestamp> = dated.and_then(|dated| dated.created?.parse().ok());
    date.filter(|at| *at > NO_DATE).map_or(CreationDate::Absent, CreationDate::At)
}

#[derive(Deserialize)]
struct DatedConfiguration {
    created: Option<String>,
}

/// The media types of the configurations of images.
const IMAGE_CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The most bytes of a configuration that is read.
const MAX_CONFIGURATION: u64 = 4 << 20;
/// Indexes inside of one another.
const MAX_DEPTH: usize = 3;
/// The entries of an index that are looked for.
const MAX_CHILDREN: usize = 8;
/// The end of the first year.
const NO_DATE: Timestamp = Timestamp::constant(-62_104_060_800, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_from_a_configuration_if_it_states_one() {
        use CreationDate::{Absent, At};
        let at = |second| At(Timestamp::from_second(second).unwrap());
        for (configuration, expected) in [
            (r#"{"created":"1970-01-01T00:01:00Z","os":"linux"}"#, at(60)),
            (r#"{"created":"1970-01-01T01:00:00.5+01:00"}"#, At(Timestamp::from_millisecond(500).unwrap())),
            (r#"{"created":"1970-01-01T00:00:00Z"}"#, at(0)),
            (r#"{"created":"0001-01-01T00:00:00Z"}"#, Absent),
            (r#"{"created":"yesterday"}"#, Absent),
            (r#"{"created":""}"#, Absent),
            (r#"{"created":null}"#, Absent),
            (r#"{"created":7}"#, Absent),
            ("{}", Absent),
            ("[", Absent),
        ] {
            assert_eq!(date_in(configuration.as_bytes()), expected, "{configuration}");
        }
    }
}
