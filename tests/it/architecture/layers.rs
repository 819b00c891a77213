//! The inside of the rooms: files look down, and never in a circle.

use std::collections::BTreeSet;

use super::imports::{Arrow, CountedParts, Modules, circles};
use crate::support::run_folder::repository;

/// Crates, as their root files.
const CRATES: [(&str, CountedParts); 2] =
    [("tests/it/main.rs", CountedParts::All), ("benches/peers/main.rs", CountedParts::All)];

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

fn shown(modules: &Modules, arrow: &Arrow) -> String {
    let Arrow { from, to, line, path } = arrow;
    format!("{}:{line}: {path} of {}", modules.files[*from].path, modules.files[*to].path)
}
