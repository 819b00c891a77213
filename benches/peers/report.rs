//! What was measured, as a table, as JSON, and as a page of the documentation.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::running::{Run, by_tool};
use crate::scenarios::{Course, Scenario, scenarios};
use crate::support::requests::Requests;
use crate::tools::Tool;

/// Everything that one call of the benchmark has found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    /// The version of each tool and of the registries.
    pub versions: BTreeMap<String, String>,
    pub repetitions: usize,
    pub seed: u64,
    /// What sizes were divided by: 1, but for development.
    pub scale: usize,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    pub runs: Vec<Run>,
}

/// Where and when.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// Of the last minute, before it began.
    pub load: f64,
    /// Whether the program was built to be fast.
    pub release: bool,
}

impl Machine {
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

impl Report {
    /// The tables of all scenarios that were run, in Markdown that can be read on a terminal, too.
    pub fn tables(&self) -> String {
        scenarios().iter().map(|scenario| self.scenario(scenario)).collect()
    }

    /// The tables of one scenario; empty if it was not run.
    pub fn scenario(&self, scenario: &Scenario) -> String {
        let phases = match scenario.course {
            Course::Cold => &["cold"][..],
            Course::Warm => &["cold", "warm"],
            Course::Changed => &["cold", "warm", "changed"],
            Course::Killed => &["killed"],
            Course::Watched => &["watched"],
        };
        let mut text = String::new();
        for phase in phases {
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

    /// The page of the documentation.
    pub fn page(&self) -> String {
        let Machine { date, processor, cores, memory_gib, kernel, load, release } = &self.machine;
        let build = if *release { "release build" } else { "**debug build: no measure of anything**" };
        let small = if self.scale == 1 { String::new() } else { format!(" Sizes were divided by {}.", self.scale) };
        let mut page = format!(
            "# Performance\n\n{INTRODUCTION}\nMeasured on {date}: {processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, load {load:.2} before; {build}; {} repetitions \
             (fewer where a scenario takes long), seed {}.{small}\n\n## Who takes part\n\n| | Version | How |\n|---|---|---|\n",
            self.repetitions, self.seed
        );
        for tool in Tool::all() {
            let name = tool.name();
            if let Some(version) = self.versions.get(&name) {
                let _ = writeln!(page, "| {name} | {version} | {} |", tool.flags());
            }
        }
        for registry in REGISTRIES {
            let _ = writeln!(
                page,
                "| {registry} | {} | on tmpfs, its access log on |",
                self.versions.get(registry).map_or("", String::as_str)
            );
        }
        page += "\n## Where transship is ahead and where it is not\n\n";
        page += &self.standing();
        page += "\n## Tables\n\n";
        page += LEGEND;
        page += &self.tables();
        if !self.left_out.is_empty() {
            page += "\n## Left out\n\n";
            for left_out in &self.left_out {
                let _ = writeln!(page, "- {left_out}");
            }
        }
        page
    }

    /// Ours against the fastest of the others, a line for each phase that was run.
    fn standing(&self) -> String {
        let mut text =
            "| | transship | the fastest other | which | transship takes | of the floor |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for scenario in scenarios() {
            for phase in PHASES {
                let runs = by_tool(&self.runs, scenario.name, phase);
                let Some(ours) = runs.get(&Tool::Transship).and_then(|runs| median_wall(runs)) else { continue };
                let others = runs.iter().filter(|(tool, _)| **tool != Tool::Transship && !tool.is_floor());
                let best = others.filter_map(|(tool, runs)| Some((median_wall(runs)?, tool.name())));
                let (wall, name, share) = match best.min_by(|a, b| a.0.total_cmp(&b.0)) {
                    Some((wall, name)) => (seconds(wall), name, format!("{:.0} %", 100.0 * ours / wall)),
                    None => Default::default(),
                };
                let floor =
                    ratio(&runs, Tool::Transship, Tool::Floor).map_or(String::new(), |r| format!("{:.0} %", 100.0 * r));
                let _ = writeln!(
                    text,
                    "| {} {phase} | {} | {wall} | {name} | {share} | {floor} |",
                    scenario.name,
                    seconds(ours)
                );
            }
        }
        text
    }
}

fn heading(phase: &str) -> &'static str {
    match phase {
        "cold" => "Nothing is there:",
        "warm" => "Everything is there:",
        "changed" => "One tag was changed, by one new layer (E):",
        "killed" => "Killed at half, and run again: time is that of the second run, requests and bytes are of both:",
        _ => "Until the tag is there, and until the tool is done:",
    }
}

fn table(runs: &BTreeMap<Tool, Vec<&Run>>) -> String {
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|(tool, of_tool)| row(*tool, of_tool, runs)));
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    rows.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for (tool, of_tool) in runs {
        if let Some(failure) = of_tool.iter().find_map(|run| run.failure.as_ref()) {
            let _ = writeln!(text, "\n{} failed: {}", tool.name(), failure.replace('\n', " "));
        }
    }
    text
}

