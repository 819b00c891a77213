//! `make bench`: copies the same images with `transship sync` and with other tools between real registries, and prints
//! the resources of each.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program for developers, on the ground of the tests")]

mod floor;
mod measure;
mod operator;
mod page;
mod paired;
mod prose;
mod report;
mod run;
mod running;
mod scale;
mod scenarios;
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod tables;
mod targets;
mod tools;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use operator::Cluster;
use report::{BenchMachine, BenchReport, QUIET, REGISTRIES};
use running::{BenchSettings, program_knows};
use scale::SIZES;
use scenarios::{Course, Scenario, scenarios};
use support::tools::{debian_tool, go_tool};
use tools::Tool;

#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: RunFlags,
}

/// The parts of this program that run in processes of their own.
#[derive(Subcommand)]
enum Part {
    /// Copies with as few requests as it takes.
    Floor(floor::FloorFlags),
    /// Runs a program and writes what it took.
    Measure {
        report: PathBuf,
        program: String,
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct RunFlags {
    /// The names of the scenarios, with commas or spaces between; all without it.
    #[arg(long, env = "BENCH_FIXTURES", default_value = "")]
    fixtures: String,
    /// The names of the tools likewise.
    #[arg(long, env = "BENCH_TOOLS", default_value = "")]
    tools: String,
    #[arg(long, env = "BENCH_REPETITIONS", default_value_t = 5)]
    repetitions: usize,
    /// Gives the order of the tools.
    #[arg(long, env = "BENCH_SEED", default_value_t = 1)]
    seed: u64,
    /// Divides the sizes of blobs, for development.
    #[arg(long, env = "BENCH_SCALE", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    scale: u32,
    /// Seconds after which a run has failed.
    #[arg(long, env = "BENCH_DEADLINE", default_value_t = 90)]
    deadline: u64,
    /// Goes on although the machine is busy.
    #[arg(long, env = "BENCH_FORCE", default_value = "", num_args = 0..=1, default_missing_value = "1")]
    force: String,
    /// The file for the result.
    #[arg(long, env = "BENCH_RESULTS", default_value = "target/bench/results.json")]
    results: PathBuf,
    /// Writes docs/performance.md and docs/performance-tables.md, too.
    #[arg(long)]
    write_docs: bool,
    /// Measures nothing and takes the results that are there.
    #[arg(long)]
    from_results: bool,
    /// `cargo bench` says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let ended = match flags.part {
        Some(Part::Measure { report, program, arguments }) => {
            measure::measure(&report, &program, &arguments).map_err(|error| format!("{program}: {error}"))
        }
        Some(Part::Floor(floor)) => block_on(floor::run(floor)).map_err(|error| format!("floor: {error}")),
        None => block_on(bench(&flags.run)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn bench(flags: &RunFlags) -> Result<(), String> {
    let report = if flags.from_results {
        let text = std::fs::read(&flags.results).map_err(|error| format!("{}: {error}", flags.results.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", flags.results.display()))?
    } else {
        let load = quiet(!flags.force.is_empty())?;
        let report = Box::pin(measure_all(flags, load)).await?;
        if let Some(folder) = flags.results.parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let text = serde_json::to_vec_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(&flags.results, text).map_err(|error| format!("{}: {error}", flags.results.display()))?;
        report
    };
    if flags.from_results {
        println!("{}", report.tables());
    }
    if flags.write_docs {
        let docs = support::run_folder::repository().join("docs");
        let pages = [("performance.md", page::performance(&report)), ("performance-tables.md", page::tables(&report))];
        for (name, text) in pages {
            let file = docs.join(name);
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

async fn measure_all(flags: &RunFlags, load: f64) -> Result<BenchReport, String> {
    let sizes = SIZES.iter().map(|size| size.name);
    let known: Vec<_> = scenarios().iter().map(|scenario| scenario.name).chain(sizes).map(str::to_owned).collect();
    let wanted = chosen(&flags.fixtures, &known)?;
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let names: Vec<_> = Tool::all().iter().map(|tool| tool.name()).collect();
    let tools = chosen(&flags.tools, &names)?;
    let operates = |scenario: &Scenario| scenario.operator && is_wanted(scenario.name);
    let has_operator = scenarios().iter().any(operates) || SIZES.iter().any(|size| is_wanted(size.name));
    let has_operator = has_operator && tools.contains(&Tool::Operator.name());
    let settings = BenchSettings {
        tools: Tool::all().iter().copied().filter(|tool| tools.contains(&tool.name())).collect(),
        repetitions: flags.repetitions,
        seed: flags.seed,
        scale: flags.scale as usize,
        deadline: Duration::from_secs(flags.deadline),
        cluster: if has_operator { Some(Cluster::start().await) } else { None },
    };
    let mut versions: std::collections::BTreeMap<_, _> =
        settings.tools.iter().map(|tool| (tool.name(), tool.version())).collect();
    for (name, program) in REGISTRIES.into_iter().zip([go_tool("registry"), debian_tool("docker-registry")]) {
        versions.insert(name.to_owned(), version_of_registry(&program));
    }
    let mut report = BenchReport {
        machine: BenchMachine::this(load),
        versions,
        repetitions: flags.repetitions,
        seed: flags.seed,
        scale: settings.scale,
        left_out: Vec::new(),
        runs: Vec::new(),
        round_trips: Vec::new(),
        scales: Vec::new(),
    };
    for scenario in scenarios().iter().filter(|scenario| is_wanted(scenario.name)) {
        if scenario.prefix.is_some() && !program_knows("tagFilters") {
            let reason = format!("{}, {}: transship has no filters for tags", scenario.name, scenario.title);
            println!("\nleft out: {reason}");
            report.left_out.push(reason);
            continue;
        }
        let began = Instant::now();
        let runs = running::run(scenario, &settings, |run| {
            let took = run.usage.as_ref().map_or("failed".to_owned(), |usage| format!("{:.2} s", usage.wall));
            eprintln!("{} {} {} {}: {took}", run.scenario, run.repetition, run.tool, run.phase);
        })
        .await;
        report.runs.extend(runs);
        if scenario.course == Course::Watched {
            let round_trip = scenario.link.expect("what is watched is far away").round_trip;
            report.round_trips = support::round_trips::measure(round_trip, IMAGES).await;
        }
        println!("{}", report.scenario(scenario));
        eprintln!("{} took {:.0} s in all", scenario.name, began.elapsed().as_secs_f64());
    }
    for size in SIZES.iter().filter(|size| is_wanted(size.name)) {
        if let Some(cluster) = &settings.cluster {
            report.scales.extend(scale::measure(*size, settings.scale, cluster).await?);
        }
    }
    if !report.scales.is_empty() {
        println!("\n{}", scale::table(&report.scales));
    }
    Ok(report)
}

/// Returns the names that were asked for, all if there are none.
fn chosen(asked: &str, known: &[String]) -> Result<Vec<String>, String> {
    let names: Vec<_> = asked.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(unknown) => Err(format!("{unknown} is none of {}", known.join(", "))),
        None if names.is_empty() => Ok(known.to_vec()),
        None => Ok(names),
    }
}

/// Waits until the machine is quiet, as it is not right after a build; the load of the last minute.
fn quiet(force: bool) -> Result<f64, String> {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string("/proc/loadavg").map_err(|error| format!("/proc/loadavg: {error}"))?;
        let load: f64 = text.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
        if load <= QUIET {
            return Ok(load);
        }
        if force {
            eprintln!("the load is {load}: what is measured now is no measure");
            return Ok(load);
        }
        if began.elapsed() > MAX_WAIT {
            return Err(format!(
                "the load is {load}, and no measure above {QUIET}: set BENCH_FORCE=1 to go on all the same"
            ));
        }
        eprintln!("the load is {load}: waiting until it is {QUIET}");
        std::thread::sleep(Duration::from_secs(10));
    }
}

fn version_of_registry(program: &std::path::Path) -> String {
    let output = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).split_once(' ').map_or(String::new(), |(_, version)| version.trim().to_owned())
}

/// Small images that one process copies one after the other.
const IMAGES: u64 = 4;
const MAX_WAIT: Duration = Duration::from_secs(300);
