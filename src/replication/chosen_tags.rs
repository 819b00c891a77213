//! Chooses the tags of a repository that are observed, of those that the filters take: the newest, where a rule says so.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;

use super::observed_repository::{Extent, is_of_tag};
use super::observer::FindingSender;
use super::slow::announced;
use crate::image::{Digest, RepositoryName, Tag};
use crate::long_work::long_work_if;
use crate::plan::{CreationDate, MANY_NAMES, NarrowedTags, TagChoice};
use crate::registry::{Client, RegistryError};

/// The tags of a repository that are observed.
pub(super) struct ChosenTags {
    /// Those that a rule takes.
    pub tags: BTreeSet<Tag>,
    /// The choice of the newest.
    pub narrowed: NarrowedTags,
    /// The digests that are known by now.
    pub digests: BTreeMap<Tag, Digest>,
    /// Sentences about tags that are chosen for want of a date, or not at all.
    pub remarks: Vec<String>,
    /// The extent to which the dates could be read.
    pub extent: Extent,
}

/// Chooses among `tags`, of which the list has stated some `digests`.
pub(super) async fn choose(
    sender: &FindingSender<'_>,
    (client, repository): (&Client, &RepositoryName),
    choice: &TagChoice,
    tags: BTreeSet<Tag>,
    digests: BTreeMap<Tag, Digest>,
) -> ChosenTags {
    if !choice.is_narrowed() {
        let (narrowed, remarks) = Default::default();
        return ChosenTags { tags, narrowed, digests, remarks, extent: Extent::Whole };
    }
    let mut reading = DateReading { sender, client, repository, dates: BTreeMap::new(), digests, failed: None };
    let mut extent = Extent::Whole;
    let takes_long = tags.len() > MANY_NAMES;
    let dated: Vec<&Tag> = long_work_if(takes_long, || tags.iter().filter(|tag| choice.needs_date(tag)).collect());
    if !dated.is_empty() {
        let subject = format!("the dates of {}/{repository}", client.host());
        extent = announced(subject, reading.read(dated)).await;
    }
    let DateReading { dates, digests, failed, .. } = reading;
    let (tags, narrowed) = long_work_if(takes_long, || choice.narrow(tags, &dates));
    ChosenTags { tags, narrowed, digests, remarks: remarks(repository, &dates, failed), extent }
}

/// Reads the dates of tags.
struct DateReading<'a> {
    sender: &'a FindingSender<'a>,
    client: &'a Client,
    repository: &'a RepositoryName,
    dates: BTreeMap<Tag, CreationDate>,
    digests: BTreeMap<Tag, Digest>,
    /// The message of a failure that concerns one tag.
    failed: Option<String>,
}

impl DateReading<'_> {
    async fn read(&mut self, tags: Vec<&Tag>) -> Extent {
        let looks: Vec<(Tag, Option<Digest>)> =
            tags.into_iter().map(|tag| (tag.clone(), self.digests.get(tag).cloned())).collect();
        let (sender, client, repository) = (self.sender, self.client, self.repository);
        let read = futures::stream::iter(looks).map(|(tag, digest)| async move {
            let date = date_of(sender, client, repository, &tag, digest).await;
            (tag, date)
        });
        let (mut read, mut extent) = (std::pin::pin!(read.buffered(TAGS_AT_ONCE)), Extent::Whole);
        while let Some((tag, date)) = read.next().await {
            match date {
                Ok(Some((digest, date))) => {
                    self.digests.insert(tag.clone(), digest);
                    self.dates.insert(tag, date);
                }
                Ok(None) => drop(self.dates.insert(tag, CreationDate::Unknown)),
                Err(error) => {
                    self.dates.insert(tag, CreationDate::Unknown);
                    if is_of_tag(error.kind) {
                        self.failed.get_or_insert(error.message);
                    } else {
                        self.sender.report(&error);
                        extent = Extent::Partial;
                    }
                }
            }
        }
        extent
    }
}

/// Returns the digest and the date of a tag; `None` if it has no manifest.
async fn date_of(
    sender: &FindingSender<'_>,
    client: &Client,
    repository: &RepositoryName,
    tag: &Tag,
    listed: Option<Digest>,
) -> Result<Option<(Digest, CreationDate)>, RegistryError> {
    let observer = sender.observer;
    let digest = match listed {
        Some(digest) => Some(digest),
        None => observer.digest(client, repository, tag, false).await?,
    };
    let Some(digest) = digest else { return Ok(None) };
    let date = observer.engine.created(client, repository, &digest).await?;
    Ok(Some((digest, date)))
}

fn remarks(repository: &RepositoryName, dates: &BTreeMap<Tag, CreationDate>, failed: Option<String>) -> Vec<String> {
    let of = |wanted: CreationDate| dates.iter().filter(move |(_, date)| **date == wanted).map(|(tag, _)| tag);
    let absent = of(CreationDate::Absent).next().map(|tag| {
        let count = of(CreationDate::Absent).count();
        format!("{count} tags of {repository} state no date, such as {tag}: they sort last for newest by Created")
    });
    let unknown = of(CreationDate::Unknown).next().map(|tag| {
        let (count, why) = (of(CreationDate::Unknown).count(), failed.unwrap_or_else(|| "it has no manifest".to_owned()));
        format!("the dates of {count} tags of {repository} cannot be read, such as that of {tag}, and they stay as they are: {why}")
    });
    absent.into_iter().chain(unknown).collect()
}

const TAGS_AT_ONCE: usize = 16;
