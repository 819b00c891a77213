//! The record of one pair: an append-only file of JSON lines that survives SIGKILL at any moment.
//!
//! The first line names the pair, and each further one is a change; the last one about a tag wins. A line counts once
//! its line feed is there. The page cache outlives the process, so a change is safe against SIGKILL as soon as `write`
//! returns. `sync_data` protects against loss of power only: it is called now and then, and at once where images have
//! to be verified anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk;
use crate::image::Tag;
use crate::plan::PairIdentity;
use crate::replication::machine::Record;
use crate::terms::{ImageStatus, ReplicationStatusSpec};

/// The record of one pair in its file.
#[derive(Debug)]
pub(super) struct Journal {
    file: PathBuf,
    identity: PairIdentity,
    /// The file as it was last read or written; `None` before that.
    written: Option<Written>,
    /// Lines that could not be written yet.
    unwritten: Vec<u8>,
    unwritten_lines: usize,
    /// Lines that a loss of power may take.
    unsynced: usize,
    /// True if the next write is synced at once.
    is_sync_due: bool,
}

/// The part of a file that counts.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// The bytes of the complete lines. A line that is torn begins there.
    length: u64,
    /// The changes, superseded ones too.
    lines: usize,
    /// The number of lines from which the file is worth a look whether it can be rewritten.
    compact_at: usize,
}

/// The changes of a record, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The verified images, by tag.
    pub(super) images: BTreeMap<String, ImageStatus>,
    /// The fingerprint of the options by which they were copied.
    pub(super) options: Option<String>,
    /// When the referrers API of the source was last asked about every image.
    pub(super) referrers_asked_at: Option<Timestamp>,
    /// The tags that the last complete list lacked.
    pub(super) missed: BTreeMap<Tag, Timestamp>,
    /// The fingerprint of the rules that chose the newest tags of that list.
    pub(super) choice: Option<String>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    namespace: String,
    name: String,
    spec: ReplicationStatusSpec,
}

/// Every further line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    Verified(Box<ImageStatus>),
    Forgotten(String),
    Missed(BTreeMap<Tag, Timestamp>),
    Chosen(Option<String>),
    StartedOver(Option<String>),
    ReferrersAsked(Timestamp),
}

impl Journal {
    /// Returns the record of `identity` in `file`, which may be absent. Nothing is read yet.
    pub(super) fn new(file: PathBuf, identity: PairIdentity) -> Self {
        let (written, unwritten) = (None, Vec::new());
        Self { file, identity, written, unwritten, unwritten_lines: 0, unsynced: 0, is_sync_due: false }
    }

    /// Returns the pair that a file is about; `None` for one that is no journal.
    pub(super) fn identity_in(file: &Path) -> Option<PairIdentity> {
        let mut line = Vec::new();
        BufReader::new(File::open(file).ok()?.take(MAX_HEADER_BYTES)).read_until(b'\n', &mut line).ok()?;
        parse_header(&line)
    }

    /// Returns the pair that the record is about.
    pub(super) fn identity(&self) -> &PairIdentity {
        &self.identity
    }

