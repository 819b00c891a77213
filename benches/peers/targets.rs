//! The targets of the project, and the measurements that meet or miss them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::paired::{Ratios, best_peer, median};
use crate::prose::wrapped;
use crate::report::BenchReport;
use crate::run::Run;
use crate::scale::{Images, SIZES, Scale, Size};
use crate::tools::Tool;

/// One target of one phase of one scenario.
struct BenchTarget {
    scenario: &'static str,
    what: String,
    measured: String,
    is_met: bool,
}

/// All runs of one phase of one scenario.
struct TargetPhase<'a> {
    scenario: &'static str,
    name: &'static str,
    is_far: bool,
    runs: &'a BTreeMap<Tool, Vec<&'a Run>>,
    /// Those of transship that ended well.
    ours: Vec<&'a Run>,
}

/// Returns the table of targets, and what bounds those that are missed.
pub fn page(report: &BenchReport) -> String {
    let mut targets = Vec::new();
    for (scenario, name, runs) in report.phases() {
        let ours = runs.get(&Tool::Transship).into_iter().flatten().copied();
        let ours = ours.filter(|run| run.failure.is_none()).collect();
        let phase = TargetPhase { scenario: scenario.name, name, is_far: scenario.link.is_some(), runs: &runs, ours };
        if !phase.ours.is_empty() {
            phase.targets(&mut targets);
        }
        if scenario.times.is_some() || phase.has_failed() {
            targets.push(phase.never_fails());
        }
    }
    targets.extend(round_trips(report));
    targets.extend(memory(report));
    targets.extend(memory_of_large_blobs(report));
    targets.extend(processor_time_of_operator(report));
    let mut text = "| | Target | Measured | |\n|---|---|---|---|\n".to_owned();
    for BenchTarget { scenario, what, measured, is_met } in &targets {
        let met = if *is_met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {scenario} | {what} | {measured} | {met} |");
    }
    let missed = |scenario: &str| targets.iter().any(|target| target.scenario == scenario && !target.is_met);
    let bounds: Vec<_> = BOUNDS.iter().filter(|(scenario, _)| missed(scenario)).collect();
    if !bounds.is_empty() {
        let _ = writeln!(text, "\nWhat bounds those that are missed:\n");
    }
    for (scenario, bound) in bounds {
        text += &wrapped("- ", "  ", &format!("{scenario}: {bound}"));
    }
    text
}

