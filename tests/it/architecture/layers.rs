//! The inside of the rooms: files look down, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{Arrow, CountedParts, Modules, circles};
use super::sources::words;
use crate::support::run_folder::repository;

/// The layers of a room from the lowest up: files and folders that may use each other, and everything below.
const LAYERS: &[(&str, &[&[&str]])] = &[(
    "registry",
    &[&["error"], &["http"], &["auth"], &["session"], &["content", "lists", "upload"], &["vendors"], &["client"]],
)];

/// Registries that some vendor runs, which only `registry/vendors` and what stands above it may name.
const VENDORS: [&str; 8] = ["ecr", "harbor", "google", "artifactory", "quay", "aws", "sigv4", "gitlab"];

/// Crates, as their root files.
const CRATES: [(&str, CountedParts); 3] = [
    ("src/lib.rs", CountedParts::Production),
    ("tests/it/main.rs", CountedParts::All),
    ("benches/peers/main.rs", CountedParts::All),
];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for (main, parts) in CRATES {
        let modules = Modules::read(repository(), main, parts);
        let arrows = modules.arrows(parts);
        for circle in circles(arrows.iter().map(|arrow| (arrow.from, arrow.to))) {
            let within = arrows.iter().filter(|arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to));
            wrong.push(within.map(|arrow| shown(&modules, arrow)).collect::<BTreeSet<_>>());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_folders_of_a_room_import_each_other_in_a_circle() {
    let (modules, arrows) = production();
    let mut doors: BTreeMap<&str, BTreeMap<(&str, &str), &Arrow>> = BTreeMap::new();
    for arrow in &arrows {
        let (from, to) = (modules.name(arrow.from), modules.name(arrow.to));
        // `mod.rs` is the room itself: the circles of files cover it.
        if let ([room, from, ..], [other, to, ..]) = (from.as_slice(), to.as_slice())
            && room == other
        {
            doors.entry(*room).or_default().insert((*from, *to), arrow);
        }
    }
    let mut wrong = Vec::new();
    for (room, pairs) in doors {
        for circle in circles(pairs.keys().copied()) {
            let within = pairs.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
            let within = within.filter(|((from, to), _)| from != to).map(|(_, arrow)| shown(&modules, arrow));
            wrong.push((room, within.collect::<Vec<_>>()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn layers_of_a_room_look_down() {
    let (modules, arrows) = production();
    let mut wrong = BTreeSet::new();
    for (room, layers) in LAYERS {
        let level = |file: usize| {
            let name = modules.name(file);
            let [first, door, ..] = name.as_slice() else { return None };
            let level = layers.iter().position(|layer| layer.contains(door));
            (first == room).then(|| level.unwrap_or_else(|| panic!("{room}/{door} is in no layer")))
        };
        let back = arrows.iter().filter(|arrow| level(arrow.from).zip(level(arrow.to)).is_some_and(|(a, b)| a < b));
        wrong.extend(back.map(|arrow| shown(&modules, arrow)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_below_the_vendors_names_one() {
    let (modules, _) = production();
    let (_, layers) = LAYERS.iter().find(|(room, _)| *room == "registry").unwrap();
    let vendors = layers.iter().position(|layer| layer.contains(&"vendors")).unwrap();
    let below: Vec<&str> = layers[..vendors].concat();
    let mut wrong = Vec::new();
    for (index, file) in modules.files.iter().enumerate() {
        let name = modules.name(index);
        if !matches!(name.as_slice(), ["registry", door, ..] if below.contains(door)) {
            continue;
        }
        let code = file.production_lines().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let named = code.filter(|(_, line)| words(line).iter().any(|word| VENDORS.contains(&word.as_str())));
        wrong.extend(named.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn production() -> (Modules, Vec<Arrow>) {
    let modules = Modules::read(repository(), "src/lib.rs", CountedParts::Production);
    let arrows = modules.arrows(CountedParts::Production);
    (modules, arrows)
}

fn shown(modules: &Modules, arrow: &Arrow) -> String {
    let Arrow { from, to, line, path } = arrow;
    format!("{}:{line}: {path} of {}", modules.files[*from].path, modules.files[*to].path)
}
