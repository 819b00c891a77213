//! Statuses and records in a state folder; implements the core's [`Store`] for one process and its files.
//!
//! ```text
//! DIR/lock                             the process that uses the folder
//! DIR/records/<hash>.jsonl             the verified images of one pair (journal)
//! DIR/statuses/<namespace>.<name>.json the ReplicationStatus of one pair
//! ```
//!
//! Records are the truth. Statuses are paced, and may be older.

mod journal;
mod lock;
mod reports;
mod statuses;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use self::journal::{Contents, Journal};
use self::lock::Lock;
use self::reports::Reports;
use self::statuses::StatusFiles;
use crate::api::{ReplicationStatus, ReplicationStatusStatus};
use crate::image::Digest;
use crate::plan::{ConfigurationReport, PairIdentity};
use crate::replication::machine::{Record, StoredPair};
use crate::replication::{Store, StoreError};

/// The state of every pair in a folder, or nowhere.
#[derive(Debug)]
pub(super) struct FileStore {
    folder: Option<StateFolder>,
    reports: Reports,
}

/// A state folder.
#[derive(Debug)]
struct StateFolder {
    records: PathBuf,
    statuses: StatusFiles,
    journals: Mutex<Journals>,
    /// Held while the process lives; `None` if the folder is only read.
    lock: Option<Lock>,
}

/// The journals of each configuration, by their file names.
type Journals = BTreeMap<(String, String), BTreeMap<String, Arc<Mutex<Journal>>>>;

impl FileStore {
    /// Uses `folder` for the process that runs `command`, and creates it where it is absent. Without a folder nothing is kept.
    ///
    /// # Errors
    /// A sentence: it is no folder, cannot be written, or another process uses it.
    pub(super) fn open(folder: Option<&Path>, command: &str) -> Result<Self, String> {
        let Some(folder) = folder else { return Ok(Self { folder: None, reports: Reports::default() }) };
        check(folder)?;
        let failed = |error: io::Error| format!("--state {} cannot be written: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = Lock::take(folder, command)?;
        for part in [RECORDS, STATUSES].map(|part| folder.join(part)) {
            std::fs::create_dir_all(&part).and_then(|()| remove_partial(&part)).map_err(failed)?;
        }
        Ok(Self { folder: Some(StateFolder::new(folder, Some(lock))), reports: Reports::default() })
    }

    /// Reads `folder`, and never writes; another process may use it. An absent one is empty.
    ///
    /// # Errors
    /// A sentence: it is no folder.
    pub(super) fn read_only(folder: Option<&Path>) -> Result<Self, String> {
        folder.map_or(Ok(()), check)?;
        Ok(Self { folder: folder.map(|folder| StateFolder::new(folder, None)), reports: Reports::default() })
    }

    /// Returns every pair of the configuration `namespace`/`name` that an earlier process left.
    pub(super) fn load(&self, namespace: &str, name: &str) -> Vec<StoredPair> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let journals = folder.lock().get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default();
        let mut pairs = BTreeMap::new();
        for journal in journals.values() {
            let journal = lock(journal);
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

    /// Writes what could not be written before, and protects all records against loss of power.
    ///
    /// # Errors
    /// A sentence that names the first file that cannot be written.
    pub(super) fn close(&self) -> Result<(), String> {
        let Some(folder) = self.folder.as_ref().filter(|folder| folder.lock.is_some()) else { return Ok(()) };
        let journals: Vec<_> = folder.lock().values().flat_map(BTreeMap::values).cloned().collect();
        let (began, mut result) = (Instant::now(), Ok(()));
        for journal in journals {
            let mut journal = lock(&journal);
            let is_in_time = began.elapsed() < MAX_SYNC;
            let written = journal.flush().and_then(|()| if is_in_time { journal.sync() } else { Ok(()) });
            result = result.and(written.map_err(|error| unwritten(journal.file(), &error)));
        }
        result
    }

    /// The folder, where this process may write to it.
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
            folder.statuses.write(pair, status).map_err(failed)
        })
    }

    fn delete<'a>(&'a self, pair: &'a PairIdentity) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(folder) = self.writable() else { return Ok(()) };
            // The status is last: while it is there, the next process deletes the pair again.
            let deleted = folder.remove_journal(pair).and_then(|()| folder.statuses.remove(pair));
            deleted.map_err(|error| StoreError(format!("the status of {} cannot be deleted: {error}", pair.name)))
        })
    }

    fn record(&self, pair: &PairIdentity, record: &Record) {
        let Some(folder) = self.writable() else { return };
        let journal = folder.journal(pair);
        let mut journal = lock(&journal);
        if let Err(error) = journal.append(record) {
            tracing::warn!("{}", unwritten(journal.file(), &error));
        }
    }

    fn report(&self, namespace: &str, name: &str, report: ConfigurationReport) {
        self.reports.take(namespace, name, report);
    }
}

