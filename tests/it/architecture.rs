//! The house rules that a test can check: which room may use which, what pure rooms must not name, and how long things may be.

use std::path::{Path, PathBuf};

use crate::support::run_folder::repository;

/// What each room may import from this crate; the rooms of a higher layer come later.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("terms", &[]),
    ("image", &[]),
    ("api", &["terms"]),
    ("policy", &["terms"]),
    ("plan", &["image", "policy", "terms"]),
    ("registry", &["image"]),
    ("copy", &["image", "plan", "registry", "terms"]),
    ("channel", &["image", "plan", "registry", "terms"]),
    ("metrics", &[]),
    ("telemetry", &[]),
    ("replication", &["copy", "image", "metrics", "plan", "policy", "registry", "terms"]),
    ("cluster", &["api", "channel", "image", "plan", "policy", "registry", "replication", "terms"]),
    ("config", &["cluster", "registry", "terms"]),
    (
        "execution",
        &["channel", "cluster", "copy", "image", "metrics", "plan", "policy", "registry", "replication", "terms"],
    ),
    ("controllers", &["api", "cluster", "metrics", "plan", "registry", "replication", "terms"]),
    ("worker", &["channel", "config", "copy", "registry", "terms"]),
    ("workers_channel", &["channel", "cluster", "config", "execution"]),
    ("notify", &["image", "metrics", "plan", "replication"]),
    ("admin", &["metrics"]),
    (
        "standalone",
        &[
            "admin",
            "api",
            "config",
            "copy",
            "execution",
            "image",
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
            "cluster",
            "config",
            "controllers",
            "copy",
            "execution",
            "metrics",
            "notify",
            "plan",
            "replication",
            "workers_channel",
        ],
    ),
];

/// What a room must not name. Time and chance come into pure rooms as arguments.
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
    ("execution/in_process", &["kube::"]),
    ("copy", &["kube::"]),
    ("channel", &["kube::"]),
    ("worker", &["kube::"]),
];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;
const LONGEST_RECONCILE: usize = 40;

/// A source file without its tests.
struct Source {
    path: PathBuf,
    room: String,
    production: String,
}

fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let is_test = |path: &Path| {
        path.file_stem().is_some_and(|stem| ["tests", "testing", "fuzzing"].iter().any(|test| stem == *test))
    };
    let sources = files.into_iter().filter(|path| !is_test(path)).map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let production = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        Source { room: first.trim_end_matches(".rs").to_owned(), production, path: relative.to_owned() }
    });
    sources.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines that are code, not comments.
fn code(source: &Source) -> impl Iterator<Item = &str> {
    source.production.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_import_only_from_the_rooms_below() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.room.as_str(), "lib" | "main")) {
        let allowed = MAY_IMPORT.iter().find(|(room, _)| *room == source.room);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("the room {} is not in the table", source.room));
        for line in code(source) {
            for used in line.split("crate::").skip(1) {
                let room: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if room != source.room && !allowed.contains(&room.as_str()) {
                    wrong.push(format!("{}: {}", source.path.display(), line.trim()));
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
        let rules = MUST_NOT_NAME.iter().filter(|(room, _)| {
            source.path.starts_with(room) || *room == source.path.with_extension("").to_string_lossy()
        });
        let words: Vec<&str> = rules.flat_map(|(_, words)| words.iter().copied()).collect();
        for line in code(source) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}: {word} in {}", source.path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn controllers_hold_one_reconciler_a_kind_and_their_context() {
    let sources = sources();
    let controllers = sources.iter().filter(|source| source.room == "controllers");
    let mut names: Vec<_> = controllers.map(|source| source.path.file_stem().unwrap().to_string_lossy()).collect();
    names.sort();
    let kinds = ["registry", "registry_permission_policy", "replication_configuration", "replication_status"];
    let allowed: Vec<_> = ["context", "mod"].into_iter().chain(kinds).collect();
    assert_eq!(names, allowed);
}

#[test]
fn files_and_functions_stay_small_and_say_their_job() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let path = source.path.display();
        if !source.production.starts_with("//! ") {
            wrong.push(format!("{path} does not begin with its job"));
        }
        let lines = source.production.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{path} has {lines} lines"));
        }
        for (name, length) in functions(&source.production) {
            let longest = if name == "reconcile" { LONGEST_RECONCILE } else { LONGEST_FUNCTION };
            if length > longest {
                wrong.push(format!("{path}: {name} has {length} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The functions of a formatted file with their lengths in lines: each ends at the brace under its beginning.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else { continue };
        let is_declaration = before
            .trim()
            .split(' ')
            .all(|word| matches!(word, "" | "pub" | "async" | "const") || word.starts_with("pub("));
        if !is_declaration {
            continue;
        }
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let end = format!("{indent}}}");
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            let name = after.split(['(', '<']).next().unwrap_or_default();
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}
