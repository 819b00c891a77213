//! Statuses and records in a state folder; implements the core's [`Store`] for one process and its files.
//!
//! ```text
//! DIR/lock                             the process that uses the folder
//! DIR/records/<hash>.jsonl             the verified images of one pair (journal)
//! DIR/statuses/<namespace>.<name>.json the ReplicationStatus of one pair
//! DIR/deletions.json                   the deletions of the last day in pairs that were dropped
//! ```
//!
//! Records are the truth. Statuses are paced, and may be older.

mod counts;
mod disk;
mod error;
mod journal;
mod lock;
mod reports;
mod statuses;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use self::counts::CountFiles;
pub(super) use self::error::StateError;
use self::journal::{Contents, Journal};
use self::lock::Lock;
use self::reports::Reports;
use self::statuses::StatusFiles;
use crate::api::ReplicationStatus;
use crate::image::Digest;
use crate::locked::Locked;
use crate::plan::{
    ConfigurationReport, DeletionHistory, EnvelopeLimits, PairIdentity, RecordedImages, StatusEnvelope, StatusKey,
};
use crate::replication::machine::{Record, StoredPair};
use crate::replication::{Store, StoreError};
use crate::terms::ReplicationStatusStatus;

/// The state of every pair in a folder, or nowhere.
#[derive(Debug)]
pub(super) struct FileStore {
    folder: Option<StateFolder>,
    reports: Reports,
    envelope: Locked<StatusEnvelope>,
}

/// A state folder.
#[derive(Debug)]
struct StateFolder {
    records: PathBuf,
    statuses: StatusFiles,
    counts: CountFiles,
    /// True if an earlier process used the folder: its writes may still be under way.
    was_used: bool,
    journals: Locked<Journals>,
    /// The pair that has written to a destination repository in this process, by the Registry's uid and the repository.
    writers: Locked<HashMap<(String, String), String>>,
    /// Held while the process lives; `None` if the folder is only read.
    lock: Option<Lock>,
}

/// The journals of each configuration, by their file names.
type Journals = BTreeMap<(String, String), BTreeMap<String, Arc<Locked<Journal>>>>;

impl FileStore {
    /// Uses `folder` for the process that runs `command`, and creates it where it is absent. Without a folder nothing
    /// is kept.
    ///
    /// # Errors
    /// It is no folder, cannot be read or written, or another process uses it.
    pub(super) fn open(folder: Option<&Path>, command: &str) -> Result<Self, StateError> {
        let Some(folder) = folder else { return Ok(Self::of(None)) };
        check(folder)?;
        let failed = |error: io::Error| StateError::Unwritable { folder: folder.to_owned(), error };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let was_used = folder.join(RECORDS).exists();
        let lock = Lock::take(folder, command)?;
        for part in [RECORDS, STATUSES].map(|part| folder.join(part)) {
            std::fs::create_dir_all(&part).and_then(|()| disk::remove_partial(&part, "")).map_err(failed)?;
        }
        disk::remove_partial(folder, counts::FILE).map_err(failed)?;
        Ok(Self::of(Some(StateFolder { was_used, ..StateFolder::new(folder, Some(lock))? })))
    }

    fn of(folder: Option<StateFolder>) -> Self {
        let envelope = Locked::new(StatusEnvelope::new(EnvelopeLimits::NONE));
        Self { folder, reports: Reports::default(), envelope }
    }

    /// Writes statuses within `limits`, what earlier processes wrote included.
    pub(super) fn within(mut self, limits: EnvelopeLimits) -> Self {
        let mut envelope = StatusEnvelope::new(limits);
        for (pair, status) in self.folder.iter().flat_map(|folder| folder.statuses.all()) {
            envelope.adopt(key(&pair), Some(&status));
        }
        self.envelope = Locked::new(envelope);
        self
    }

    /// Reads `folder`, and never writes; another process may use it. An absent one is empty.
    ///
    /// # Errors
    /// It is no folder, or cannot be read.
    pub(super) fn read_only(folder: Option<&Path>) -> Result<Self, StateError> {
        folder.map_or(Ok(()), check)?;
        Ok(Self::of(folder.map(|folder| StateFolder::new(folder, None)).transpose()?))
    }

