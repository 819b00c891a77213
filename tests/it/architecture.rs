//! The house rules that a test can check: which room may use which, what pure rooms must not name, and how long things
//! may be.

mod definitions;
mod figures;
mod imports;
mod layers;
mod mutants;
mod names;
mod sources;
mod words;

use self::definitions::{Function, functions};
use self::sources::{SourceFile, rust_files};
use crate::support::run_folder::repository;

/// The rooms that each room may import; those of a higher layer come later.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("terms", &[]),
    ("locked", &[]),
    ("long_work", &[]),
    ("heartbeats", &["locked"]),
    ("listener", &["locked"]),
    ("image", &[]),
    ("api", &["terms"]),
    ("policy", &["terms"]),
    ("plan", &["image", "policy", "terms"]),
    ("registry", &["image", "locked", "long_work", "terms"]),
    ("copy", &["image", "locked", "plan", "registry", "terms"]),
    ("channel", &["image", "listener", "plan", "registry", "terms"]),
    ("metrics", &["locked", "registry"]),
    ("telemetry", &[]),
    ("console", &[]),
    ("replication", &["copy", "image", "locked", "long_work", "metrics", "plan", "policy", "registry", "terms"]),
    (
        "cluster",
        &[
            "api",
            "channel",
            "heartbeats",
            "image",
            "locked",
            "metrics",
            "plan",
            "policy",
            "registry",
            "replication",
            "terms",
        ],
    ),
    ("config", &["cluster", "plan", "registry", "terms"]),
    (
        "execution",
        &[
            "channel",
            "cluster",
            "copy",
            "heartbeats",
            "image",
            "locked",
            "metrics",
            "plan",
            "policy",
            "registry",
            "replication",
            "terms",
        ],
    ),
    (
        "controllers",
        &["api", "cluster", "locked", "long_work", "metrics", "plan", "policy", "registry", "replication", "terms"],
    ),
    ("worker", &["channel", "config", "copy", "locked", "plan", "registry", "terms"]),
    ("notify", &["image", "listener", "metrics", "plan", "replication"]),
    ("admin", &["heartbeats", "locked", "metrics"]),
    (
        "standalone",
        &[
            "admin",
            "api",
            "config",
            "console",
            "copy",
            "execution",
            "heartbeats",
            "image",
            "listener",
            "locked",
            "metrics",
            "notify",
            "plan",
            "policy",
            "registry",
            "replication",
            "terms",
        ],
    ),
    (
        "operator",
        &[
            "admin",
            "api",
            "channel",
            "cluster",
            "config",
            "controllers",
            "copy",
            "execution",
            "heartbeats",
            "listener",
            "locked",
            "metrics",
            "notify",
            "plan",
            "replication",
        ],
    ),
];

/// Names that a room must not use. Time and chance come into pure rooms as arguments.
const MUST_NOT_NAME: &[(&str, &[&str])] = &[
    (
        "terms",
        &[
            "tokio",
            "reqwest",
            "kube::",
            "KubeSchema",
            "k8s_openapi",
            "SystemTime",
            "Instant::now",
            "Timestamp::now",
            "rand::",
        ],
    ),
    ("image", &["tokio", "reqwest", "kube::", "SystemTime", "Instant::now", "Timestamp::now"]),
    ("api", &["tokio", "reqwest", "kube::Client", "kube::Api", "SystemTime", "Instant::now", "Timestamp::now"]),
    (
        "policy",
        &["tokio", "reqwest", "kube::", "k8s_openapi", "SystemTime", "Instant::now", "Timestamp::now", "rand::"],
    ),
    ("plan", &["tokio", "reqwest", "kube::", "k8s_openapi", "SystemTime", "Instant::now", "Timestamp::now", "rand::"]),
    ("registry", &["kube::"]),
    ("replication/machine", &["tokio", "reqwest", "kube::", "SystemTime", "Instant", "Timestamp::now", "rand::"]),
    ("replication", &["kube::", "std::fs"]),
    ("replication/driver", &["Timestamp::now", "SystemTime::now"]),
    ("replication/running", &["Timestamp::now", "SystemTime::now"]),
    ("execution", &["Timestamp::now", "SystemTime::now"]),
    ("execution/in_process", &["kube::"]),
    ("copy", &["kube::"]),
    ("channel", &["kube::"]),
    ("worker", &["kube::"]),
];

const MAX_FILE: usize = 400;
const MAX_FUNCTION: usize = 60;
const MAX_RECONCILE: usize = 40;

/// Returns the files of `src` that end up in the program.
fn sources() -> Vec<SourceFile> {
    rust_files(repository(), "src").into_iter().filter(|file| !file.is_test).collect()
}

/// Returns the path of a file inside `src`.
fn inside(source: &SourceFile) -> &str {
    source.path.trim_start_matches("src/")
}

/// Returns the room of a file: its folder in `src`, or its own name.
fn room(source: &SourceFile) -> &str {
    inside(source).split(['/', '.']).next().unwrap()
}

/// Returns the lines that are code, not comments, with their numbers.
fn code(source: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    source.production_lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_import_only_from_the_rooms_below() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !matches!(room(source), "lib" | "main")) {
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == room(source));
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("the room {} is not in the table", room(source)));
        for (number, line) in code(source) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if used != room(source) && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_name_no_clock_no_chance_and_no_network() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let path = inside(source).trim_end_matches(".rs");
        let is_in = |place: &str| path == place || path.starts_with(&format!("{place}/"));
        let rules = MUST_NOT_NAME.iter().filter(|(place, _)| is_in(place));
        let words: Vec<&str> = rules.flat_map(|(_, words)| words.iter().copied()).collect();
        for (number, line) in code(source) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: {word} in {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_output_of_the_program_panics_on_a_closed_pipe() {
    let macros = ["print", "println", "eprint", "eprintln", "dbg"];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("src/replication/simulation/")) {
        for (number, line) in code(source) {
            let is_macro = |name: &str| line.match_indices(&format!("{name}!(")).any(|(at, _)| !is_inside(line, at));
            if macros.iter().any(|name| is_macro(name)) {
                wrong.push(format!("{}:{number}: use src/console.rs: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns true if the word at `at` is the end of a longer one.
fn is_inside(line: &str, at: usize) -> bool {
    line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

#[test]
fn controllers_hold_one_reconciler_a_kind_and_their_context() {
    let sources = sources();
    let controllers = sources.iter().filter(|source| room(source) == "controllers");
    let mut names: Vec<_> = controllers.map(|source| inside(source).trim_start_matches("controllers/")).collect();
    names.sort_unstable();
    let kinds =
        ["registry.rs", "registry_permission_policy.rs", "replication_configuration.rs", "replication_status.rs"];
    let allowed: Vec<_> = ["context.rs", "mod.rs", "parsed_specs.rs"].into_iter().chain(kinds).collect();
    assert_eq!(names, allowed);
}

#[test]
fn files_and_functions_stay_small_and_say_their_job() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let path = &source.path;
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{path} does not begin with its job"));
        }
        let lines = source.production_lines().count();
        if lines > MAX_FILE {
            wrong.push(format!("{path} has {lines} lines"));
        }
        for Function { name, line, lines, .. } in functions(&source.production().collect::<Vec<_>>()) {
            let most = if name == "reconcile" { MAX_RECONCILE } else { MAX_FUNCTION };
            if lines > most {
                wrong.push(format!("{path}:{line}: {name} has {lines} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