    /// Returns the file, which may be absent.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the record, with the changes that could not be written yet.
    ///
    /// # Errors
    /// The file cannot be read. An absent one is empty.
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let (mut contents, _) = self.read()?;
        self.unwritten.split(|byte| *byte == b'\n').for_each(|line| contents.apply(line));
        Ok(contents)
    }

    /// Adds a change: one call of `write`, unless the kernel takes less.
    ///
    /// # Errors
    /// It could not be written. It is kept, and written before the next one.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.unwritten.len() > MAX_UNWRITTEN_BYTES {
            // No rule has this fingerprint: after a restart everything is verified anew.
            (self.unwritten, self.unwritten_lines) = (line(&Change::StartedOver(Some("lost".to_owned()))), 1);
        }
        self.unwritten.extend(line(&Change::of(record)));
        self.unwritten_lines += 1;
        // Without this line those behind it would be taken for images that were copied by the earlier options.
        self.is_sync_due |= matches!(record, Record::StartedOver(_));
        self.flush()
    }

    /// Writes the changes that could not be written before.
    ///
    /// # Errors
    /// They still cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.file)?;
        let length = file.metadata()?.len();
        let known = self.written.filter(|written| written.length <= length);
        let mut written = match known {
            Some(written) => written,
            None => self.read()?.1, // The first time, or another program shortened the file.
        };
        if length > written.length {
            file.set_len(written.length)?; // The rest is a torn line.
        }
        let mut bytes = if written.length == 0 { self.header() } else { Vec::new() };
        bytes.extend(&self.unwritten);
        file.write_all(&bytes)?; // A part that was written before an error is cut off the next time.
        written.length += bytes.len() as u64;
        written.lines += self.unwritten_lines;
        self.written = Some(written);
        self.unsynced += self.unwritten_lines;
        (self.unwritten, self.unwritten_lines) = (Vec::new(), 0);
        if self.is_sync_due || self.unsynced >= SYNC_EVERY {
            file.sync_data()?;
            (self.is_sync_due, self.unsynced) = (false, 0);
        }
        if written.lines > written.compact_at { self.compact(written) } else { Ok(()) }
    }

    /// Protects everything that was written against loss of power.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced > 0 {
            disk::absent_is_fine(File::open(&self.file).and_then(|file| file.sync_data()))?;
            (self.is_sync_due, self.unsynced) = (false, 0);
        }
        Ok(())
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// It is still there.
    pub(super) fn remove(&self) -> io::Result<()> {
        disk::remove(&self.file)
    }

    /// Replaces the file by one without superseded lines, where there are many. A reader, or the next process, finds
    /// the one or the other.
    fn compact(&mut self, written: Written) -> io::Result<()> {
        // A rewrite that fails is not tried again for every line.
        self.written = Some(Written { compact_at: 2 * written.lines, ..written });
        let (contents, found) = self.read()?;
        if found.lines <= found.compact_at {
            self.written = Some(found);
            return Ok(());
        }
        let partial = disk::partial(&self.file);
        let mut to = BufWriter::new(File::create(&partial)?);
        let mut length = 0;
        let changes = contents.into_changes();
        for bytes in std::iter::once(self.header()).chain(changes.iter().map(line)) {
            to.write_all(&bytes)?;
            length += bytes.len() as u64;
        }
        to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&partial, &self.file)?;
        self.written = Some(Written { length, lines: changes.len(), compact_at: found.compact_at });
        (self.is_sync_due, self.unsynced) = (false, 0);
        self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Reads the complete lines. A file of another pair, or without a complete first line, counts as empty.
    fn read(&self) -> io::Result<(Contents, Written)> {
        let (mut contents, mut written) = (Contents::default(), Written::default());
        let file = match File::open(&self.file) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(file) = file {
            let (mut reader, mut line) = (BufReader::new(file), Vec::new());
            while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                if written.length > 0 {
                    contents.apply(&line);
                    written.lines += 1;
                } else if parse_header(&line).as_ref() != Some(&self.identity) {
                    break;
                }
                written.length += line.len() as u64;
                line.clear();
            }
        }
        written.compact_at = 2 * contents.images.len() + MAX_SUPERSEDED_LINES;
        Ok((contents, written))
    }

    fn header(&self) -> Vec<u8> {
        let PairIdentity { namespace, name, spec } = self.identity.clone();
        line(&Header { version: VERSION, namespace, name, spec })
    }
}

impl Contents {
    /// Takes one line. One that is garbage says nothing, and hides no other.
    fn apply(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Change::Verified(image)) => drop(self.images.insert(image.tag.clone(), *image)),
            Ok(Change::Forgotten(tag)) => drop(self.images.remove(&tag)),
            Ok(Change::Missed(missed)) => self.missed = missed,
            Ok(Change::Chosen(choice)) => self.choice = choice,
            Ok(Change::StartedOver(options)) => {
                *self = Self { options, choice: self.choice.take(), ..Self::default() };
            }
            Ok(Change::ReferrersAsked(at)) => self.referrers_asked_at = Some(at),
            Err(_) => {}
        }
    }

    /// Returns the shortest list of changes that leads here.
    fn into_changes(self) -> Vec<Change> {
        let options = self.options.map(|options| Change::StartedOver(Some(options)));
        let asked = self.referrers_asked_at.map(Change::ReferrersAsked);
        let images = self.images.into_values().map(|image| Change::Verified(Box::new(image)));
        let missed = (!self.missed.is_empty()).then_some(Change::Missed(self.missed));
        let choice = self.choice.map(|choice| Change::Chosen(Some(choice)));
        options.into_iter().chain(asked).chain(images).chain(missed).chain(choice).collect()
    }
}

impl Change {
    fn of(record: &Record) -> Self {
        match record {
            Record::Verified(image) => Self::Verified(image.clone()),
            Record::Forgotten(tag) => Self::Forgotten(tag.to_string()),
            Record::Missed(missed) => Self::Missed(missed.clone()),
            Record::Chosen(choice) => Self::Chosen(choice.clone()),
            Record::StartedOver(options) => Self::StartedOver(options.clone()),
            Record::ReferrersAsked(at) => Self::ReferrersAsked(*at),
        }
    }
}

/// Returns a value as one line; JSON has no line feeds inside strings.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("it is JSON");
    line.push(b'\n');
    line
}

fn parse_header(line: &[u8]) -> Option<PairIdentity> {
    let complete = line.strip_suffix(b"\n")?;
    let Header { version, namespace, name, spec } = serde_json::from_slice(complete).ok()?;
    (version == VERSION).then_some(PairIdentity { namespace, name, spec })
}

