//! Runs a scenario: registries, one tool after the other, and what each took. A result counts once it is verified.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use transship::terms::Side;

use crate::measure::{Measured, Usage, processor_time};
use crate::operator::Cluster;
use crate::paired::median_wall;
use crate::run::{Least, Run, by_tool, statuses};
use crate::scenarios::{Course, Scenario};
use crate::support::fixtures::{ExpectedContents, Fixture, FixtureRepository, changed_platform_image};
use crate::support::image::Image;
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::{AccessLine, TestRegistry};
use crate::support::registry_config::Software;
use crate::support::requests::Traffic;
use crate::support::run_folder::new_folder;
use crate::tools::{CopyTask, Tool};

/// The settings of all runs.
pub struct BenchSettings {
    pub tools: Vec<Tool>,
    pub repetitions: usize,
    pub seed: u64,
    /// The divisor of all sizes.
    pub scale: usize,
    /// The longest that one run may take.
    pub deadline: Duration,
    /// The cluster of the operator, if it takes part.
    pub cluster: Option<Cluster>,
}

/// A source with a scenario's images.
struct Prepared<'a> {
    scenario: &'a Scenario,
    source: TestRegistry,
    contents: ExpectedContents,
    /// The tag that changes: its name, what it is at first, and what then.
    change: Option<(String, Image, Image)>,
    deadline: Duration,
}

/// One tool with its destinations.
struct ToolBench<'a> {
    prepared: &'a Prepared<'a>,
    tool: Tool,
    repetition: usize,
    destinations: Vec<TestRegistry>,
    /// In front of the source and then of each destination; none where they are near.
    proxies: Vec<FaultProxy>,
    home: PathBuf,
}

/// The positions of logs and clocks before a run.
struct Mark {
    source: usize,
    destinations: Vec<usize>,
    source_cpu: f64,
    destination_cpu: f64,
}

/// Runs a scenario with every tool that takes part, in another order each time.
pub async fn run(scenario: &Scenario, settings: &BenchSettings, mut report: impl FnMut(&Run)) -> Vec<Run> {
    let fixture = (scenario.fixture)(settings.scale);
    let mut prepared = Prepared::new(scenario, fixture, settings.deadline).await;
    let repositories = prepared.contents.repositories.len();
    let mut tools: Vec<Tool> =
        settings.tools.iter().copied().filter(|tool| scenario.has(*tool, repositories)).collect();
    let mut chance = StdRng::seed_from_u64(settings.seed);
    let mut runs = Vec::new();
    for repetition in 0..scenario.repetitions(settings.repetitions) {
        if repetition == scenario.all {
            tools = going_on(&runs, scenario, &tools);
        }
        tools.shuffle(&mut chance);
        for tool in &tools {
            prepared.source.restart().await;
            let bench = ToolBench::start(&prepared, *tool, repetition).await;
            let played = match settings.cluster.as_ref().filter(|_| *tool == Tool::Operator) {
                Some(cluster) => vec![bench.replicated(cluster).await],
                None => bench.play().await,
            };
            for run in played {
                report(&run);
                runs.push(run);
            }
        }
    }
    runs
}

/// Returns the tools that go on after all have had their repetitions: ours, the floors, and the fastest two of the
/// others.
fn going_on(runs: &[Run], scenario: &Scenario, tools: &[Tool]) -> Vec<Tool> {
    let phase = runs.first().map_or("cold", |run| run.phase.as_str());
    let walls = by_tool(runs, scenario.name, phase);
    let is_peer = |tool: &Tool| tool.is_peer();
    let mut peers: Vec<_> =
        walls.iter().filter(|(tool, _)| is_peer(tool)).filter_map(|(t, runs)| Some((median_wall(runs)?, *t))).collect();
    peers.sort_by(|a, b| a.0.total_cmp(&b.0));
    peers.truncate(2);
    tools.iter().copied().filter(|tool| !is_peer(tool) || peers.iter().any(|(_, peer)| peer == tool)).collect()
}

