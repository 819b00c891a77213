//! One phase of a scenario as a table, in Markdown that can be read on a terminal, too.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::paired::{Ratios, median, median_wall};
use crate::prose::wrapped;
use crate::run::Run;
use crate::support::requests::Requests;
use crate::tools::Tool;

/// Describes a phase.
pub fn heading(phase: &str) -> &'static str {
    match phase {
        "cold" => "Nothing is there:",
        "warm" => "Everything is there:",
        "changed" => "One tag was changed, by one new layer (E):",
        "killed" => "Killed at half, and run again: time is that of the second run, requests and bytes are of both:",
        _ => "Until the tag is there, and until the tool is done:",
    }
}

/// Returns a table with a line for each tool.
pub fn table(runs: &BTreeMap<Tool, Vec<&Run>>) -> String {
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
            text += "\n";
            text += &wrapped("", "", &format!("{} failed: {failure}", tool.name()));
        }
    }
    text
}

fn row(tool: Tool, of_tool: &[&Run], runs: &BTreeMap<Tool, Vec<&Run>>) -> Vec<String> {
    let verified = of_tool.iter().filter(|run| run.failure.is_none()).count();
    let median_of =
        |value: fn(&Run) -> f64| median(of_tool.iter().filter(|run| run.failure.is_none()).map(|run| value(run)));
    let walls = of_tool.iter().filter_map(|run| run.wall());
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
        Ratios::of(runs, tool, Tool::Floor).map_or(String::new(), |ratios| format!("{:.2}", ratios.median())),
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

/// Formats the number of requests, and that of each method.
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

/// Seconds with three digits.
pub fn seconds(value: f64) -> String {
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
