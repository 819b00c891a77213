//! The pages that `make bench` writes: `docs/performance.md`, which opens with a picture, and
//! `docs/performance-tables.md`.

use std::fmt::Write;

use crate::paired::{Ratios, best_peer, median, median_wall};
use crate::prose::wrapped;
use crate::report::{BenchMachine, BenchReport, QUIET, REGISTRIES};
use crate::run::Run;
use crate::scale;
use crate::tables::seconds;
use crate::targets;
use crate::tools::Tool;

/// One line of the summary: transship and the fastest of the other tools.
struct PeerComparison {
    scenario: &'static str,
    title: &'static str,
    phase: &'static str,
    ours: f64,
    other: Tool,
    theirs: f64,
    ratios: Ratios,
}

/// Returns the page for readers: summary, picture, participants, targets.
pub fn performance(report: &BenchReport) -> String {
    let comparisons = comparisons(report);
    let mut page = format!("# Performance\n\n{SUMMARY}\n{}\n", summary(&comparisons));
    let _ = write!(page, "{PICTURE}\n```\n{}```\n\n{}\n", picture(&comparisons), measured(report));
    let _ = write!(page, "## How it is measured\n\n{INTRODUCTION}\n## Who takes part\n\n{}", participants(report));
    page += &operator(report);
    let _ = write!(page, "\n## Targets\n\n{TARGETS}\n{}", targets::page(report));
    if !report.left_out.is_empty() {
        page += "\n## Left out\n\n";
        for left_out in &report.left_out {
            page += &wrapped("- ", "  ", left_out);
        }
    }
    page
}

/// Returns the page with every number: each tool beside transship, and the tables of all scenarios.
pub fn tables(report: &BenchReport) -> String {
    let mut page = format!("# Performance: tables\n\n{TABLES}\n{}\n", measured(report));
    let _ = write!(page, "## Transship beside each tool\n\n{PAIRS}\n{}", pairs(report));
    let _ = write!(page, "\n## Scenarios\n\n{LEGEND}{}", report.tables());
    page
}

/// Returns every phase in which another tool did the same.
fn comparisons(report: &BenchReport) -> Vec<PeerComparison> {
    let all = report.phases().filter_map(|(scenario, phase, runs)| {
        let (other, ratios) = best_peer(&runs)?;
        Some(PeerComparison {
            scenario: scenario.name,
            title: scenario.title,
            phase,
            ours: median_wall(&runs[&Tool::Transship])?,
            other,
            theirs: median_wall(&runs[&other])?,
            ratios,
        })
    });
    all.collect()
}

fn summary(comparisons: &[PeerComparison]) -> String {
    let mut text = "| | Images | Phase | transship | Fastest other | Ratio |\n|---|---|---|---|---|---|\n".to_owned();
    let mut earlier = "";
    for PeerComparison { scenario, title, phase, ours, other, theirs, ratios } in comparisons {
        let title = if *scenario == earlier { "" } else { title };
        earlier = scenario;
        let _ = writeln!(
            text,
            "| {scenario} | {title} | {phase} | {} s | {} s ({}) | **{:.2}** |",
            seconds(*ours),
            seconds(*theirs),
            other.name(),
            ratios.median()
        );
    }
    text
}

/// A bar for each ratio. The axis ends at 1.25; the mark is where both take equally long.
fn picture(comparisons: &[PeerComparison]) -> String {
    let mut text = format!("{:18}0{:>width$}\n", "", "1", width = BAR_OF_ONE);
    for PeerComparison { scenario, phase, other, ratios, .. } in comparisons {
        let eighths = (ratios.median() * (BAR_OF_ONE * 8) as f64).round() as usize;
        let eighths = eighths.min(BAR * 8);
        let mut bar = "█".repeat(eighths / 8);
        bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
        let length = bar.chars().count();
        if length <= BAR_OF_ONE {
            let _ = write!(bar, "{:width$}│", "", width = BAR_OF_ONE - length);
        }
        let _ =
            writeln!(text, "{:18}{bar:BAR$} {:.2} × {}", format!("{scenario} {phase}"), ratios.median(), other.name());
    }
    text
}

/// The machine, the time and the number of repetitions.
fn measured(report: &BenchReport) -> String {
    let BenchMachine { date, processor, cores, memory_gib, kernel, load, release } = &report.machine;
    let busy = if *load > QUIET { " (`BENCH_FORCE=1`: the machine was busy)" } else { "" };
    let build = if *release { "release build" } else { "**debug build: no measure of anything**" };
    let small = if report.scale == 1 { String::new() } else { format!(" Sizes were divided by {}.", report.scale) };
    let (repetitions, seed) = (report.repetitions, report.seed);
    wrapped(
        "",
        "",
        &format!(
            "Measured on {date}: {processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, load {load:.2} before{busy}; {build}; \
             {repetitions} repetitions (of a slow tool fewer), seed {seed}.{small}"
        ),
    )
}

fn participants(report: &BenchReport) -> String {
    let mut text = "| | Version | How |\n|---|---|---|\n".to_owned();
    for tool in Tool::all() {
        let name = tool.name();
        if let Some(version) = report.versions.get(&name) {
            let _ = writeln!(text, "| {name} | {version} | {} |", tool.flags());
        }
    }
    for registry in REGISTRIES {
        let version = report.versions.get(registry).map_or("", String::as_str);
        let _ = writeln!(text, "| {registry} | {version} | on tmpfs, its access log on |");
    }
    text
}