const VERSION: u32 = 1;
/// A header has three names of at most 255 bytes, and a few shorter ones.
const MAX_HEADER_BYTES: u64 = 64 * 1024;
/// Lines that may wait for a disk that is full, before they are given up.
const MAX_UNWRITTEN_BYTES: usize = 4 * 1024 * 1024;
const SYNC_EVERY: usize = 64;
/// A file is rewritten when it has more lines than twice its images and so many.
const MAX_SUPERSEDED_LINES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standalone::store::tests::{pair, verified};

    fn journal(folder: &Path) -> Journal {
        Journal::new(folder.join("one.jsonl"), pair("app", "one"))
    }

    fn tags(journal: &Journal) -> Vec<String> {
        journal.contents().unwrap().images.into_keys().collect()
    }

    #[test]
    fn the_last_line_about_a_tag_wins_and_starting_over_clears_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = journal(folder.path());
        let forgotten = Record::Forgotten("v1".parse().unwrap());
        for record in
            [verified("v1", 1), verified("v2", 1), verified("v1", 2), Record::ReferrersAsked(Timestamp::UNIX_EPOCH)]
        {
            written.append(&record).unwrap();
        }
        let contents = journal(folder.path()).contents().unwrap();
        assert_eq!(contents.images["v1"].bytes, Some(2));
        assert_eq!(contents.referrers_asked_at, Some(Timestamp::UNIX_EPOCH));
        written.append(&forgotten).unwrap();
        assert_eq!(tags(&journal(folder.path())), ["v2"]);
        written.append(&Record::StartedOver(Some("amd64".to_owned()))).unwrap();
        let started_over = Contents { options: Some("amd64".to_owned()), ..Contents::default() };
        assert_eq!(journal(folder.path()).contents().unwrap(), started_over);
        written.append(&Record::StartedOver(None)).unwrap();
        assert_eq!(journal(folder.path()).contents().unwrap(), Contents::default());
    }

    #[test]
    fn garbage_hides_nothing_and_what_another_pair_wrote_is_void() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = journal(folder.path());
        written.append(&verified("v1", 1)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&written.file).unwrap();
        file.write_all(b"{\"verified\":7}\n\0\0\xff\n\n{\"unknown\":1}\n").unwrap();
        let mut next = journal(folder.path());
        next.append(&verified("v2", 1)).unwrap();
        assert_eq!(tags(&journal(folder.path())), ["v1", "v2"]);

        let mut other = Journal::new(written.file.clone(), pair("app", "another"));
        assert_eq!(other.contents().unwrap(), Contents::default());
        other.append(&verified("v3", 1)).unwrap();
        assert_eq!(tags(&other), ["v3"]);
        assert_eq!(Journal::identity_in(&written.file), Some(pair("app", "another")));
        assert_eq!(tags(&journal(folder.path())), [""; 0]);
    }

    #[test]
    fn a_file_of_superseded_lines_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = journal(folder.path());
        let lines = || std::fs::read_to_string(folder.path().join("one.jsonl")).unwrap().lines().count();
        written.append(&Record::StartedOver(Some("amd64".to_owned()))).unwrap();
        written.append(&Record::ReferrersAsked(Timestamp::UNIX_EPOCH)).unwrap();
        for i in 0..1000 {
            written.append(&verified(&format!("v{}", i % 10), i)).unwrap();
            assert!(lines() <= 1 + 2 * 10 + MAX_SUPERSEDED_LINES, "{}", lines());
        }
        let contents = journal(folder.path()).contents().unwrap();
        assert_eq!(contents.images.values().map(|image| image.bytes.unwrap()).sum::<u64>(), (990..1000).sum::<u64>());
        assert_eq!(
            (contents.options.as_deref(), contents.referrers_asked_at),
            (Some("amd64"), Some(Timestamp::UNIX_EPOCH))
        );
        for i in 0..1000 {
            written.append(&verified(&format!("w{i}"), 1)).unwrap();
        }
        assert_eq!(tags(&journal(folder.path())).len(), 1010, "a file that only grows is kept as it is");
    }

    #[test]
    fn lines_that_cannot_be_written_are_kept_and_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let records = folder.path().join("records");
        let mut written = journal(&records);
        written.append(&Record::StartedOver(Some("amd64".to_owned()))).unwrap_err();
        written.append(&verified("v1", 1)).unwrap_err();
        assert_eq!(tags(&written), ["v1"]);
        std::fs::create_dir(&records).unwrap();
        written.append(&verified("v2", 1)).unwrap();
        assert_eq!(journal(&records).contents().unwrap().options.as_deref(), Some("amd64"));
        assert_eq!(tags(&journal(&records)), ["v1", "v2"]);

        std::fs::remove_dir_all(&records).unwrap();
        while written.unwritten.len() <= MAX_UNWRITTEN_BYTES {
            written.append(&verified("v1", 1)).unwrap_err();
        }
        written.append(&verified("v3", 1)).unwrap_err();
        assert!(written.unwritten.len() < 1000, "what waits is bounded");
        std::fs::create_dir(&records).unwrap();
        written.flush().unwrap();
        let contents = journal(&records).contents().unwrap();
        assert_ne!(contents.options.as_deref(), Some("amd64"), "what was given up is verified anew");
    }
}