impl<'a> Prepared<'a> {
    async fn new(scenario: &'a Scenario, fixture: Fixture, deadline: Duration) -> Self {
        let source = registry(scenario.software, "source").await;
        fixture.push(&source.pusher()).await;
        let mut contents = fixture.contents();
        if let Some(prefix) = scenario.prefix {
            contents = wanted(&fixture, prefix).contents();
            for (repository, wanted) in fixture.repositories.iter().zip(contents.repositories.values_mut()) {
                wanted.other_tags = repository.tags.len() - wanted.tags.len();
            }
        }
        let change = (scenario.course == Course::Changed).then(|| {
            let (tag, image) = &fixture.repositories[0].tags[CHANGED];
            let size = image.children[0].blobs[1].bytes.len();
            (tag.clone(), image.clone(), changed_platform_image(&fixture, CHANGED, size))
        });
        if let Some((_, _, changed)) = &change {
            source.pusher().push_untagged(REPOSITORY, changed).await;
        }
        Self { scenario, source, contents, change, deadline }
    }
}

fn wanted(fixture: &Fixture, prefix: &str) -> Fixture {
    let only = |repository: &FixtureRepository| FixtureRepository {
        name: repository.name.clone(),
        tags: repository.tags.iter().filter(|(tag, _)| tag.starts_with(prefix)).cloned().collect(),
        referrers: Vec::new(),
    };
    Fixture { repositories: fixture.repositories.iter().map(only).collect() }
}

async fn registry(software: Software, name: &str) -> TestRegistry {
    let name = format!("bench-{name}");
    match software {
        Software::Distribution3 => TestRegistry::distribution(&name).start().await,
        Software::Docker28 => TestRegistry::docker_2_8(&name).start().await,
    }
}

impl<'a> ToolBench<'a> {
    async fn start(prepared: &'a Prepared<'a>, tool: Tool, repetition: usize) -> Self {
        let scenario = prepared.scenario;
        let mut destinations = Vec::new();
        for number in 0..scenario.destinations {
            destinations.push(registry(scenario.software, &format!("destination-{number}")).await);
        }
        let mut proxies = Vec::new();
        if let Some(link) = scenario.link {
            for registry in std::iter::once(&prepared.source).chain(&destinations) {
                let proxy = FaultProxy::start(registry.address());
                proxy.set(LineFault::Far(link));
                proxies.push(proxy);
            }
        }
        Self { prepared, tool, repetition, destinations, proxies, home: new_folder("home") }
    }

    async fn play(&self) -> Vec<Run> {
        let contents = &self.prepared.contents;
        match self.prepared.scenario.course {
            Course::Killed => return vec![self.killed().await],
            Course::Watched => return vec![self.watched().await],
            Course::Cold | Course::Warm | Course::Changed => {}
        }
        let mut runs = vec![self.once("cold", contents, self.least()).await];
        let ended_well = |runs: &[Run]| runs.iter().all(|run| run.failure.is_none());
        if self.prepared.scenario.course != Course::Cold && ended_well(&runs) {
            runs.push(self.once("warm", contents, Least::warm(contents)).await);
        }
        if let Some((tag, image, changed)) = self.prepared.change.as_ref().filter(|_| ended_well(&runs)) {
            let pusher = self.prepared.source.pusher();
            let after = Fixture {
                repositories: vec![FixtureRepository {
                    name: REPOSITORY.to_owned(),
                    tags: vec![(tag.clone(), changed.clone())],
                    referrers: Vec::new(),
                }],
            };
            let mut all = contents.clone();
            let repository = all.repositories.get_mut(REPOSITORY).expect("the repository that changes");
            repository.take(&after.contents().repositories[REPOSITORY]);
            pusher.push_manifest(REPOSITORY, tag, changed).await;
            runs.push(self.once("changed", &all, Least::changed(contents, &all, &after.contents())).await);
            pusher.push_manifest(REPOSITORY, tag, image).await;
        }
        runs
    }

    async fn once(&self, phase: &str, contents: &ExpectedContents, least: Least) -> Run {
        let mark = self.mark().await;
        let ended = self.begin(phase != "cold").finish(self.prepared.deadline).await;
        Run { least, ..self.result(phase, &mark, ended, contents).await }
    }