impl StateFolder {
    fn new(folder: &Path, lock: Option<Lock>) -> Self {
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
                of_configuration.insert(name, Arc::new(Mutex::new(Journal::new(file, identity))));
            }
        }
        Self { statuses: StatusFiles::new(folder.join(STATUSES)), records, journals: Mutex::new(journals), lock }
    }

    fn journal(&self, pair: &PairIdentity) -> Arc<Mutex<Journal>> {
        let name = journal_name(pair);
        let file = self.records.join(&name);
        let mut journals = self.lock();
        let journals = journals.entry(configuration(pair)).or_default();
        journals.entry(name).or_insert_with(|| Arc::new(Mutex::new(Journal::new(file, pair.clone())))).clone()
    }

    fn remove_journal(&self, pair: &PairIdentity) -> io::Result<()> {
        let journal = self.journal(pair);
        lock(&journal).remove()?;
        if let Some(of_configuration) = self.lock().get_mut(&configuration(pair)) {
            of_configuration.remove(&journal_name(pair));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Journals> {
        lock(&self.journals)
    }
}

/// Returns every status in `folder`, ordered by namespace and name, and a sentence for each file that cannot be read. Another process
/// may write meanwhile.
///
/// # Errors
/// A sentence: it is absent, or no state folder.
pub(super) fn read_statuses(folder: &Path) -> Result<(Vec<ReplicationStatus>, Vec<String>), String> {
    let shown = folder.display();
    if !folder.exists() {
        return Err(format!("--state {shown} does not exist: give the folder of transship serve or sync"));
    }
    check(folder)?;
    let statuses = folder.join(STATUSES);
    if !statuses.is_dir() {
        return Err(format!("--state {shown} is no state folder: give the one of transship serve or sync"));
    }
    let (mut objects, problems) = statuses::read_all(&statuses);
    objects.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    Ok((objects, problems))
}

fn stored(identity: PairIdentity, status: ReplicationStatusStatus, contents: Contents) -> StoredPair {
    let Contents { images, options, referrers_asked_at } = contents;
    let status = ReplicationStatusStatus { copy_options: options, ..status };
    StoredPair { identity, status, verified: Some(images.into_values().collect()), referrers_asked_at }
}

fn configuration(pair: &PairIdentity) -> (String, String) {
    (pair.namespace.clone(), pair.spec.configuration_ref.name.clone())
}

/// The file name of the journal of a pair.
fn journal_name(PairIdentity { namespace, name, spec }: &PairIdentity) -> String {
    let identity = serde_json::to_vec(&(namespace, name, spec)).expect("an identity is JSON");
    format!("{}.jsonl", &Digest::sha256(&identity).encoded()[..32])
}

/// The name under which a file is written before it replaces `file`.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}{PARTIAL}", std::process::id()));
    name.into()
}