/// Ours against each of the others, a line for each phase that was run.
fn pairs(report: &BenchReport) -> String {
    let is_other = |tool: &Tool| tool.is_floor() || tool.is_peer();
    let others: Vec<Tool> = Tool::all().iter().copied().filter(is_other).collect();
    let names: Vec<_> = others.iter().map(|tool| tool.name()).chain([OPERATOR.to_owned()]).collect();
    let mut text = format!("| | seconds | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (scenario, phase, runs) in report.phases() {
        let Some(ours) = runs.get(&Tool::Transship).and_then(|runs| median_wall(runs)) else { continue };
        let best = best_peer(&runs).map(|(best, _)| best);
        let cells = others.iter().map(|tool| match Ratios::of(&runs, Tool::Transship, *tool) {
            Some(ratios) if best == Some(*tool) => format!("**{}**", ratios.shown()),
            Some(ratios) => ratios.shown(),
            None if runs.contains_key(tool) => "failed".to_owned(),
            None => String::new(),
        });
        let operator = Ratios::of(&runs, Tool::Operator, Tool::Transship).map_or(String::new(), |r| r.shown());
        let cells: Vec<_> = cells.chain([operator]).collect();
        let _ = writeln!(text, "| {} {phase} | {} | {} |", scenario.name, seconds(ours), cells.join(" | "));
    }
    text
}

/// Returns the operator's share of the time in which images are copied, and its load on the API server.
fn operator(report: &BenchReport) -> String {
    let mut text = String::new();
    for (scenario, phase, runs) in report.phases() {
        let Some(ours) = runs.get(&Tool::Operator).filter(|_| phase == "cold") else { continue };
        let of = |value: fn(&Run) -> Option<f64>| median(ours.iter().filter_map(|run| value(run)));
        let cells = [
            median_wall(ours).map(seconds),
            of(|run| run.copied).map(seconds),
            of(|run| Some(run.api?.writes as f64)).map(|writes| format!("{writes:.0}")),
            of(|run| Some(run.api?.cpu)).map(|cpu| format!("{cpu:.2}")),
        ];
        let cells: Vec<_> = cells.into_iter().map(Option::unwrap_or_default).collect();
        let _ = writeln!(text, "| {} | {} |", scenario.name, cells.join(" | "));
    }
    if !text.is_empty() {
        text.insert_str(0, OPERATOR_TABLE);
    }
    if !report.scales.is_empty() {
        text += SCALE;
        text += &scale::table(&report.scales);
    }
    text
}

/// Columns of a bar, and of the ratio 1.
const BAR: usize = 50;
const BAR_OF_ONE: usize = 40;

const SUMMARY: &str = "\
After this page you know how fast Transship copies beside other tools, and how that is measured.
Every number is in [the tables](performance-tables.md); what an operator of many images takes is in
[the operator at size](size.md).

`transship sync` and the fastest of the other tools, for each set of images. *Cold*: nothing is at
the destination. *Warm*: everything is. *Changed*: one tag was changed. *Killed*: the tool was
killed at half and ran again. *Watched*: until the tag is there. The ratio is that of the times
inside each repetition, the median: below 1 transship is faster. Transship also reads everything
back.
";

const PICTURE: &str = "\
The ratios as a picture: a bar that ends before the mark is faster than the fastest other tool.
";

const INTRODUCTION: &str = "\
`make bench` copies generated images between real registries on one machine, with `transship sync`
and with other tools, and writes this page. On one machine the registries take most of the
processor, so the time shows how much they are asked; a far registry is modelled by a line with a
delay and a bandwidth for each connection. Tools run in another order in each repetition, each with
new processes, an empty destination and an empty home. A result counts only once every tag,
manifest, blob and list of referrers at the destination was verified. After a few repetitions with
all tools only transship, the floors and the two fastest of the others continue.
";

const TABLES: &str = "\
After this page you have every number of the benchmark. [Performance](performance.md) has the
summary and explains how it is measured.
";

const PAIRS: &str = "\
Seconds are those of transship. Below each other tool is the time of transship divided by that of
the tool, in the same repetition: the median, and the least and most of all repetitions. Below 1
transship is faster. The tool that it compares worst with is in bold. The last column is the
reverse: the time of the operator, from the apply of its objects until every image is COMPLETE,
divided by that of `transship sync`.
";

const OPERATOR: &str = "operator ÷ sync";

const OPERATOR_TABLE: &str = "
## The operator

The operator runs before the clock starts; so does the API server, on the same two cores. *copied*:
seconds until the destination had answered the last request; the rest is the last status. *API
writes*, *API server's CPU s*: requests of the operator that change something, and the processor
time of kube-apiserver and etcd meanwhile.

| | seconds | copied | API writes | API server's CPU s |
|---|---|---|---|---|
";

const SCALE: &str = "
100,000 images of one tiny layer, as 1,000 repositories of 100 tags and as 20 of 5,000, between
registries in memory: *distinct* images, or tags that are *aliases* of ten images in each
repository. CPU is that of the operator alone, cold until every image is COMPLETE, warm for a
comparison that finds nothing to do.

";

const TARGETS: &str = "\
The project's own targets. Ratios are medians of the repetitions, each measured inside one
repetition. *Within noise* of another tool is a run where at least a quarter of the repetitions went
as well as with that tool. The least number of requests is counted from the images: at the source a
page of tags and each manifest and blob once, at the destination two for each upload and one for
each mount and manifest.
";

const LEGEND: &str = "\
Seconds are the median of the repetitions, from before the start of the process to its end. *×
floor*: the time divided by that of the floor client, the median of the ratios inside each
repetition. *source*, *destination*: requests in the access logs. *checks*: reads of content that
the same run had written, by which transship verifies that a copy is complete. *mounts* are among
the POSTs. *read*, *written*: bytes of blobs that the source sent and that destinations took,
divided by those of all blobs, each counted once. *CPU s*: of the tool; *registries' CPU s*: source
+ destination. *MiB*: the most memory of one process. A tool with nothing but failures shows
\"failed\".
";
