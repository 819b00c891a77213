//! The measurements of one run, as they are kept in the results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use transship::terms::Side;

use crate::measure::Usage;
use crate::operator::ApiServer;
use crate::support::fixtures::ExpectedContents;
use crate::support::registry::AccessLine;
use crate::support::requests::Traffic;
use crate::tools::Tool;

/// The measurements of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub scenario: String,
    /// `cold`, `warm`, `changed`, `killed` or `watched`.
    pub phase: String,
    pub tool: String,
    pub repetition: usize,
    /// Absent if it failed.
    pub usage: Option<Usage>,
    /// Why it failed.
    pub failure: Option<String>,
    pub traffic: Traffic,
    /// The least that it takes, by arithmetic.
    pub least: Least,
    /// The number of requests that were answered with each status, by the side.
    pub statuses: BTreeMap<Side, BTreeMap<u16, usize>>,
    /// Seconds of processor time of the source and of the destinations.
    pub source_cpu: f64,
    pub destination_cpu: f64,
    /// Of all blobs that are to be copied, each counted once.
    pub unique_bytes: u64,
    /// Bytes that the source had sent and that were in no blob of the destination, when the tool was killed.
    pub in_flight: Option<u64>,
    /// From the start until the tag was there, in seconds, where that was watched.
    pub visible: Option<f64>,
    /// The time there and back in seconds, where the registries are far away.
    pub round_trip: Option<f64>,
    /// From the start until the destination had answered its last request, in seconds, and the load of the API server:
    /// of the operator.
    #[serde(default)]
    pub copied: Option<f64>,
    #[serde(default)]
    pub api: Option<ApiServer>,
}

/// The least that a run can take, computed from the images themselves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Least {
    /// Requests of both sides that it takes to copy.
    pub requests: usize,
    /// Looks that it takes to read everything back once.
    pub checks: usize,
    /// Bytes of blobs that the source has to send, and that destinations have to take.
    pub moved: u64,
    pub uploaded: u64,
}

impl Least {
    /// Of a copy to empty destinations.
    pub fn cold(contents: &ExpectedContents, destinations: usize) -> Self {
        Self::of(&Traffic::least_cold(contents, destinations), Traffic::most_checks(contents, destinations))
    }

    /// Returns the least of a run that has nothing to do.
    pub fn warm(contents: &ExpectedContents) -> Self {
        Self::of(&Traffic::least_warm(contents), 0)
    }

    /// After a tag was moved to the image `changed`.
    pub fn changed(before: &ExpectedContents, after: &ExpectedContents, changed: &ExpectedContents) -> Self {
        Self::of(&Traffic::least_changed(before, after), Traffic::most_checks(changed, 1))
    }

    fn of(least: &Traffic, checks: usize) -> Self {
        Self { requests: least.copy_requests(), checks, moved: least.moved, uploaded: least.uploaded }
    }
}

impl Run {
    /// From its start to its end in seconds, if what it did was right.
    pub fn wall(&self) -> Option<f64> {
        self.usage.as_ref().map(|usage| usage.wall)
    }
}

/// Counts the requests that were answered with each status.
pub fn statuses<'a>(log: impl IntoIterator<Item = &'a AccessLine>) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for access in log {
        *statuses.entry(access.status).or_default() += 1;
    }
    statuses
}

/// Returns the runs of each tool of a scenario's phase, in the order of the tools.
pub fn by_tool<'a>(runs: &'a [Run], scenario: &str, phase: &str) -> BTreeMap<Tool, Vec<&'a Run>> {
    let mut found: BTreeMap<Tool, Vec<&Run>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.scenario == scenario && run.phase == phase) {
        if let Some(tool) = Tool::all().iter().find(|tool| tool.name() == run.tool) {
            found.entry(*tool).or_default().push(run);
        }
    }
    found
}
