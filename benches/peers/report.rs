//! The measured runs, as JSON and as a table for each scenario.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::run::{Run, by_tool};
use crate::scale::Scale;
use crate::scenarios::{Scenario, scenarios};
use crate::support::round_trips::RoundTrips;
use crate::tables::{heading, table};
use crate::tools::Tool;

/// The most load of the last minute at which a measure begins by itself.
pub const QUIET: f64 = 0.5;

/// Everything that one call of the benchmark has found.
#[derive(Debug, Serialize, Deserialize)]
pub struct BenchReport {
    pub machine: BenchMachine,
    /// The version of each tool and of the registries.
    pub versions: BTreeMap<String, String>,
    pub repetitions: usize,
    pub seed: u64,
    /// The divisor of all sizes: 1, but for development.
    pub scale: usize,
    /// Scenarios and tools that did not run, each with the reason.
    pub left_out: Vec<String>,
    pub runs: Vec<Run>,
    /// Of images that one process copies one after the other; the first is cold.
    pub round_trips: Vec<RoundTrips>,
    /// Of the operator with very many images.
    #[serde(default)]
    pub scales: Vec<Scale>,
}

/// The time and the machine of a measurement.
#[derive(Debug, Serialize, Deserialize)]
pub struct BenchMachine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// Of the last minute, before it began.
    pub load: f64,
    /// True if the program was built with optimizations.
    pub release: bool,
}

impl BenchMachine {
    /// This one.
    pub fn this(load: f64) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let kib: u64 =
            value(&read("/proc/meminfo"), "MemTotal").split(' ').next().unwrap_or_default().parse().unwrap_or(0);
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load,
            release: !cfg!(debug_assertions),
        }
    }
}

impl BenchReport {
    /// Returns the tables of all scenarios that were run, in Markdown that can be read on a terminal, too.
    pub fn tables(&self) -> String {
        scenarios().iter().map(|scenario| self.scenario(scenario)).collect()
    }

    /// Returns the tables of one scenario; empty if it was not run.
    pub fn scenario(&self, scenario: &Scenario) -> String {
        let mut text = String::new();
        for phase in PHASES {
            let runs = by_tool(&self.runs, scenario.name, phase);
            if runs.is_empty() {
                continue;
            }
            if text.is_empty() {
                let _ = writeln!(text, "\n### {}: {}\n", scenario.name, scenario.title);
            }
            let _ = writeln!(text, "{}\n", heading(phase));
            text += &table(&runs);
            text.push('\n');
        }
        text
    }

    /// Returns every phase of every scenario that was run.
    pub fn phases(&self) -> impl Iterator<Item = (Scenario, &'static str, BTreeMap<Tool, Vec<&Run>>)> {
        let phases = scenarios().into_iter().flat_map(|scenario| PHASES.map(|phase| (scenario.clone(), phase)));
        let with_runs = phases.map(|(scenario, phase)| {
            let runs = by_tool(&self.runs, scenario.name, phase);
            (scenario, phase, runs)
        });
        with_runs.filter(|(_, _, runs)| !runs.is_empty())
    }
}

const PHASES: [&str; 5] = ["cold", "warm", "changed", "killed", "watched"];

/// The names under which the versions of registries are kept.
pub const REGISTRIES: [&str; 2] = ["registry 3", "registry 2.8"];
