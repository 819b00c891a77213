//! The page of the documentation that `make bench DOCS=1` writes.

use std::fmt::Write;

use crate::paired::{Ratios, best_peer, median, median_wall};
use crate::report::{BenchMachine, BenchReport, QUIET, REGISTRIES};
use crate::run::Run;
use crate::scale;
use crate::tables::seconds;
use crate::targets;
use crate::tools::Tool;

impl BenchReport {
    /// The page of the documentation.
    pub fn page(&self) -> String {
        let BenchMachine { date, processor, cores, memory_gib, kernel, load, release } = &self.machine;
        let forced = if *load > QUIET { ", which the bench was ordered not to wait for" } else { "" };
        let build = if *release { "release build" } else { "**debug build: no measure of anything**" };
        let small = if self.scale == 1 { String::new() } else { format!(" Sizes were divided by {}.", self.scale) };
        let mut page = format!(
            "# Performance\n\n{INTRODUCTION}\nMeasured on {date}: {processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, load {load:.2} before{forced}; {build}; {} repetitions \
             (of a slow tool fewer), seed {}.{small}\n\n## Who takes part\n\n| | Version | How |\n|---|---|---|\n",
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
        page += PAIRS;
        page += &self.pairs();
        page += "\n## Targets\n\n";
        page += TARGETS;
        page += &targets::page(self);
        page += &self.operator();
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

    /// Ours against each of the others, a line for each phase that was run.
    fn pairs(&self) -> String {
        let is_other = |tool: &Tool| tool.is_floor() || tool.is_peer();
        let others: Vec<Tool> = Tool::all().iter().copied().filter(is_other).collect();
        let names: Vec<_> = others.iter().map(|tool| tool.name()).chain([OPERATOR.to_owned()]).collect();
        let mut text = format!("| | seconds | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for (scenario, phase, runs) in self.phases() {
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

    /// The operator's share: what of its time is copying, and what it takes of the API server.
    fn operator(&self) -> String {
        let mut text = String::new();
        for (scenario, phase, runs) in self.phases() {
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
        if !self.scales.is_empty() {
            text += SCALE;
            text += &scale::table(&self.scales);
        }
        text
    }
}

const INTRODUCTION: &str = "\
`make bench` copies generated images between real registries on one machine, with `transship sync` and with other tools, and writes this
page. On one machine the registries take most of the processor, so the time says how much they are asked; what is far away is modelled by
a line with a delay and a bandwidth for each connection. Tools run in another order in each repetition, each with new processes, an empty
destination and an empty home. A result counts only once every tag, manifest, blob and list of referrers at the destination was seen to be
right. After a few repetitions with everybody only transship, the floors and the two fastest of the others go on.
";

const PAIRS: &str = "\
Seconds are those of transship. Below each other tool is how many times as long transship took, in the same repetition: the median, and the
least and most of all repetitions. Below 1 transship is ahead. The one that it compares worst with is in bold. The last column is the
reverse: how many times as long the operator takes as `transship sync`, from the apply of its objects until every image is COMPLETE.

";

const OPERATOR: &str = "operator ÷ sync";

const OPERATOR_TABLE: &str = "
## The operator

The operator runs before the clock starts; so does the API server, on the same two cores. *copied*: seconds until the destination had
answered the last request; the rest is the last status. *API writes*, *API server's CPU s*: requests of the operator that change something,
and the processor time of kube-apiserver and etcd meanwhile.

| | seconds | copied | API writes | API server's CPU s |
|---|---|---|---|---|
";

const SCALE: &str = "
100,000 images of one tiny layer, as 1,000 repositories of 100 tags and as 20 of 5,000, between registries in memory: *distinct* images,
or tags that are *aliases* of ten images in each repository. CPU is that of the operator alone, cold until every image is COMPLETE, warm
for a comparison that finds nothing to do.

";

const TARGETS: &str = "\
What the project has set itself. Ratios are medians of the repetitions, each measured inside one repetition. *Within noise* of another tool
is a run where at least a quarter of the repetitions went as well as with that tool. The least number of requests is counted from the images:
at the source a page of tags and each manifest and blob once, at the destination two for each upload and one for each mount and manifest.

";

const LEGEND: &str = "\
Seconds are the median of the repetitions, from before the start of the process to its end. *× floor*: how many times longer than the floor
client, the median of the ratios inside each repetition. *source*, *destination*: requests in the access logs. *checks*: looks at what the
same run had written, which is how transship knows that a copy is complete. *mounts* are among the POSTs. *read*, *written*: bytes of blobs
that the source sent and that destinations took, divided by those of all blobs, each counted once. *CPU s*: of the tool; *registries' CPU s*:
source + destination. *MiB*: the most memory of one process. A tool with nothing but failures shows \"failed\".
";