    /// Returns every pair of the configuration `namespace`/`name` that an earlier process left.
    pub(super) fn load(&self, namespace: &str, name: &str) -> Vec<StoredPair> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let journals =
            folder.journals.lock().get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default();
        let mut pairs = BTreeMap::new();
        for journal in journals.values() {
            let journal = journal.lock();
            let contents = journal.contents().unwrap_or_else(|error| {
                tracing::warn!("{} cannot be read: {error}; its images are verified anew", journal.file().display());
                Contents::default()
            });
            let identity = journal.identity().clone();
            let status = folder.statuses.read(&identity).unwrap_or_default();
            pairs.insert(identity.name.clone(), stored(identity, status, contents));
        }
        for (identity, status) in folder.statuses.of(namespace, name) {
            let name = identity.name.clone();
            pairs.entry(name).or_insert_with(|| stored(identity, status, Contents::default()));
        }
        pairs.into_values().collect()
    }

    /// Returns true if an earlier process used the folder.
    pub(super) fn was_used(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.was_used)
    }

    /// Returns the namespace and name of every configuration that an earlier process left a pair of.
    pub(super) fn configurations(&self) -> BTreeSet<(String, String)> {
        let Some(folder) = &self.folder else { return BTreeSet::new() };
        let mut found: BTreeSet<_> = folder.journals.lock().keys().cloned().collect();
        found.extend(folder.statuses.configurations());
        found
    }

    /// Writes what could not be written before, and protects all records against loss of power.
    ///
    /// # Errors
    /// The first file that cannot be written.
    pub(super) fn close(&self) -> Result<(), StateError> {
        let Some(folder) = self.folder.as_ref().filter(|folder| folder.lock.is_some()) else { return Ok(()) };
        let journals: Vec<_> = folder.journals.lock().values().flat_map(BTreeMap::values).cloned().collect();
        let (began, mut result) = (Instant::now(), Ok(()));
        for journal in journals {
            let mut journal = journal.lock();
            let is_in_time = began.elapsed() < MAX_SYNC;
            let written = journal.flush().and_then(|()| if is_in_time { journal.sync() } else { Ok(()) });
            result = result.and(written.map_err(|error| unwritten(journal.file(), error)));
        }
        result
    }

    /// Returns the deletions of the configuration `namespace`/`name` that no pair knows.
    pub(super) fn deletion_history(&self, namespace: &str, name: &str) -> DeletionHistory {
        self.folder.as_ref().map(|folder| folder.counts.of(namespace, name)).unwrap_or_default()
    }

    /// Returns the part of a status for which there is room, and logs a bound that is met by it.
    fn bounded<'a>(
        &self,
        pair: &PairIdentity,
        status: &'a ReplicationStatusStatus,
    ) -> Option<Cow<'a, ReplicationStatusStatus>> {
        let (namespace, name) = (pair.namespace.as_str(), pair.spec.configuration_ref.name.as_str());
        let mut envelope = self.envelope.lock();
        let before = envelope.exceeded(namespace, name);
        let bounded = envelope.bound(key(pair), status, 0);
        if envelope.exceeded(namespace, name) != before
            && let Some((reason, message)) = envelope.condition(namespace, name)
        {
            tracing::warn!(configuration = format!("{namespace}/{name}"), reason, "{message}");
        }
        bounded
    }

    /// Returns the folder, where this process may write to it.
    fn writable(&self) -> Option<&StateFolder> {
        self.folder.as_ref().filter(|folder| folder.lock.is_some())
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!("{error}");
        }
    }
}

impl Store for FileStore {
    fn publish<'a>(
        &'a self,
        pair: &'a PairIdentity,
        status: &'a ReplicationStatusStatus,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(folder) = self.writable() else { return Ok(()) };
            let failed = |error| StoreError(format!("the status of {} cannot be written: {error}", pair.name));
            folder.flush(pair).map_err(failed)?;
            match self.bounded(pair, status) {
                Some(bounded) => folder.statuses.write(pair, &bounded),
                None => folder.statuses.remove(pair), // A bound that was lowered leaves none that is out of date.
            }
            .map_err(failed)
        })
    }

    fn delete<'a>(&'a self, pair: &'a PairIdentity) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(folder) = self.writable() else { return Ok(()) };
            // The status is last: while it is there, the next process deletes the pair again.
            let deleted = folder.remove_journal(pair).and_then(|()| folder.statuses.remove(pair));
            self.envelope.lock().remove(key(pair));
            deleted.map_err(|error| StoreError(format!("the status of {} cannot be deleted: {error}", pair.name)))
        })
    }

    fn record(&self, pair: &PairIdentity, record: &Record) {
        let Some(folder) = self.writable() else { return };
        if matches!(record, Record::Verified(_)) {
            folder.take_over(pair);
        }
        let journal = folder.journal(pair);
        let mut journal = journal.lock();
        if let Err(error) = journal.append(record) {
            tracing::warn!("{}", unwritten(journal.file(), error));
        }
    }

    fn report(&self, namespace: &str, name: &str, _uid: &str, report: Arc<ConfigurationReport>) {
        if let Some(folder) = self.writable()
            && let Err(error) = folder.counts.write(namespace, name, &report.deletion_history)
        {
            tracing::warn!("the deletions of {namespace}/{name} cannot be recorded: {error}");
        }
        let envelope = self.envelope.lock().condition(namespace, name);
        self.reports.take(namespace, name, ConfigurationReport { envelope, ..report.as_ref().clone() });
    }
}