/// Removes what processes left that were killed while they replaced a file.
fn remove_partial(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
            journal::absent_is_fine(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn check(folder: &Path) -> Result<(), String> {
    if folder.exists() && !folder.is_dir() {
        return Err(format!("--state {} is no folder", folder.display()));
    }
    Ok(())
}

fn unwritten(file: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {error}; what it lacks is verified again after a restart", file.display())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const RECORDS: &str = "records";
const STATUSES: &str = "statuses";
const PARTIAL: &str = ".partial";
/// The longest that the end of a process waits for the disk, beyond what is being synced.
const MAX_SYNC: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(super) mod tests {
    use futures::FutureExt;
    use jiff::Timestamp;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::api::{
        ConfigurationReference, ImageStatus, PairEnd, PairSummary, ReplicationState, ReplicationStatusSpec,
        ResolvedRegistryReference,
    };

    /// The pair of `repository` in the configuration `team-a/<configuration>`.
    pub(in crate::standalone) fn pair(configuration: &str, repository: &str) -> PairIdentity {
        let end = |registry: &str| PairEnd {
            registry_ref: ResolvedRegistryReference {
                namespace: None,
                name: registry.to_owned(),
                uid: format!("https://{registry}.example.com"),
            },
            repository: repository.to_owned(),
        };
        let configuration_ref = ConfigurationReference { name: configuration.to_owned(), uid: "one".to_owned() };
        PairIdentity::new(
            "team-a",
            ReplicationStatusSpec { configuration_ref, source: end("us"), destination: end("eu") },
        )
    }

    pub(in crate::standalone) fn image(tag: &str, bytes: u64) -> ImageStatus {
        ImageStatus {
            tag: tag.to_owned(),
            digest: Digest::sha256(&bytes.to_le_bytes()).to_string(),
            destination_digest: None,
            status: ReplicationState::Complete,
            failure_code: None,
            message: Some("with a\nline feed and é".to_owned()),
            attempts: None,
            next_attempt_at: None,
            bytes: Some(bytes),
            completed_at: Some(Timestamp::UNIX_EPOCH),
            referrers: None,
        }
    }

    pub(super) fn verified(tag: &str, bytes: u64) -> Record {
        Record::Verified(Box::new(image(tag, bytes)))
    }

    pub(super) fn status(images: u64) -> ReplicationStatusStatus {
        let summary = PairSummary { images, ..PairSummary::default() };
        ReplicationStatusStatus { summary, ..ReplicationStatusStatus::default() }
    }

    fn publish(store: &FileStore, pair: &PairIdentity, images: u64) {
        store.publish(pair, &status(images)).now_or_never().unwrap().unwrap();
    }

    fn open(folder: &Path) -> FileStore {
        FileStore::open(Some(folder), "transship sync").unwrap()
    }

    #[test]
    fn a_pair_comes_back_with_what_its_journal_says() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new/state");
        let (one, two) = (pair("app", "one"), pair("app", "two"));
        let store = open(&state);
        store.record(&one, &Record::StartedOver(Some("amd64".to_owned())));
        store.record(&one, &verified("v1", 1));
        store.record(&pair("other", "one"), &verified("v1", 1));
        publish(&store, &two, 7);
        drop(store);
        let store = open(&state);
        let pairs = store.load("team-a", "app");
        let of = |identity: &PairIdentity| pairs.iter().find(|pair| pair.identity == *identity).unwrap();
        assert_eq!(pairs.len(), 2);
        assert_eq!(of(&one).verified, Some(vec![image("v1", 1)]));
        assert_eq!(of(&one).status.copy_options.as_deref(), Some("amd64"));
        assert_eq!(of(&two).verified, Some(Vec::new()), "a status alone proves nothing");
        assert_eq!(of(&two).status, status(7));
        for deleted in [&one, &two, &two] {
            store.delete(deleted).now_or_never().unwrap().unwrap();
        }
        assert!(store.load("team-a", "app").is_empty());
        store.record(&one, &verified("v2", 1));
        assert_eq!(store.load("team-a", "app")[0].verified, Some(vec![image("v2", 1)]));
        assert_eq!(store.load("team-a", "other").len(), 1);
    }

    #[test]
    fn a_second_process_is_refused_and_a_reader_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(Some(folder.path()), "transship serve").unwrap();
        store.record(&pair("app", "one"), &verified("v1", 1));
        let refused = FileStore::open(Some(folder.path()), "transship sync").unwrap_err();
        let owner = format!("is in use by process {} (transship serve): end it first", std::process::id());
        assert!(refused.contains(&owner), "{refused}");
        let reader = FileStore::read_only(Some(folder.path())).unwrap();
        assert_eq!(reader.load("team-a", "app")[0].verified, Some(vec![image("v1", 1)]));
        reader.record(&pair("app", "two"), &verified("v1", 1));
        publish(&reader, &pair("app", "two"), 1);
        reader.delete(&pair("app", "one")).now_or_never().unwrap().unwrap();
        drop(reader);
        assert_eq!(store.load("team-a", "app").len(), 1, "a reader changes nothing");
        drop(store);
        FileStore::open(Some(folder.path()), "transship sync").unwrap();
    }

    #[test]
    fn a_folder_that_is_absent_or_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (file, absent) = (folder.path().join("file"), folder.path().join("absent"));
        std::fs::write(&file, "").unwrap();
        let no_folder = format!("--state {} is no folder", file.display());
        assert_eq!(FileStore::open(Some(&file), "transship sync").unwrap_err(), no_folder);
        assert_eq!(FileStore::read_only(Some(&file)).unwrap_err(), no_folder);
        assert_eq!(read_statuses(&file).unwrap_err(), no_folder);
        assert!(FileStore::read_only(Some(&absent)).unwrap().load("team-a", "app").is_empty());
        assert!(read_statuses(&absent).unwrap_err().contains("does not exist"));
        assert!(!absent.exists());
        assert!(read_statuses(folder.path()).unwrap_err().contains("is no state folder"));
        let nowhere = FileStore::open(None, "transship sync").unwrap();
        nowhere.record(&pair("app", "one"), &verified("v1", 1));
        publish(&nowhere, &pair("app", "one"), 1);
        assert!(nowhere.load("team-a", "app").is_empty());
        nowhere.report("team-a", "app", ConfigurationReport::default());
    }

    /// The process that the next test kills: it records, and notes each record in `DIR/noted` once it is made.
    #[test]
    fn record_until_killed() {
        let Some(folder) = std::env::var_os("TRANSSHIP_TEST_STATE").map(PathBuf::from) else { return };
        let store = open(&folder);
        let mut noted = std::fs::File::options().append(true).create(true).open(folder.join("noted")).unwrap();
        for i in 0_u64.. {
            let repository = if i % 2 == 0 { "one" } else { "two" };
            store.record(&pair("app", repository), &verified(&format!("v{}", i % 50), i));
            publish(&store, &pair("app", repository), i);
            std::io::Write::write_all(&mut noted, format!("{i}\n").as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_process_that_is_killed_has_lost_nothing_that_it_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        for life in 1..6_u64 {
            let mut child = std::process::Command::new(&own);
            let child = child.args(["--exact", "standalone::store::tests::record_until_killed"]);
            let child = child.env("TRANSSHIP_TEST_STATE", folder.path()).stdout(std::process::Stdio::null());
            let mut child = child.spawn().unwrap();
            let noted = || std::fs::read_to_string(folder.path().join("noted")).unwrap_or_default();
            let deadline = Instant::now() + Duration::from_secs(60);
            while noted().lines().count() < 150 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let refused = FileStore::open(Some(folder.path()), "transship sync").unwrap_err();
            assert!(refused.contains(&format!("process {} ", child.id())), "{refused}");
            std::thread::sleep(Duration::from_micros(700 * life));
            child.kill().unwrap();
            child.wait().unwrap();
            let last: u64 = noted().lines().last().unwrap().parse().unwrap();
            let store = open(folder.path());
            let images = store.load("team-a", "app").into_iter().flat_map(|pair| pair.verified.unwrap());
            let bytes: BTreeMap<String, u64> = images.map(|image| (image.tag, image.bytes.unwrap())).collect();
            for i in last - 49..=last {
                assert!(bytes[&format!("v{}", i % 50)] >= i, "record {i} of {last} in life {life}");
            }
            let (statuses, problems) = read_statuses(folder.path()).unwrap();
            assert_eq!((statuses.len(), problems), (2, Vec::new()));
            std::fs::remove_file(folder.path().join("noted")).unwrap();
            for repository in ["one", "two"] {
                store.delete(&pair("app", repository)).now_or_never().unwrap().unwrap();
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Record(usize, Record),
        Publish(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let tag = || (0..4u8).prop_map(|tag| format!("v{tag}"));
        let record = prop_oneof![
            60 => (tag(), 0..9u64).prop_map(|(tag, bytes)| verified(&tag, bytes)),
            10 => tag().prop_map(|tag| Record::Forgotten(tag.parse().unwrap())),
            2 => prop::option::of("[a-f]{16}").prop_map(Record::StartedOver),
            5 => (0..9i64).prop_map(|second| Record::ReferrersAsked(Timestamp::from_second(second).unwrap())),
        ];
        prop_oneof![
            9 => (0..2usize, record).prop_map(|(pair, record)| Step::Record(pair, record)),
            1 => (0..2usize, 0..9u64).prop_map(|(pair, images)| Step::Publish(pair, images)),
        ]
    }

    /// The state of a pair as it must be.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Model {
        images: BTreeMap<String, ImageStatus>,
        options: Option<String>,
        asked_at: Option<Timestamp>,
        published: Option<u64>,
    }

    impl Model {
        fn take(&mut self, record: &Record) {
            match record {
                Record::Verified(image) => drop(self.images.insert(image.tag.clone(), image.as_ref().clone())),
                Record::Forgotten(tag) => drop(self.images.remove(tag.as_str())),
                Record::StartedOver(options) => {
                    (self.images, self.options, self.asked_at) = (BTreeMap::new(), options.clone(), None);
                }
                Record::ReferrersAsked(at) => self.asked_at = Some(*at),
            }
        }
    }

    /// A journal with its pair, and its length after each change since it was last rewritten.
    struct Trace {
        identity: PairIdentity,
        file: PathBuf,
        model: Model,
        history: Vec<(u64, Model)>,
    }

    impl Trace {
        fn new(folder: &Path, repository: &str) -> Self {
            let identity = pair("app", repository);
            let file = folder.join(RECORDS).join(journal_name(&identity));
            Self { identity, file, model: Model::default(), history: vec![(0, Model::default())] }
        }

        fn run(&mut self, store: &FileStore, step: &Step) {
            match step {
                Step::Record(_, record) => {
                    store.record(&self.identity, record);
                    self.model.take(record);
                    let length = std::fs::metadata(&self.file).unwrap().len();
                    if self.history.last().unwrap().0 > length {
                        self.history.clear();
                    }
                    self.history.push((length, self.model.clone()));
                }
                Step::Publish(_, images) => {
                    publish(store, &self.identity, *images);
                    self.model.published = Some(*images);
                }
            }
        }

        /// Cuts the file at some byte, as a write that SIGKILL ends does.
        fn cut(&mut self, place: prop::sample::Index) {
            let (first, last) = (self.history[0].0, self.history.last().unwrap().0);
            let cut = first + place.index((last - first + 1) as usize) as u64;
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&self.file) {
                file.set_len(cut).unwrap();
            }
            self.history.retain(|(length, _)| *length <= cut);
            let complete = self.history.last().unwrap().1.clone();
            self.model = Model { published: self.model.published, ..complete };
        }

        /// Leaves a part of a rewritten file and of a status behind, as SIGKILL does before the rename.
        fn leave_partial(&self, place: prop::sample::Index) {
            let bytes = std::fs::read(&self.file).unwrap_or_default();
            let mut name = self.file.clone().into_os_string();
            name.push(".1.partial");
            std::fs::write(name, &bytes[..place.index(bytes.len() + 1)]).unwrap();
        }

        fn check(&self, store: &FileStore) {
            let mut pairs = store.load("team-a", "app");
            pairs.retain(|pair| pair.identity == self.identity);
            assert!(pairs.len() <= 1);
            let loaded = pairs.pop().map(|pair| Model {
                images: pair.verified.unwrap().into_iter().map(|image| (image.tag.clone(), image)).collect(),
                options: pair.status.copy_options,
                asked_at: pair.referrers_asked_at,
                published: (pair.status.summary.images > 0).then_some(pair.status.summary.images),
            });
            let expected = Model { published: self.model.published.filter(|images| *images > 0), ..self.model.clone() };
            assert_eq!(loaded.unwrap_or_default(), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn whatever_ends_a_process_the_next_one_finds_the_last_complete_record(
            lives in vec((vec(step(), 0..250), any::<prop::sample::Index>(), any::<bool>()), 1..4),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut traces = ["one", "two"].map(|repository| Trace::new(folder.path(), repository));
            for (steps, place, is_compacting) in lives {
                let store = open(folder.path());
                traces.iter().for_each(|trace| trace.check(&store));
                for step in &steps {
                    let (Step::Record(pair, _) | Step::Publish(pair, _)) = step;
                    traces[*pair].run(&store, step);
                }
                traces.iter().for_each(|trace| trace.check(&store));
                drop(store);
                if is_compacting {
                    traces[0].leave_partial(place);
                } else {
                    traces[0].cut(place);
                }
                let reader = FileStore::read_only(Some(folder.path())).unwrap();
                traces.iter().for_each(|trace| trace.check(&reader));
            }
            let store = open(folder.path());
            traces.iter().for_each(|trace| trace.check(&store));
            let left = std::fs::read_dir(folder.path().join(RECORDS)).unwrap().flatten();
            prop_assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().ends_with(PARTIAL)));
        }
    }
}
