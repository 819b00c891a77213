//! The model of the store: published statuses, records of verified images, and the reports of configurations.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::cluster::Home;
use super::names::{CONFIGURATIONS, Millis};
use crate::image::Tag;
use crate::plan::{AUTHORITY_TTL, ConfigurationReport, PairIdentity, RecordedImages};
use crate::replication::machine::{Predecessor, Record, Stored, StoredPair};
use crate::terms::{ImageStatus, ReplicationStatusStatus};

/// The state that outlives a process.
#[derive(Debug, Default)]
pub(super) struct ModelStore {
    /// By the name of the object.
    pub statuses: BTreeMap<String, Status>,
    records: BTreeMap<String, Records>,
    pub reports: [Option<ConfigurationReport>; CONFIGURATIONS],
    /// Writes fail until then, or are carried out and answered as failed.
    pub failing_until: Millis,
    /// Images that a status has room for.
    pub room: usize,
    /// True if every verified image is recorded, as files do; else a status is all that is left.
    pub has_records: bool,
    /// True if records are written together with statuses, as objects of a cluster are.
    pub are_late: bool,
    /// The records that each process has not written yet, by the name of the status.
    unwritten: BTreeMap<(u32, String), Vec<Record>>,
    /// Objects whose deletion failed: they are left to the next start.
    pub left: Vec<String>,
}

/// A status object.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub configuration: usize,
    pub identity: Arc<PairIdentity>,
    pub status: ReplicationStatusStatus,
}

#[derive(Debug, Default)]
struct Records {
    verified: BTreeMap<Tag, ImageStatus>,
    referrers_asked_at: Option<Timestamp>,
    missed: BTreeMap<Tag, Timestamp>,
    choice: Option<String>,
}

impl ModelStore {
    pub(super) fn publish(
        &mut self,
        configuration: usize,
        identity: Arc<PairIdentity>,
        status: &ReplicationStatusStatus,
    ) {
        let mut status = status.clone();
        status.images.truncate(self.room);
        self.statuses.insert(identity.name.clone(), Status { configuration, identity, status });
    }

    /// Returns true if a process finds what earlier ones learned from lists.
    pub(super) fn keeps_lists(&self) -> bool {
        self.has_records && !self.are_late
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.statuses.remove(name);
        self.records.remove(name);
    }

    /// Deletes what an owner left that does not exist any more.
    pub(super) fn collect_garbage(&mut self, configuration: usize) -> Vec<String> {
        let garbage = self.statuses.values().filter(|status| status.configuration == configuration);
        let garbage: Vec<String> = garbage.map(|status| status.identity.name.clone()).collect();
        garbage.iter().for_each(|name| self.delete(name));
        garbage
    }

    pub(super) fn record(&mut self, process: u32, name: &str, record: Record) {
        if self.are_late {
            self.unwritten.entry((process, name.to_owned())).or_default().push(record);
        } else {
            self.write(name, record);
        }
    }

    /// Writes the records of a pair: before its status.
    pub(super) fn write_records(&mut self, process: u32, name: &str) {
        for record in self.unwritten.remove(&(process, name.to_owned())).unwrap_or_default() {
            self.write(name, record);
        }
    }

    fn write(&mut self, name: &str, record: Record) {
        let records = self.records.entry(name.to_owned()).or_default();
        match record {
            Record::Verified(image) => {
                records.verified.insert(image.tag.parse().expect("a tag"), *image);
            }
            Record::Forgotten(tag) => {
                records.verified.remove(&tag);
            }
            Record::StartedOver(_) => records.verified.clear(),
            Record::Missed(missed) => records.missed = missed,
            Record::Chosen(choice) => records.choice = choice,
            Record::ReferrersAsked(at) => records.referrers_asked_at = Some(at),
        }
    }

    /// Returns the state that a new process finds.
    pub(super) fn stored(
        &self,
        configuration: usize,
        (home, is_used): (Home, bool),
        is_ready: impl Fn(&ConfigurationReport) -> bool,
    ) -> Stored {
        let report = self.reports[configuration].as_ref();
        let pairs = self.statuses.values().filter(|status| status.configuration == configuration).map(|status| {
            let records = self.records.get(&status.identity.name);
            StoredPair {
                identity: status.identity.as_ref().clone(),
                status: status.status.clone(),
                verified: match self.has_records {
                    true => {
                        let kept = records.into_iter().flat_map(|records| records.verified.values());
                        RecordedImages::Listed(kept.cloned().collect())
                    }
                    false => RecordedImages::Shown,
                },
                referrers_asked_at: records
                    .filter(|_| self.keeps_lists())
                    .and_then(|records| records.referrers_asked_at),
                missed: records
                    .filter(|_| self.keeps_lists())
                    .map(|records| records.missed.clone())
                    .unwrap_or_default(),
                choice: records.filter(|_| self.keeps_lists()).and_then(|records| records.choice.clone()),
            }
        });
        if home == Home::Files {
            return Stored {
                pairs: pairs.collect(),
                predecessor: if is_used { Predecessor::Ended } else { Predecessor::None },
                deletion_history: report.map(|report| report.deletion_history.clone()).unwrap_or_default(),
                ..Stored::default()
            };
        }
        Stored {
            pairs: pairs.collect(),
            predecessor: report.map_or(Predecessor::None, |_| Predecessor::MayAct(AUTHORITY_TTL)),
            repositories: report.map_or(0, |report| report.repositories),
            ready_generation: report.filter(|report| is_ready(report)).and_then(|report| report.generation),
            invalid_names: report.and_then(|report| report.invalid_names.clone()),
            handled_request: report.and_then(|report| report.handled_request.clone()),
            deletion_history: report.map(|report| report.deletion_history.clone()).unwrap_or_default(),
        }
    }
}
