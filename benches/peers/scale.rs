//! The processor time of the operator for 100,000 images, in many repositories and in few large ones.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::operator::{Cluster, OperatorWork};
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Personality, ScriptedRegistry};
use crate::tools::{CONFIGURATION, objects};

/// A number of repositories with so many tags each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub name: &'static str,
    pub repositories: usize,
    pub tags: usize,
}

/// The images of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// Every tag is an image of its own, with a layer of its own.
    Distinct,
    /// The tags of a repository point at [`ALIASED`] images.
    Aliases,
}

/// The processor time of one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    pub name: String,
    pub of: Images,
    pub images: usize,
    pub cold: ScalePhase,
    /// A comparison in which nothing has changed.
    pub warm: ScalePhase,
    /// Bytes of memory at the peak.
    pub memory: u64,
}

/// One phase.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ScalePhase {
    /// Seconds of processor time of the operator.
    pub cpu: f64,
    pub seconds: f64,
    /// Requests to both registries.
    pub requests: usize,
    /// Writes to the API server.
    pub writes: usize,
}

/// The sizes that can be chosen by name.
pub const SIZES: [Size; 2] = [
    Size { name: "1000x100", repositories: 1_000, tags: 100 },
    Size { name: "20x5000", repositories: 20, tags: 5_000 },
];

/// Measures one size with both kinds of images; `divisor` divides the repositories.
///
/// # Errors
/// A sentence if not all images are complete in time.
pub async fn measure(size: Size, divisor: usize, cluster: &Cluster) -> Result<Vec<Scale>, String> {
    let size = Size { repositories: size.repositories.div_ceil(divisor), ..size };
    let mut measured = Vec::new();
    for of in [Images::Distinct, Images::Aliases] {
        let scale = measure_one(size, of, cluster).await?;
        eprintln!("{} of {of:?}: {scale:?}", size.name);
        measured.push(scale);
    }
    Ok(measured)
}

async fn measure_one(size: Size, of: Images, cluster: &Cluster) -> Result<Scale, String> {
    let [source, destination] = [(); 2].map(|()| ScriptedRegistry::start(Personality::plain()));
    fill(&source, size, of);
    let images = size.repositories * size.tags;
    let operator = cluster.operator(&[source.host(), destination.host()]).await?;
    let asked = || source.log().len() + destination.log().len();
    let filters = json!([{"filter": "app-", "filterType": "PREFIX_MATCH"}]);
    let rule = json!({"name": "all", "repositoryFilters": filters});
    let objects = objects(&operator.namespace.name, &source.host(), &[destination.host()], rule);
    let before = asked();
    let cold = operator.replicate(&objects, images, DEADLINE).await?;
    let cold = phase(&cold, asked() - before);
    check(&source, &destination, size)?;
    // Reports and statuses follow a moment later.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = asked();
    let warm = operator.compare(CONFIGURATION, DEADLINE).await?;
    let memory = warm.usage.memory;
    let warm = phase(&warm, asked() - before);
    operator.end().await;
    Ok(Scale { name: size.name.to_owned(), of, images, cold, warm, memory })
}

fn phase(work: &OperatorWork, requests: usize) -> ScalePhase {
    ScalePhase { cpu: work.usage.cpu, seconds: work.usage.wall, requests, writes: work.api.writes }
}

fn fill(source: &ScriptedRegistry, size: Size, of: Images) {
    for repository in 0..size.repositories {
        let name = format!("app-{repository:04}");
        for tag in 0..size.tags {
            let image = if of == Images::Distinct { tag } else { tag % ALIASED };
            let seed = (repository * size.tags + image) as u64;
            let image = Image::with_layers(seed, "linux/amd64", vec![Blob::layer(seed, 100)]);
            source.push(&name, &format!("v{tag}"), &image);
        }
    }
}

/// Compares the tags of both.
fn check(source: &ScriptedRegistry, destination: &ScriptedRegistry, size: Size) -> Result<(), String> {
    let names = (0..size.repositories).map(|repository| format!("app-{repository:04}"));
    match names.into_iter().find(|name| source.tags(name) != destination.tags(name)) {
        Some(name) => Err(format!("{}: the tags of {name} differ", size.name)),
        None => Ok(()),
    }
}

impl Scale {
    fn milliseconds(&self, phase: &ScalePhase) -> f64 {
        1e3 * phase.cpu / self.images as f64
    }

    pub fn cold_milliseconds(&self) -> f64 {
        self.milliseconds(&self.cold)
    }
}

/// Returns the table of all sizes.
pub fn table(scales: &[Scale]) -> String {
    let mut text = HEADER.to_owned();
    for scale in scales {
        let Scale { name, of, images, cold, warm, memory } = scale;
        let kind = if *of == Images::Distinct { "distinct" } else { "aliases" };
        let _ = writeln!(
            text,
            "| {name} {kind} | {:.2} | {:.3} | {:.0} | {:.1} | {:.1} | {:.2} | {} | {} | {:.0} |",
            scale.milliseconds(cold),
            scale.milliseconds(warm),
            cold.seconds,
            warm.seconds,
            cold.requests as f64 / *images as f64,
            warm.requests as f64 / *images as f64,
            cold.writes,
            warm.writes,
            *memory as f64 / f64::from(1 << 20),
        );
    }
    text
}

/// Images in each repository to which its tags point.
const ALIASED: usize = 10;
const DEADLINE: Duration = Duration::from_secs(1_800);
const HEADER: &str = "\
| | cold: CPU ms an image | warm | cold: seconds | warm | cold: requests an image | warm | cold: API writes | warm | MiB |
|---|---|---|---|---|---|---|---|---|---|
";
