//! The tools that are compared, and the command of each for the same copy.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::support::tools::{debian_tool, go_tool};

/// A way to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Tool {
    Transship,
    /// The operator, which has no command of its own: it runs when it is measured.
    Operator,
    Floor,
    FloorReadBack,
    Crane,
    Regsync,
    RegsyncTuned,
    Oras,
    Skopeo,
    SkopeoTuned,
}

/// The images to be copied.
pub struct CopyTask<'a> {
    /// The source's host and port.
    pub source: String,
    /// The same of each destination.
    pub destinations: Vec<String>,
    pub repositories: Vec<&'a str>,
    /// Only tags that begin like this.
    pub prefix: Option<&'a str>,
    /// True if referrers of the images are copied too.
    pub referrers: bool,
    /// A folder for what the tool remembers: its home.
    pub home: &'a Path,
    /// True if an earlier run has copied.
    pub again: bool,
}

impl Tool {
    /// Returns all of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Returns its name, as it is chosen and printed.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no tool is hidden").get_name().to_owned()
    }

    /// Describes the command for people.
    pub fn flags(self) -> &'static str {
        match self {
            Self::Transship => "`transship sync -f FILE --state DIR`: reads everything back, as always",
            Self::Operator => {
                "`transship operator` with `InProcess`, under a real kube-apiserver: from the apply of Registries and configuration until every image \
                 is COMPLETE"
            }
            Self::Floor => {
                "ours, 8 requests at once: list, GET manifests, each blob once GET → POST + PUT, manifests; nothing else. Warm: HEAD on both sides"
            }
            Self::FloorReadBack => "the same, and a HEAD for every tag, child manifest and blob in the end",
            Self::Crane => "`crane copy --all-tags`, a process for each repository and destination",
            Self::Regsync => "`regsync once`, defaults",
            Self::RegsyncTuned => "`regsync once` with `parallel: 8` and `reqConcurrent: 16`",
            Self::Oras => "`oras cp`, with `-r` where there are referrers; a process for each tag, 4 at once",
            Self::Skopeo => "`skopeo sync --all --preserve-digests`, a process for each repository",
            Self::SkopeoTuned => "the same, 4 repositories at once",
        }
    }

    /// Returns the version that the tool says to be.
    pub fn version(self) -> String {
        let (program, argument) = match self {
            Self::Transship | Self::Operator => (env!("CARGO_BIN_EXE_transship").into(), "--version"),
            Self::Floor | Self::FloorReadBack => return env!("CARGO_PKG_VERSION").to_owned(),
            Self::Crane => (go_tool("crane"), "version"),
            Self::Regsync | Self::RegsyncTuned => (go_tool("regsync"), "version"),
            Self::Oras => (go_tool("oras"), "version"),
            Self::Skopeo | Self::SkopeoTuned => (debian_tool("skopeo"), "--version"),
        };
        let output = Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let version = |line: &str| line.split_whitespace().find(|word| word.contains('.')).map(str::to_owned);
        output.lines().find_map(version).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Returns true if it is a client of ours that only shows the possible.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::Floor | Self::FloorReadBack)
    }

    /// Returns true if it is a tool of others.
    pub fn is_peer(self) -> bool {
        !self.is_floor() && !matches!(self, Self::Transship | Self::Operator)
    }

    /// Returns the command that does the task.
    ///
    /// # Panics
    /// Of the operator, which has none.
    pub fn command(self, task: &CopyTask<'_>) -> Command {
        let mut command = match self {
            Self::Transship => transship(task),
            Self::Operator => panic!("the operator is started before its task is there"),
            Self::Floor | Self::FloorReadBack => floor(task, self == Self::FloorReadBack),
            Self::Crane => shell(&crane(task)),
            Self::Regsync => regsync(task, &json!({}), &json!({})),
            Self::RegsyncTuned => regsync(task, &json!({"parallel": 8}), &json!({"reqConcurrent": 16})),
            Self::Oras => shell(&oras(task)),
            Self::Skopeo => shell(&skopeo(task, 1)),
            Self::SkopeoTuned => shell(&skopeo(task, 4)),
        };
        std::fs::write(task.home.join("config.json"), r#"{"auths": {}}"#).expect("a configuration without logins");
        command.env("HOME", task.home).env("DOCKER_CONFIG", task.home);
        // As root skopeo would remember blobs in a folder of the system, beyond this home.
        command.env("_CONTAINERS_ROOTLESS_UID", "1000").env("XDG_RUNTIME_DIR", task.home);
        command
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", script]);
    command
}

fn transship(task: &CopyTask<'_>) -> Command {
    let text: Vec<_> = task.objects("bench").iter().map(Value::to_string).collect();
    let file = task.home.join("all.yaml");
    std::fs::write(&file, text.join("\n---\n")).expect("the configuration's file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
    command.arg("sync").arg("-f").arg(file).arg("--state").arg(task.home.join("state"));
    command
}

impl CopyTask<'_> {
    /// Returns the Registries and the configuration of the task.
    pub fn objects(&self, namespace: &str) -> Vec<Value> {
        let exact = |name: &&str| json!({"filter": name, "filterType": "EXACT_MATCH"});
        let filters: Vec<_> = self.repositories.iter().map(exact).collect();
        let mut rule = json!({"name": "all", "repositoryFilters": filters});
        if let Some(prefix) = self.prefix {
            rule["tagFilters"] = json!([{"filter": format!("{prefix}*"), "filterType": "GLOB_MATCH"}]);
        }
        objects(namespace, &self.source, &self.destinations, rule)
    }
}

/// Returns the Registries, and the configuration [`CONFIGURATION`] of one rule; `rule` has its filters.
pub fn objects(namespace: &str, source: &str, destinations: &[String], mut rule: Value) -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "transship.dev/v1alpha1", "kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec});
    let registry =
        |name: &str, host: &str| object("Registry", name, json!({"url": format!("http://{host}"), "allowHTTP": true}));
    let mut objects = vec![registry("source", source)];
    let mut references = Vec::new();
    for (number, host) in destinations.iter().enumerate() {
        objects.push(registry(&format!("destination-{number}"), host));
        references.push(json!({"registryRef": {"name": format!("destination-{number}")}}));
    }
    rule["destinations"] = references.into();
    let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": [rule]});
    objects.push(object("ReplicationConfiguration", CONFIGURATION, spec));
    objects
}