    /// Copies by an operator that runs and has nothing else to do.
    async fn replicated(&self, cluster: &Cluster) -> Run {
        let contents = &self.prepared.contents;
        let task = self.task(false);
        let hosts: Vec<_> = std::iter::once(&task.source).chain(&task.destinations).cloned().collect();
        let operator = match cluster.operator(&hosts).await {
            Ok(operator) => operator,
            Err(reason) => return self.result("cold", &self.mark().await, Err(reason), contents).await,
        };
        let (mark, began) = (self.mark().await, Timestamp::now());
        let objects = task.objects(&operator.namespace.name);
        let images = contents.tags() * self.destinations.len();
        let work = operator.replicate(&objects, images, self.prepared.deadline).await;
        let copied = self.last_answer().await.map(|at| at.duration_since(began).as_secs_f64());
        let api = work.as_ref().ok().map(|work| work.api);
        let run = self.result("cold", &mark, work.map(|work| work.usage), contents).await;
        operator.end().await;
        Run { copied, api, ..run }
    }

    /// When a destination last answered a request.
    async fn last_answer(&self) -> Option<Timestamp> {
        let mut answers = Vec::new();
        for registry in &self.destinations {
            settled_log(registry).await;
            answers.extend(["GET", "HEAD", "POST", "PUT"].iter().flat_map(|method| registry.answers(method)));
        }
        answers.into_iter().map(|(_, at)| at).max()
    }

    /// Returns the least that a copy of everything takes.
    fn least(&self) -> Least {
        Least::cold(&self.prepared.contents, self.destinations.len())
    }