fn row(tool: Tool, of_tool: &[&Run], runs: &BTreeMap<Tool, Vec<&Run>>) -> Vec<String> {
    let verified = of_tool.iter().filter(|run| run.failure.is_none()).count();
    let median_of =
        |value: fn(&Run) -> f64| median(of_tool.iter().filter(|run| run.failure.is_none()).map(|run| value(run)));
    let walls = of_tool.iter().filter_map(|run| Some(run.usage.as_ref()?.wall));
    let (least, most) = walls.fold((f64::MAX, 0.0_f64), |(least, most), wall| (least.min(wall), most.max(wall)));
    let wall = match median_wall(of_tool) {
        Some(wall) => format!("{} ({}–{})", seconds(wall), seconds(least), seconds(most)),
        None => "failed".to_owned(),
    };
    let last = of_tool.iter().rev().find(|run| run.failure.is_none()).or(of_tool.last()).expect("a run");
    let usage = |value: fn(&crate::measure::Usage) -> f64| {
        median(of_tool.iter().filter_map(|run| run.usage.as_ref()).map(value))
    };
    let share = |bytes: fn(&Run) -> u64| match median_of(|run| run.unique_bytes as f64) {
        Some(unique) if unique > 0.0 => {
            let bytes = median(of_tool.iter().filter(|run| run.failure.is_none()).map(|run| bytes(run) as f64));
            bytes.map_or(String::new(), |bytes| format!("{:.2}", bytes / unique))
        }
        _ => String::new(),
    };
    let number = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
    let rounds = match (last.visible, last.round_trip, &last.usage) {
        (Some(_), Some(round_trip), Some(_)) => format!(
            "tag after {}, done after {}",
            number(median_of(|run| run.visible.unwrap_or(f64::NAN)).map(|seen| seen / round_trip), 1),
            number(median_wall(of_tool).map(|wall| wall / round_trip), 1)
        ),
        (_, Some(round_trip), _) => number(median_wall(of_tool).map(|wall| wall / round_trip), 0),
        _ => String::new(),
    };
    vec![
        tool.name(),
        format!("{verified}/{}", of_tool.len()),
        wall,
        ratio(runs, tool, Tool::Floor).map_or(String::new(), |ratio| format!("{ratio:.2}")),
        requests(&last.traffic.source),
        requests(&last.traffic.destination),
        last.traffic.verification.total().to_string(),
        last.traffic.mounts.to_string(),
        share(|run| run.traffic.moved),
        share(|run| run.traffic.uploaded),
        number(usage(|usage| usage.cpu), 2),
        format!("{}+{}", number(median_of(|run| run.source_cpu), 2), number(median_of(|run| run.destination_cpu), 2)),
        number(usage(|usage| usage.memory as f64 / f64::from(1 << 20)), 0),
        rounds,
    ]
}

/// All of them, and which.
fn requests(requests: &Requests) -> String {
    let Requests { get, head, post, put, patch, delete, errors } = requests;
    let named = [
        ("GET", get),
        ("HEAD", head),
        ("POST", post),
        ("PUT", put),
        ("PATCH", patch),
        ("DELETE", delete),
        ("errors", errors),
    ];
    let named: Vec<_> = named.iter().filter(|(_, n)| **n > 0).map(|(method, n)| format!("{n} {method}")).collect();
    if named.len() < 2 { named.join("") } else { format!("{}: {}", requests.total(), named.join(" ")) }
}

/// How many times longer than another tool, in the median of the repetitions.
fn ratio(runs: &BTreeMap<Tool, Vec<&Run>>, tool: Tool, other: Tool) -> Option<f64> {
    let wall = |tool: Tool, repetition: usize| {
        let run = runs.get(&tool)?.iter().find(|run| run.repetition == repetition)?;
        Some(run.usage.as_ref()?.wall)
    };
    let of_tool = runs.get(&tool)?;
    median(of_tool.iter().filter_map(|run| Some(wall(tool, run.repetition)? / wall(other, run.repetition)?)))
}

fn median_wall(runs: &[&Run]) -> Option<f64> {
    median(runs.iter().filter_map(|run| Some(run.usage.as_ref()?.wall)))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (middle, count) = (values.len() / 2, values.len());
    if count % 2 == 1 {
        values.get(middle).copied()
    } else {
        Some((values.get(middle)? + values.get(middle.wrapping_sub(1))?) / 2.0)
    }
}

fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{value:.3}") } else { format!("{value:.2}") }
}

const HEADER: [&str; 14] = [
    "tool",
    "verified",
    "seconds (least–most)",
    "× floor",
    "source",
    "destination",
    "checks",
    "mounts",
    "read",
    "written",
    "CPU s",
    "registries' CPU s",
    "MiB",
    "round trips",
];

const PHASES: [&str; 5] = ["cold", "warm", "changed", "killed", "watched"];

/// The names under which the versions of registries are kept.
pub const REGISTRIES: [&str; 2] = ["registry 3", "registry 2.8"];

const INTRODUCTION: &str = "\
`make bench` copies generated images between real registries on one machine, with `transship sync` and with other tools, and writes this
page. On one machine the registries take most of the processor, so the time says how much they are asked; what is far away is modelled by
a line with a delay and a bandwidth for each connection. Tools run in another order in each repetition, each with new processes, an empty
destination and an empty home. A result counts only once every tag, manifest and blob at the destination was seen to be right.
";

const LEGEND: &str = "\
Seconds are the median of the repetitions, from before the start of the process to its end. *× floor*: how many times longer than the floor
client, the median of the ratios inside each repetition. *source*, *destination*: requests in the access logs. *checks*: looks at what the
same run had written, which is how transship knows that a copy is complete. *mounts* are among the POSTs. *read*, *written*: bytes of blobs
that the source sent and that destinations took, divided by those of all blobs, each counted once. *CPU s*: of the tool; *registries' CPU s*:
source + destination. *MiB*: the most memory of one process. A tool with nothing but failures shows \"failed\".
";