impl TargetPhase<'_> {
    fn targets(&self, targets: &mut Vec<BenchTarget>) {
        match self.name {
            "cold" => {
                targets.extend(self.against_peers());
                targets.extend(self.against_floor());
                targets.extend(self.of_operator());
                targets.extend([self.requests(1.05), self.checks(), self.bytes()]);
            }
            "warm" => targets.push(self.requests(1.0)),
            "changed" => targets.extend([self.requests(1.05), self.checks(), self.bytes()]),
            "killed" => targets.push(self.sent_again()),
            _ => {}
        }
    }

    fn target(&self, what: &str, measured: String, is_met: bool) -> BenchTarget {
        BenchTarget { scenario: self.scenario, what: format!("{}: {what}", self.name), measured, is_met }
    }

    /// No slower than the fastest of the others; faster in every repetition where the registries are far away.
    fn against_peers(&self) -> Option<BenchTarget> {
        let (peer, ratios) = best_peer(self.runs)?;
        let (what, is_met) = match self.scenario {
            "D1" | "D4" => ("wall within noise of the best peer", ratios.lower_quartile() <= 1.0),
            _ if self.is_far => ("wall below the best peer, in every repetition", ratios.most() < 1.0),
            _ => ("wall ≤ the best peer", ratios.median() <= 1.0),
        };
        Some(self.target(what, format!("{} × {}", ratios.shown(), peer.name()), is_met))
    }

    fn against_floor(&self) -> Option<BenchTarget> {
        let ratios = Ratios::of(self.runs, Tool::Transship, Tool::FloorReadBack)?;
        Some(self.target("wall ≤ 1.10 × the floor with read-back", ratios.shown(), ratios.median() <= 1.1))
    }

    /// The operator against `transship sync`.
    fn of_operator(&self) -> Option<BenchTarget> {
        let runs = self.runs.get(&Tool::Operator)?;
        let what = format!("the operator, from apply to COMPLETE: wall ≤ {OPERATOR_LIMIT:.2} × sync");
        let failed = runs.iter().filter(|run| run.failure.is_some()).count();
        match Ratios::of(self.runs, Tool::Operator, Tool::Transship) {
            Some(ratios) if failed == 0 => Some(self.target(&what, ratios.shown(), ratios.median() <= OPERATOR_LIMIT)),
            _ => Some(self.target(&what, format!("{failed} of {} failed", runs.len()), false)),
        }
    }

    /// Compares the requests of the copy with the least.
    fn requests(&self, limit: f64) -> BenchTarget {
        let (found, least) =
            self.worst(|run| (run.traffic.copy_requests() as f64, run.least.requests as f64)).unwrap_or_default();
        let what = match self.name {
            "warm" => "requests ≤ one a tag and page".to_owned(),
            _ => format!("requests to copy ≤ {limit:.2} × the least"),
        };
        self.target(&what, format!("{found:.0} of {least:.0} = {:.2}", found / least), found <= limit * least)
    }

    fn checks(&self) -> BenchTarget {
        let (found, most) =
            self.worst(|run| (run.traffic.verification.total() as f64, run.least.checks as f64)).unwrap_or_default();
        let what = "looks to read back ≤ one for each manifest, blob and tag";
        self.target(what, format!("{found:.0} of {most:.0}"), found <= most)
    }

    fn bytes(&self) -> BenchTarget {
        let share = |found: u64, least: u64| found as f64 / least.max(1) as f64;
        let read = self.ours.iter().map(|run| share(run.traffic.moved, run.least.moved)).fold(0.0, f64::max);
        let written = self.ours.iter().map(|run| share(run.traffic.uploaded, run.least.uploaded)).fold(0.0, f64::max);
        let is_met = read < 1.005 && written < 1.005;
        self.target("bytes read and written of the least = 1.00", format!("{read:.2}, {written:.2}"), is_met)
    }

    fn sent_again(&self) -> BenchTarget {
        let (again, in_flight) = self
            .worst(|run| {
                let again = run.traffic.moved.saturating_sub(run.unique_bytes);
                (again as f64 / 1e6, run.in_flight.unwrap_or_default() as f64 / 1e6)
            })
            .unwrap_or_default();
        let what = "bytes sent again ≤ those in flight when it was killed";
        self.target(what, format!("{again:.1} MB of {in_flight:.1} MB"), again <= in_flight)
    }

    fn has_failed(&self) -> bool {
        self.runs.get(&Tool::Transship).is_some_and(|all| all.len() > self.ours.len())
    }

    fn never_fails(&self) -> BenchTarget {
        let all = self.runs.get(&Tool::Transship).map_or(0, Vec::len);
        let failed = all - self.ours.len();
        self.target("no run fails", format!("{failed} of {all} failed"), failed == 0 && all > 0)
    }

    /// Returns the measured value and the bound of the run that comes off worst.
    fn worst(&self, of: impl Fn(&Run) -> (f64, f64)) -> Option<(f64, f64)> {
        let pairs = self.ours.iter().map(|run| of(run));
        pairs.max_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1)))
    }
}

/// A push as the operator sees it: connections and tokens are there. The first image of a process is shown besides.
fn round_trips(report: &BenchReport) -> Vec<BenchTarget> {
    let Some((first, warm)) = report.round_trips.split_first() else { return Vec::new() };
    let (Some(visible), Some(complete)) =
        (median(warm.iter().map(|one| one.visible)), median(warm.iter().map(|one| one.complete)))
    else {
        return Vec::new();
    };
    let target = |what: &str, found: f64, cold: f64, limit: f64| BenchTarget {
        scenario: "single",
        what: format!("{what} after ≤ {limit:.0} round trips, connections and tokens being there"),
        measured: format!("{found:.1}; {cold:.1} for the first image of a process"),
        is_met: found <= limit,
    };
    vec![
        target("the tag is there", visible, first.visible, 8.0),
        target("all is read back", complete, first.complete, 10.0),
    ]
}