    /// Kills the tool once half of the blobs are there, and lets it begin again.
    async fn killed(&self) -> Run {
        let contents = &self.prepared.contents;
        let mark = self.mark().await;
        let half = contents.unique_blobs().len() / 2;
        let mut first = self.begin(false);
        let uploaded = || {
            let is_upload = |access: &&AccessLine| access.status == 201 && access.path.contains("/blobs/uploads/");
            self.destinations[0].access_log().iter().filter(is_upload).count()
        };
        while first.is_running() && first.elapsed() < self.prepared.deadline && uploaded() < half {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let was_running = first.is_running();
        drop(first);
        if !was_running {
            let ended = Err("it had ended before it could be killed".to_owned());
            return self.result("killed", &mark, ended, contents).await;
        }
        // What was on its way is noticed to be broken off.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (source, destinations) = self.logs(&mark).await;
        let until_then = Traffic::of(&source, &destinations, contents);
        let in_flight = until_then.moved.saturating_sub(until_then.uploaded);
        let ended = self.begin(true).finish(self.prepared.deadline).await;
        Run { in_flight: Some(in_flight), ..self.result("killed", &mark, ended, contents).await }
    }

    async fn watched(&self) -> Run {
        let contents = &self.prepared.contents;
        let mark = self.mark().await;
        let (name, repository) = contents.repositories.iter().next().expect("a repository");
        let tag = repository.tags.keys().next().expect("a tag");
        let mut measured = self.begin(false);
        let pusher = self.destinations[0].pusher();
        let mut visible = None;
        while visible.is_none() && measured.is_running() && measured.elapsed() < self.prepared.deadline {
            let seen = measured.elapsed();
            visible = pusher.digest_of(name, tag).await.map(|_| seen.as_secs_f64());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ended = measured.finish(self.prepared.deadline).await;
        let run = self.result("watched", &mark, ended, contents).await;
        Run { visible, ..run }
    }

    fn begin(&self, again: bool) -> Measured {
        Measured::start(&self.tool.name(), self.tool.command(&self.task(again)))
    }

    fn task(&self, again: bool) -> CopyTask<'_> {
        let host = |number: usize, registry: &TestRegistry| match self.proxies.get(number) {
            Some(proxy) => proxy.host(),
            None => registry.host(),
        };
        let destinations = self.destinations.iter().enumerate().map(|(number, registry)| host(number + 1, registry));
        let repositories = &self.prepared.contents.repositories;
        CopyTask {
            source: host(0, &self.prepared.source),
            destinations: destinations.collect(),
            repositories: repositories.keys().map(String::as_str).collect(),
            prefix: self.prepared.scenario.prefix,
            referrers: repositories.values().any(|repository| !repository.referrers.is_empty()),
            home: &self.home,
            again,
        }
    }

    async fn mark(&self) -> Mark {
        let mut destinations = Vec::new();
        for registry in &self.destinations {
            destinations.push(settled_log(registry).await.len());
        }
        let source = settled_log(&self.prepared.source).await.len();
        let (source_cpu, destination_cpu) = self.processor_times();
        Mark { source, destinations, source_cpu, destination_cpu }
    }

    fn processor_times(&self) -> (f64, f64) {
        let time = |registry: &TestRegistry| registry.process_id().map_or(0.0, processor_time);
        (time(&self.prepared.source), self.destinations.iter().map(time).sum())
    }

    /// Returns the tool's requests to the source and to each destination since then.
    async fn logs(&self, mark: &Mark) -> (Vec<AccessLine>, Vec<Vec<AccessLine>>) {
        let source = by_the_tool(settled_log(&self.prepared.source).await, mark.source);
        let mut destinations = Vec::new();
        for (registry, position) in self.destinations.iter().zip(&mark.destinations) {
            destinations.push(by_the_tool(settled_log(registry).await, *position));
        }
        (source, destinations)
    }

    /// Returns the measurements of a run; a failure if content is missing.
    async fn result(&self, phase: &str, mark: &Mark, ended: Result<Usage, String>, contents: &ExpectedContents) -> Run {
        let (source_cpu, destination_cpu) = self.processor_times();
        let (source, destinations) = self.logs(mark).await;
        let mut failure = ended.as_ref().err().cloned();
        for registry in &self.destinations {
            if failure.is_none() {
                failure = contents.verify(&registry.pusher()).await.err();
            }
        }
        Run {
            scenario: self.prepared.scenario.name.to_owned(),
            phase: phase.to_owned(),
            tool: self.tool.name(),
            repetition: self.repetition,
            usage: ended.ok().filter(|_| failure.is_none()),
            failure,
            traffic: Traffic::of(&source, &destinations, contents),
            least: self.least(),
            statuses: [(Side::Source, statuses(&source)), (Side::Destination, statuses(destinations.iter().flatten()))]
                .into(),
            source_cpu: source_cpu - mark.source_cpu,
            destination_cpu: destination_cpu - mark.destination_cpu,
            unique_bytes: contents.unique_bytes(),
            in_flight: None,
            visible: None,
            round_trip: self.prepared.scenario.link.map(|link| link.round_trip.as_secs_f64()),
            copied: None,
            api: None,
        }
    }
}

impl Drop for ToolBench<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Keeps the requests of the tool: not those of the check.
fn by_the_tool(log: Vec<AccessLine>, from: usize) -> Vec<AccessLine> {
    let is_ours = |access: &AccessLine| access.user_agent.starts_with("transship-test-pusher");
    log.into_iter().skip(from).filter(|access| !is_ours(access)).collect()
}

/// Returns the log once nothing is added to it any more: a line is written just after its answer.
async fn settled_log(registry: &TestRegistry) -> Vec<AccessLine> {
    let began = Instant::now();
    let mut log = registry.access_log();
    loop {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let later = registry.access_log();
        if later.len() == log.len() || began.elapsed() > Duration::from_secs(10) {
            return later;
        }
        log = later;
    }
}

/// Returns true if the program under measurement knows a field of a rule.
pub fn program_knows(field: &str) -> bool {
    let folder = new_folder("crds");
    let written =
        std::process::Command::new(env!("CARGO_BIN_EXE_transship")).args(["crds", "--output"]).arg(&folder).output();
    written.is_ok_and(|output| output.status.success()) && files_name(&folder, field)
}

fn files_name(folder: &Path, field: &str) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).any(|text| text.contains(field))
}

const REPOSITORY: &str = "app";
/// The tag that changes.
const CHANGED: usize = 7;
