//! Properties of the state folder, killed processes among them.

use futures::FutureExt;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::image::Tag;
use crate::terms::{
    ConfigurationReference, ImageStatus, PairEnd, PairSummary, ReplicationState, ReplicationStatusSpec,
    ResolvedRegistryReference,
};

/// Returns the pair of `repository` in the configuration `team-a/<configuration>`.
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
    PairIdentity::new("team-a", ReplicationStatusSpec { configuration_ref, source: end("us"), destination: end("eu") })
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
        referrers_hash: None,
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

fn verified_of(pair: &StoredPair) -> Vec<ImageStatus> {
    let mut images = Vec::new();
    pair.verified.each(&[], |image| images.push(image.clone()));
    images
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
    store.record(&pair("other", "three"), &verified("v1", 1));
    publish(&store, &two, 7);
    drop(store);
    let store = open(&state);
    let pairs = store.load("team-a", "app");
    let of = |identity: &PairIdentity| pairs.iter().find(|pair| pair.identity == *identity).unwrap();
    assert_eq!(pairs.len(), 2);
    assert_eq!(of(&one).verified, RecordedImages::Listed(vec![image("v1", 1)]));
    assert_eq!(of(&one).status.copy_options_hash.as_deref(), Some("amd64"));
    assert_eq!(of(&two).verified, RecordedImages::Listed(Vec::new()), "a status alone proves nothing");
    assert_eq!(of(&two).status, status(7));
    for deleted in [&one, &two, &two] {
        store.delete(deleted).now_or_never().unwrap().unwrap();
    }
    assert!(store.load("team-a", "app").is_empty());
    store.record(&one, &verified("v2", 1));
    assert_eq!(store.load("team-a", "app")[0].verified, RecordedImages::Listed(vec![image("v2", 1)]));
    assert_eq!(store.load("team-a", "other").len(), 1);
}

#[test]
fn the_record_of_a_destination_that_another_configuration_writes_is_void() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (pair("first", "app"), pair("second", "app"));
    open(folder.path()).record(&first, &verified("v1", 1));
    open(folder.path()).record(&second, &verified("v1", 2));
    let store = open(folder.path());
    assert!(store.load("team-a", "first").is_empty(), "the destination has the image of the second now");
    assert_eq!(store.load("team-a", "second")[0].verified, RecordedImages::Listed(vec![image("v1", 2)]));
}

#[test]
fn a_status_waits_for_a_record_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair("app", "one");
    let store = open(folder.path());
    let journal = folder.path().join(RECORDS).join(journal_name(&pair));
    std::fs::create_dir(&journal).unwrap();
    store.record(&pair, &verified("v1", 1));
    let shown = status(1);
    let published = || futures::executor::block_on(store.publish(&pair, &shown));
    assert!(published().is_err(), "a status would show what a restart does not know");
    assert!(store.load("team-a", "app").iter().all(|pair| pair.status.images.is_empty()));
    std::fs::remove_dir(&journal).unwrap();
    assert!(published().is_ok());
    drop(store);
    let found = open(folder.path()).load("team-a", "app");
    assert_eq!(verified_of(&found[0]).len(), 1, "the record is there with the status");
}

#[test]
fn deletions_that_cannot_be_read_let_no_process_begin() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("deletions.json.17.partial"), "{half").unwrap();
    std::fs::write(folder.path().join("other.partial"), "of another program").unwrap();
    drop(open(folder.path()));
    let left = || std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left().all(|name| name != "deletions.json.17.partial"), "half a file is removed");
    assert!(left().any(|name| name == "other.partial"), "and that of another program is not");
    std::fs::write(folder.path().join("deletions.json"), "{half").unwrap();
    let refused = FileStore::open(Some(folder.path()), "transship serve").unwrap_err().to_string();
    assert!(refused.contains("deletions.json cannot be read: "), "{refused}");
}