/// Returns the most of any run.
fn memory(report: &BenchReport) -> Option<BenchTarget> {
    let ours = report.runs.iter().filter(|run| run.tool == Tool::Transship.name());
    let peaks = ours.filter_map(|run| Some((run.usage.as_ref()?.memory, run)));
    let (most, run) = peaks.max_by_key(|(memory, _)| *memory)?;
    let megabytes = most as f64 / 1e6;
    let measured = format!("{megabytes:.0} MB, in {} {}", run.scenario, run.phase);
    Some(BenchTarget { scenario: "all", what: "peak memory ≤ 40 MB".to_owned(), measured, is_met: megabytes <= 40.0 })
}

/// A large blob takes no more memory than small ones.
fn memory_of_large_blobs(report: &BenchReport) -> Option<BenchTarget> {
    let memory = |wanted: &str| {
        let ours = report.runs.iter().filter(|run| run.scenario == wanted && run.tool == Tool::Transship.name());
        median(ours.filter(|run| run.phase == "cold").filter_map(|run| Some(run.usage.as_ref()?.memory as f64 / 1e6)))
    };
    let more = memory("D1")? - memory("B")?;
    let what = "cold: peak memory ≤ 4 MB over that of B".to_owned();
    Some(BenchTarget { scenario: "D1", what, measured: format!("{more:.1} MB"), is_met: more <= 4.0 })
}

/// Returns the processor time of the operator for each image, in many repositories and in few large ones.
fn processor_time_of_operator(report: &BenchReport) -> Vec<BenchTarget> {
    let mut targets = Vec::new();
    for of in [Images::Distinct, Images::Aliases] {
        let cold = |size: &Size| {
            let found = report.scales.iter().find(|scale| scale.name == size.name && scale.of == of);
            found.map(Scale::cold_milliseconds)
        };
        let [many, large] = SIZES.each_ref().map(cold);
        let kind = format!("{of:?}").to_lowercase();
        targets.extend(many.map(|many| BenchTarget {
            scenario: SIZES[0].name,
            what: format!("the operator, {kind}: CPU ≤ 1.5 ms an image"),
            measured: format!("{many:.2} ms"),
            is_met: many <= 1.5,
        }));
        targets.extend(many.zip(large).map(|(many, large)| BenchTarget {
            scenario: SIZES[1].name,
            what: format!("the operator, {kind}: CPU an image within 20 % of {}", SIZES[0].name),
            measured: format!("{large:.2} ms, {:+.0} %", 100.0 * (large / many - 1.0)),
            is_met: (large / many - 1.0).abs() <= 0.2,
        }));
    }
    targets
}

/// The longest that the operator may take, of what `transship sync` takes.
const OPERATOR_LIMIT: f64 = 1.25;

/// Names the bound of a scenario in which a target is missed, in a sentence.
const BOUNDS: &[(&str, &str)] =
    &[("A", REMEMBERED_BY_TAG), ("A-2.8", REMEMBERED_BY_TAG), ("D1", HASHED), ("D4", HASHED), ("G", SHORT_REQUESTS)];

const REMEMBERED_BY_TAG: &str = "changed: what was verified is remembered by tag and digest, not by blob. So the destination is asked for the tag and \
for 11 blobs and children that an older image may have brought; 10 of these 12 looks find what they look for, and are its reading back too. \
A child that did not change is read and put once more, and the source is asked once for referrers. The others ask no less, as the tables below show.";

const HASHED: &str = "two requests are the same for each repository, however large its blobs: the referrers of the image at the source and a page of \
tags at the destination. The time is that of the processor: client and registries together take 1.5 s of it on two cores in 0.8 s. transship \
hashes each byte that passes (0.27 to 0.31 s for 512 MiB, the difference to the floor in the column of the client's processor time), the floor does \
not, and what oras takes in all is no more than that. What the source serves under a wrong digest is found before the destination has it.";

const SHORT_REQUESTS: &str = "3256 requests, nearly all of them small, in 1.3 s on two cores that are used up: 2.0 s of the registries' time and 0.37 s of the \
client's, 0.1 s more than the floor takes for the same requests; that is 30 µs a request for retries, logins, consent, records and what is printed.";