fn floor(task: &CopyTask<'_>, read_back: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg("floor").arg("--source").arg(format!("http://{}", task.source));
    for host in &task.destinations {
        command.arg("--destination").arg(format!("http://{host}"));
    }
    for repository in &task.repositories {
        command.args(["--repository", repository]);
    }
    command.args(task.prefix.map(|prefix| format!("--prefix={prefix}")));
    command.args(read_back.then_some("--read-back")).args(task.again.then_some("--compare"));
    command
}

/// Returns a line for every repository and destination.
fn lines(task: &CopyTask<'_>, line: impl Fn(&str, &str) -> String) -> String {
    let mut script = String::new();
    for destination in &task.destinations {
        for repository in &task.repositories {
            writeln!(script, "{}", line(repository, destination)).expect("a string takes text");
        }
    }
    script
}

fn crane(task: &CopyTask<'_>) -> String {
    let (crane, source) = (go_tool("crane").display().to_string(), &task.source);
    lines(task, |repository, destination| match task.prefix {
        None => format!("{crane} copy --all-tags {source}/{repository} {destination}/{repository}"),
        Some(prefix) => format!(
            "{crane} ls {source}/{repository} | grep '^{prefix}' | xargs -P 4 -I@ {crane} copy {source}/{repository}:@ {destination}/{repository}:@"
        ),
    })
}

fn oras(task: &CopyTask<'_>) -> String {
    let (oras, source) = (go_tool("oras").display().to_string(), &task.source);
    let (prefix, recursive) = (task.prefix.unwrap_or_default(), if task.referrers { "-r" } else { "" });
    lines(task, |repository, destination| {
        format!(
            "{oras} repo tags --plain-http {source}/{repository} | grep '^{prefix}' | grep -v '^sha256-' | xargs -P 4 -I@ {oras} cp {recursive} --no-tty \
             --from-plain-http --to-plain-http {source}/{repository}:@ {destination}/{repository}:@"
        )
    })
}

fn skopeo(task: &CopyTask<'_>, at_once: usize) -> String {
    let program = debian_tool("skopeo").display().to_string();
    let flags =
        "--insecure-policy sync --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false --dest docker";
    if let Some(prefix) = task.prefix {
        let images: serde_json::Map<_, _> =
            task.repositories.iter().map(|name| ((*name).to_owned(), json!(format!("^{prefix}")))).collect();
        let file = task.home.join("skopeo.yaml");
        let text = json!({ &task.source: {"tls-verify": false, "images-by-tag-regex": images} }).to_string();
        std::fs::write(&file, text).expect("skopeo's file");
        let one = |destination: &String| format!("{program} {flags} --src yaml {} {destination}\n", file.display());
        return task.destinations.iter().map(one).collect();
    }
    let source = &task.source;
    let repositories = task.repositories.join("\n");
    let one = |destination: &String| {
        format!(
            "printf '{repositories}\n' | xargs -P {at_once} -I@ {program} {flags} --src docker {source}/@ {destination}\n"
        )
    };
    task.destinations.iter().map(one).collect()
}

fn regsync(task: &CopyTask<'_>, defaults: &Value, limits: &Value) -> Command {
    let merged = |mut into: Value, more: &Value| {
        into.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        into
    };
    let hosts = std::iter::once(&task.source).chain(&task.destinations);
    let creds: Vec<_> = hosts.map(|host| merged(json!({"registry": host, "tls": "disabled"}), limits)).collect();
    let mut sync = Vec::new();
    for destination in &task.destinations {
        for repository in &task.repositories {
            let mut entry = json!({
                "source": format!("{}/{repository}", task.source), "target": format!("{destination}/{repository}"),
                "type": "repository", "referrers": task.referrers,
            });
            if let Some(prefix) = task.prefix {
                entry["tags"] = json!({"allow": [format!("{prefix}.*")]});
            }
            sync.push(entry);
        }
    }
    let file = task.home.join("regsync.yaml");
    let text = json!({"version": 1, "creds": creds, "defaults": defaults, "sync": sync}).to_string();
    std::fs::write(&file, text).expect("regsync's file");
    let mut command = Command::new(go_tool("regsync"));
    command.arg("once").arg("-c").arg(file);
    command
}

/// The name of the configuration that [`objects`] makes.
pub const CONFIGURATION: &str = "all";