impl StateFolder {
    fn new(folder: &Path, lock: Option<Lock>) -> Result<Self, StateError> {
        let records = folder.join(RECORDS);
        let mut journals = Journals::new();
        for entry in std::fs::read_dir(&records).into_iter().flatten().flatten() {
            let file = entry.path();
            // A copy under another name is no journal.
            if let Some(identity) = Journal::identity_in(&file)
                && let name = journal_name(&identity)
                && entry.file_name().to_str() == Some(name.as_str())
            {
                let of_configuration = journals.entry(configuration(&identity)).or_default();
                of_configuration.insert(name, Arc::new(Locked::new(Journal::new(file, identity))));
            }
        }
        Ok(Self {
            statuses: StatusFiles::new(folder.join(STATUSES)),
            counts: CountFiles::read_from(folder)?,
            records,
            journals: Locked::new(journals),
            was_used: false,
            writers: Locked::default(),
            lock,
        })
    }

    /// Writes what could not be written of the record of a pair before: a status shows nothing that its record lacks.
    fn flush(&self, pair: &PairIdentity) -> io::Result<()> {
        let journals = self.journals.lock();
        let journal = journals.get(&configuration(pair)).and_then(|journals| journals.get(&journal_name(pair)));
        let journal = journal.cloned();
        drop(journals);
        journal.map_or(Ok(()), |journal| journal.lock().flush())
    }

    fn journal(&self, pair: &PairIdentity) -> Arc<Locked<Journal>> {
        let name = journal_name(pair);
        let file = self.records.join(&name);
        let mut journals = self.journals.lock();
        let journals = journals.entry(configuration(pair)).or_default();
        journals.entry(name).or_insert_with(|| Arc::new(Locked::new(Journal::new(file, pair.clone())))).clone()
    }

    /// Voids what other pairs recorded of the same destination repository: `pair` has written there since.
    fn take_over(&self, pair: &PairIdentity) {
        let of = |pair: &PairIdentity| {
            let destination = &pair.spec.destination;
            (destination.registry_ref.uid.clone(), destination.repository.clone())
        };
        let destination = of(pair);
        if self.writers.lock().insert(destination.clone(), pair.name.clone()).as_ref() == Some(&pair.name) {
            return;
        }
        let journals: Vec<_> = self.journals.lock().values().flat_map(BTreeMap::values).cloned().collect();
        let identities = journals.iter().map(|journal| journal.lock().identity().clone());
        let void: Vec<_> = identities.filter(|other| other != pair && of(other) == destination).collect();
        for other in void {
            if let Err(error) = self.remove_journal(&other).and_then(|()| self.statuses.remove(&other)) {
                tracing::warn!("the record of {} cannot be deleted: {error}", other.name);
            }
        }
    }

    fn remove_journal(&self, pair: &PairIdentity) -> io::Result<()> {
        let journal = self.journal(pair);
        journal.lock().remove()?;
        if let Some(of_configuration) = self.journals.lock().get_mut(&configuration(pair)) {
            of_configuration.remove(&journal_name(pair));
        }
        Ok(())
    }
}

/// Returns every status in `folder`, ordered by namespace and name, and an error for each file that cannot be read.
/// Another process may write meanwhile.
///
/// # Errors
/// It is absent, or no state folder.
pub(super) fn read_statuses(folder: &Path) -> Result<(Vec<ReplicationStatus>, Vec<StateError>), StateError> {
    if !folder.exists() {
        return Err(StateError::Absent(folder.to_owned()));
    }
    check(folder)?;
    let statuses = folder.join(STATUSES);
    if !statuses.is_dir() {
        return Err(StateError::NoState(folder.to_owned()));
    }
    let (mut objects, problems) = statuses::read_all(&statuses);
    objects.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    Ok((objects, problems))
}

fn stored(identity: PairIdentity, status: ReplicationStatusStatus, contents: Contents) -> StoredPair {
    let Contents { images, options, referrers_asked_at, missed, choice } = contents;
    let status = ReplicationStatusStatus { copy_options_hash: options, ..status };
    let verified = RecordedImages::Listed(images.into_values().collect());
    StoredPair { identity, status, verified, referrers_asked_at, missed, choice }
}

fn key(pair: &PairIdentity) -> StatusKey<'_> {
    StatusKey { namespace: &pair.namespace, configuration: &pair.spec.configuration_ref.name, name: &pair.name }
}

fn configuration(pair: &PairIdentity) -> (String, String) {
    (pair.namespace.clone(), pair.spec.configuration_ref.name.clone())
}

/// Returns the file name of the journal of a pair.
fn journal_name(PairIdentity { namespace, name, spec }: &PairIdentity) -> String {
    let identity = serde_json::to_vec(&(namespace, name, spec)).expect("an identity is JSON");
    format!("{}.jsonl", &Digest::sha256(&identity).encoded()[..32])
}

fn check(folder: &Path) -> Result<(), StateError> {
    if folder.exists() && !folder.is_dir() {
        return Err(StateError::NotAFolder(folder.to_owned()));
    }
    Ok(())
}

fn unwritten(file: &Path, error: io::Error) -> StateError {
    StateError::Incomplete { file: file.to_owned(), error }
}

const RECORDS: &str = "records";
const STATUSES: &str = "statuses";
/// The longest that the end of a process waits for the disk, beyond what is being synced.
const MAX_SYNC: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(super) mod tests;
