//! `make figures`: the size and the shape of the code as a table, for any checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::definitions::{Function, functions, types};
use super::imports::{Arrow, CountedParts, Modules, circles};
use super::sources::{CodeToken, DocBlock, SourceFile};
use crate::support::run_folder::repository;

/// The columns of the table, separated by spaces; the project itself if it is not set.
const FOLDERS: &str = "FIGURES";
const OPENINGS: [&str; 10] = ["what", "whatever", "whether", "where", "who", "whose", "how", "why", "which", "when"];
const LONG: usize = 35;
const TOO_LONG: usize = 60;

/// The figures of one checkout.
struct Figures {
    /// Without the files that are tests.
    files: usize,
    /// Everything in `src` outside of `#[cfg(test)]`.
    lines: usize,
    rows: Vec<(&'static str, String)>,
    rooms: BTreeMap<String, Room>,
}

/// The imports inside of a room.
#[derive(Default)]
struct Room {
    files: usize,
    /// Pairs of files of which the first names an item of the second.
    arrows: usize,
    /// Those of them that are part of a circle.
    in_circles: usize,
    circles: usize,
}

#[test]
fn the_figures_of_the_code_are_counted() {
    let named = std::env::var(FOLDERS).unwrap_or_default();
    let mut folders: Vec<PathBuf> = named.split_whitespace().map(PathBuf::from).collect();
    if folders.is_empty() {
        folders.push(repository().to_owned());
    }
    let figures: Vec<Figures> = folders.iter().map(|folder| Figures::of(folder)).collect();
    let names: Vec<_> = folders.iter().map(|folder| folder.file_name().unwrap_or_default().to_string_lossy()).collect();
    println!("\n| | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
    for (index, (name, _)) in figures[0].rows.iter().enumerate() {
        let values: Vec<&str> = figures.iter().map(|figures| figures.rows[index].1.as_str()).collect();
        println!("| {name} | {} |", values.join(" | "));
    }
    println!("\n| room: files / arrows / arrows in circles / circles | {} |", names.join(" | "));
    println!("|---{}|", "|---".repeat(names.len()));
    let rooms: BTreeSet<&String> = figures.iter().flat_map(|figures| figures.rooms.keys()).collect();
    for room in rooms {
        let values: Vec<String> = figures.iter().map(|figures| shown(figures.rooms.get(room))).collect();
        println!("| `{room}` | {} |", values.join(" | "));
    }
    assert!(figures.iter().all(|figures| figures.files > 50 && figures.lines > 10_000 && !figures.rooms.is_empty()));
}

fn shown(room: Option<&Room>) -> String {
    let shown = |room: &Room| format!("{} / {} / {} / {}", room.files, room.arrows, room.in_circles, room.circles);
    room.map_or_else(|| "–".to_owned(), shown)
}

impl Figures {
    fn of(root: &Path) -> Self {
        let modules = Modules::read(root, "src/lib.rs", CountedParts::Production);
        let arrows = modules.arrows(CountedParts::Production);
        let production: Vec<&SourceFile> = modules.files.iter().filter(|file| !file.is_test).collect();
        let mut sizes: Vec<usize> = production.iter().map(|file| file.production_lines().count()).collect();
        sizes.sort_unstable();
        let mut figures =
            Self { files: sizes.len(), lines: sizes.iter().sum(), rows: Vec::new(), rooms: rooms(&modules, &arrows) };
        let longest = sizes.last().copied().unwrap_or_default();
        figures.row("files / production lines", format!("{} / {}", figures.files, figures.lines));
        figures.row("median file / longest file", format!("{} / {longest}", part(&sizes, 50)));
        figures.take_functions(&production);
        figures.take_types(&production);
        figures.take_circles(&modules, &arrows);
        figures.take_words(&modules.files, &production);
        figures
    }

    fn row(&mut self, name: &'static str, value: String) {
        self.rows.push((name, value));
    }

    fn take_functions(&mut self, files: &[&SourceFile]) {
        let found: Vec<Function> = files.iter().flat_map(|file| functions(&tokens(file))).collect();
        let mut lines: Vec<usize> = found.iter().map(|function| function.lines).collect();
        lines.sort_unstable();
        let parts: Vec<String> = [50, 90, 99, 100].iter().map(|percent| part(&lines, *percent).to_string()).collect();
        self.row("function median / p90 / p99 / longest", parts.join(" / "));
        let over = |bound: usize| lines.iter().filter(|lines| **lines > bound).count();
        self.row(
            "functions over 35 / over 60 lines",
            format!("{} / {} of {}", over(LONG), over(TOO_LONG), lines.len()),
        );
        let most = found.iter().map(|function| function.parameters).max().unwrap_or_default();
        self.row("most parameters", most.to_string());
    }

    fn take_types(&mut self, files: &[&SourceFile]) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for found in files.iter().flat_map(|file| types(&tokens(file))) {
            *counts.entry(found.name).or_default() += 1;
        }
        let twice = counts.values().filter(|count| **count > 1).count();
        self.row("type names defined more than once", format!("{twice} of {}", counts.len()));
    }

    fn take_circles(&mut self, modules: &Modules, arrows: &[Arrow]) {
        let circles = circles(arrows.iter().map(|arrow| (arrow.from, arrow.to)));
        let lines =
            |circle: &Vec<usize>| circle.iter().map(|file| modules.files[*file].production_lines().count()).sum();
        let largest = circles.iter().map(|circle| (circle.len(), lines(circle))).max().unwrap_or((0, 0_usize));
        self.row("import circles", circles.len().to_string());
        self.row("largest import circle, files / lines", format!("{} / {}", largest.0, largest.1));
        let name = |file: usize| modules.name(file).first().map(|room| (*room).to_owned());
        let between = arrows.iter().filter_map(|arrow| Some((name(arrow.from)?, name(arrow.to)?)));
        let between: BTreeSet<(String, String)> = between.filter(|(from, to)| from != to).collect();
        let rooms: BTreeSet<String> = (0..modules.files.len()).filter_map(name).collect();
        let back = super::imports::circles(between.iter().map(|(from, to)| (from.as_str(), to.as_str())));
        self.row(
            "rooms / arrows / circles between rooms",
            format!("{} / {} / {}", rooms.len(), between.len(), back.len()),
        );
    }

    /// Docs of tests in `src` count too.
    fn take_words(&mut self, files: &[SourceFile], production: &[&SourceFile]) {
        let lines = || production.iter().flat_map(|file| file.production_lines()).map(|(_, line)| line.trim_start());
        let is_doc = |line: &&str| line.starts_with("///") || line.starts_with("//!");
        let docs = lines().filter(is_doc).count();
        let plain = lines().filter(|line| line.starts_with("//") && !is_doc(line)).count();
        let percent = |part: usize, whole: usize| part as f64 * 100.0 / whole.max(1) as f64;
        let all = self.lines;
        self.row(
            "doc lines / plain comment lines",
            format!("{:.1} % / {:.1} %", percent(docs, all), percent(plain, all)),
        );
        let blocks: Vec<DocBlock> = files.iter().flat_map(SourceFile::doc_blocks).collect();
        let opened = blocks.iter().filter(|block| OPENINGS.contains(&block.first_word().as_str())).count();
        self.row(
            "doc blocks that begin with What, Whether, Where, How …",
            format!("{:.1} % of {}", percent(opened, blocks.len()), blocks.len()),
        );
        let words: Vec<String> = blocks.iter().flat_map(|block| words(&block.text)).collect();
        let each = |wanted: &[&str]| {
            let count = words.iter().filter(|word| wanted.contains(&word.as_str())).count();
            format!("{:.1}", count as f64 * 1000.0 / words.len().max(1) as f64)
        };
        self.row("\"what\" per 1,000 words of doc", each(&["what"]));
        let (told, who) = (each(&["told", "tell", "tells"]), each(&["who", "whoever", "nobody", "somebody"]));
        self.row("told/tell(s), and who/whoever/nobody/somebody, per 1,000", format!("{told}, {who}"));
    }
}

fn rooms(modules: &Modules, arrows: &[Arrow]) -> BTreeMap<String, Room> {
    let name = |file: usize| modules.name(file).first().map(|room| (*room).to_owned());
    let mut rooms: BTreeMap<String, Room> = BTreeMap::new();
    for (index, _) in modules.files.iter().enumerate().filter(|(_, file)| !file.is_test) {
        if let Some(room) = name(index) {
            rooms.entry(room).or_default().files += 1;
        }
    }
    let pairs: BTreeSet<(usize, usize)> = arrows.iter().map(|arrow| (arrow.from, arrow.to)).collect();
    let inside = || pairs.iter().copied().filter(|(from, to)| name(*from) == name(*to));
    let circles = circles(inside());
    for (from, to) in inside() {
        let Some(room) = name(from).and_then(|room| rooms.get_mut(&room)) else { continue };
        room.arrows += 1;
        room.in_circles += usize::from(circles.iter().any(|circle| circle.contains(&from) && circle.contains(&to)));
    }
    for circle in &circles {
        if let Some(room) = name(circle[0]).and_then(|room| rooms.get_mut(&room)) {
            room.circles += 1;
        }
    }
    rooms.retain(|_, room| room.files > 1);
    rooms
}

fn tokens(file: &SourceFile) -> Vec<&CodeToken> {
    file.production().collect()
}

/// Returns the value below which `percent` of the sorted values are.
fn part(sorted: &[usize], percent: usize) -> usize {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'').filter(|word| !word.is_empty()).map(str::to_lowercase)
}