#[test]
fn a_second_process_is_refused_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(Some(folder.path()), "transship serve").unwrap();
    store.record(&pair("app", "one"), &verified("v1", 1));
    let refused = FileStore::open(Some(folder.path()), "transship sync").unwrap_err().to_string();
    let owner = format!("is in use by process {} (transship serve): end it first", std::process::id());
    assert!(refused.contains(&owner), "{refused}");
    let reader = FileStore::read_only(Some(folder.path())).unwrap();
    assert_eq!(reader.load("team-a", "app")[0].verified, RecordedImages::Listed(vec![image("v1", 1)]));
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
    assert_eq!(FileStore::open(Some(&file), "transship sync").unwrap_err().to_string(), no_folder);
    assert_eq!(FileStore::read_only(Some(&file)).unwrap_err().to_string(), no_folder);
    assert_eq!(read_statuses(&file).unwrap_err().to_string(), no_folder);
    assert!(FileStore::read_only(Some(&absent)).unwrap().load("team-a", "app").is_empty());
    assert!(read_statuses(&absent).unwrap_err().to_string().contains("does not exist"));
    assert!(!absent.exists());
    assert!(read_statuses(folder.path()).unwrap_err().to_string().contains("is no state folder"));
    let nowhere = FileStore::open(None, "transship sync").unwrap();
    nowhere.record(&pair("app", "one"), &verified("v1", 1));
    publish(&nowhere, &pair("app", "one"), 1);
    assert!(nowhere.load("team-a", "app").is_empty());
    nowhere.report("team-a", "app", "one", Arc::default());
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
        let refused = FileStore::open(Some(folder.path()), "transship sync").unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} ", child.id())), "{refused}");
        std::thread::sleep(Duration::from_micros(700 * life));
        child.kill().unwrap();
        child.wait().unwrap();
        let last: u64 = noted().lines().last().unwrap().parse().unwrap();
        let store = open(folder.path());
        let images = store.load("team-a", "app").into_iter().flat_map(|pair| verified_of(&pair));
        let bytes: BTreeMap<String, u64> = images.map(|image| (image.tag, image.bytes.unwrap())).collect();
        for i in last - 49..=last {
            assert!(bytes[&format!("v{}", i % 50)] >= i, "record {i} of {last} in life {life}");
        }
        let (statuses, problems) = read_statuses(folder.path()).unwrap();
        assert!(statuses.len() == 2 && problems.is_empty(), "{problems:?}");
        std::fs::remove_file(folder.path().join("noted")).unwrap();
        for repository in ["one", "two"] {
            store.delete(&pair("app", repository)).now_or_never().unwrap().unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum StoreStep {
    Record(usize, Record),
    Publish(usize, u64),
}

fn step() -> impl Strategy<Value = StoreStep> {
    let tag = || (0..4u8).prop_map(|tag| format!("v{tag}"));
    let record = prop_oneof![
        60 => (tag(), 0..9u64).prop_map(|(tag, bytes)| verified(&tag, bytes)),
        10 => tag().prop_map(|tag| Record::Forgotten(tag.parse().unwrap())),
        2 => prop::option::of("[a-f]{16}").prop_map(Record::StartedOver),
        5 => prop::collection::btree_set(tag(), 0..3).prop_map(|tags| {
            Record::Missed(tags.into_iter().map(|tag| (tag.parse().unwrap(), Timestamp::UNIX_EPOCH)).collect())
        }),
        3 => prop::option::of("[a-f]{16}").prop_map(Record::Chosen),
        5 => (0..9i64).prop_map(|second| Record::ReferrersAsked(Timestamp::from_second(second).unwrap())),
    ];
    prop_oneof![
        9 => (0..2usize, record).prop_map(|(pair, record)| StoreStep::Record(pair, record)),
        1 => (0..2usize, 0..9u64).prop_map(|(pair, images)| StoreStep::Publish(pair, images)),
    ]
}

/// The state of a pair as it must be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    images: BTreeMap<String, ImageStatus>,
    options: Option<String>,
    asked_at: Option<Timestamp>,
    missed: BTreeMap<Tag, Timestamp>,
    choice: Option<String>,
    published: Option<u64>,
}

impl Model {
    fn take(&mut self, record: &Record) {
        match record {
            Record::Verified(image) => drop(self.images.insert(image.tag.clone(), image.as_ref().clone())),
            Record::Forgotten(tag) => drop(self.images.remove(tag.as_str())),
            Record::StartedOver(options) => {
                (self.images, self.options, self.asked_at) = (BTreeMap::new(), options.clone(), None);
                self.missed.clear();
            }
            Record::Missed(missed) => self.missed = missed.clone(),
            Record::Chosen(choice) => self.choice = choice.clone(),
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

    fn run(&mut self, store: &FileStore, step: &StoreStep) {
        match step {
            StoreStep::Record(_, record) => {
                store.record(&self.identity, record);
                self.model.take(record);
                let length = std::fs::metadata(&self.file).unwrap().len();
                if self.history.last().unwrap().0 > length {
                    self.history.clear();
                }
                self.history.push((length, self.model.clone()));
            }
            StoreStep::Publish(_, images) => {
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
            images: verified_of(&pair).into_iter().map(|image| (image.tag.clone(), image)).collect(),
            options: pair.status.copy_options_hash,
            asked_at: pair.referrers_asked_at,
            missed: pair.missed,
            choice: pair.choice,
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
                let (StoreStep::Record(pair, _) | StoreStep::Publish(pair, _)) = step;
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
        prop_assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().ends_with(disk::PARTIAL)));
    }
}
