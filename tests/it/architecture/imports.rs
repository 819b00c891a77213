//! Arrows between the files of a crate: an arrow goes from a file to the one that defines what it names.
//!
//! Re-exports are followed to the file of the definition, and are no arrows themselves. Methods are not seen: a file
//! that calls one has the value from somewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::sources::{CodeToken, SourceFile, closing, rust_files};

/// The files of a crate and the module tree that they make.
pub struct Modules {
    pub files: Vec<SourceFile>,
    scopes: Vec<Scope>,
}

/// The names that a file knows.
#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    children: HashMap<String, usize>,
    items: HashSet<String>,
    imports: Vec<Import>,
    is_reachable: bool,
}

/// One leaf of a `use`.
#[derive(Clone)]
struct Import {
    path: Vec<String>,
    name: String,
    is_public: bool,
    line: usize,
}

/// A file that names what another one defines.
pub struct Arrow {
    pub from: usize,
    pub to: usize,
    pub line: usize,
    pub path: String,
}

/// The parts of a crate that count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CountedParts {
    Production,
    All,
}

const ITEMS: [&str; 8] = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
/// Re-exports of re-exports; a circle among them ends here.
const MAX_DEPTH: usize = 16;

impl Modules {
    /// Reads the crate whose root is `main` and whose files are beside and below it.
    pub fn read(root: &Path, main: &str, parts: CountedParts) -> Self {
        let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder);
        let files = rust_files(root, folder);
        let scopes = files.iter().map(|_| Scope::default()).collect();
        let mut modules = Self { files, scopes };
        if let Some(index) = modules.files.iter().position(|file| file.path == main) {
            modules.walk(index, None, false, parts);
        }
        modules
    }

    /// Returns the module of a file, relative to the root: `["registry", "upload"]`.
    pub fn name(&self, file: usize) -> Vec<&str> {
        let Some(parent) = self.scopes[file].parent else { return Vec::new() };
        let mut name = self.name(parent);
        name.extend(self.scopes[parent].children.iter().find(|(_, child)| **child == file).map(|(name, _)| &**name));
        name
    }

    /// Returns all arrows, several between two files if several lines name something.
    pub fn arrows(&self, parts: CountedParts) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (from, file) in self.files.iter().enumerate().filter(|(from, _)| self.scopes[*from].is_reachable) {
            let tokens: Vec<&CodeToken> = counted(file, parts).collect();
            let private = self.scopes[from].imports.iter().filter(|import| !import.is_public);
            let mut paths: Vec<_> = private.map(|import| (import.path.clone(), import.line)).collect();
            paths.extend(path_expressions(&tokens));
            for (path, line) in paths {
                let to = self.resolve(from, &path, 0).filter(|to| *to != from);
                if let Some(to) = to.filter(|to| parts == CountedParts::All || !self.files[*to].is_test) {
                    arrows.push(Arrow { from, to, line, path: path.join("::") });
                }
            }
        }
        arrows
    }

    fn walk(&mut self, file: usize, parent: Option<usize>, is_test: bool, parts: CountedParts) {
        self.files[file].is_test |= is_test;
        let path = self.files[file].path.clone();
        let (folder, name) = path.rsplit_once('/').unwrap();
        let is_root = parent.is_none() || name == "mod.rs";
        let here = if is_root { folder.to_owned() } else { format!("{folder}/{}", name.trim_end_matches(".rs")) };
        let mut scope = Scope { parent, is_reachable: true, ..Scope::default() };
        let declared = declared_modules(&self.files[file].tokens);
        for (child, is_child_test) in declared {
            let places = [format!("{here}/{child}.rs"), format!("{here}/{child}/mod.rs")];
            if let Some(index) = self.files.iter().position(|file| places.contains(&file.path)) {
                scope.children.insert(child, index);
                self.walk(index, Some(file), self.files[file].is_test || is_child_test, parts);
            }
        }
        let tokens: Vec<&CodeToken> = counted(&self.files[file], parts).collect();
        scope.items = items(&tokens);
        scope.imports = imports(&tokens);
        self.scopes[file] = scope;
    }

    /// Returns the file that defines `path` as the module of `from` sees it; `None` for other crates, and for modules
    /// themselves.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let scope = &self.scopes[from];
        match first.as_str() {
            "crate" => self.descend(self.root_of(from), rest, depth),
            "self" => self.descend(from, rest, depth),
            "super" => {
                let ups = rest.iter().take_while(|segment| *segment == "super").count();
                let target = (0..ups).try_fold(scope.parent?, |at, _| self.scopes[at].parent)?;
                self.descend(target, &rest[ups..], depth)
            }
            _ => match scope.children.get(first) {
                Some(child) => self.descend(*child, rest, depth),
                None => self.through_imports(from, first, rest, depth, path),
            },
        }
    }

    fn through_imports(
        &self,
        from: usize,
        first: &str,
        rest: &[String],
        depth: usize,
        path: &[String],
    ) -> Option<usize> {
        let scope = &self.scopes[from];
        let named = scope.imports.iter().filter(|import| import.name == first && import.path != path);
        let found = named.map(|import| [&import.path, rest].concat()).find_map(|p| self.resolve(from, &p, depth + 1));
        found.or_else(|| scope.items.contains(first).then_some(from))
    }

    fn descend(&self, module: usize, rest: &[String], depth: usize) -> Option<usize> {
        let (first, after) = rest.split_first()?;
        let scope = &self.scopes[module];
        let is_item = scope.items.contains(first);
        if let Some(child) = scope.children.get(first).filter(|_| !(after.is_empty() && is_item)) {
            return self.descend(*child, after, depth);
        }
        if is_item || first == "*" {
            return Some(module);
        }
        let paths = scope.imports.iter().filter_map(|import| match import.name.as_str() {
            name if name == first => Some([&import.path, after].concat()),
            "*" => Some([&import.path[..import.path.len() - 1], rest].concat()),
            _ => None,
        });
        let found = paths.into_iter().filter(|path| depth < MAX_DEPTH && path != rest);
        found.into_iter().find_map(|path| self.resolve(module, &path, depth + 1))
    }

    fn root_of(&self, file: usize) -> usize {
        self.scopes[file].parent.map_or(file, |parent| self.root_of(parent))
    }
}

/// Returns the sets of nodes that reach each other, each sorted; a node alone is none.
pub fn circles<N: Ord + Copy>(arrows: impl IntoIterator<Item = (N, N)>) -> Vec<Vec<N>> {
    let mut targets: BTreeMap<N, BTreeSet<N>> = BTreeMap::new();
    for (from, to) in arrows.into_iter().filter(|(from, to)| from != to) {
        targets.entry(from).or_default().insert(to);
    }
    let reach: BTreeMap<N, BTreeSet<N>> = targets.keys().map(|node| (*node, reachable(&targets, *node))).collect();
    let mut circles: Vec<Vec<N>> = Vec::new();
    for (node, reached) in &reach {
        if reached.contains(node) && !circles.iter().any(|circle| circle.contains(node)) {
            let returns = |other: &&N| reach.get(*other).is_some_and(|back| back.contains(node));
            circles.push(reached.iter().filter(returns).copied().collect());
        }
    }
    circles
}

fn reachable<N: Ord + Copy>(targets: &BTreeMap<N, BTreeSet<N>>, from: N) -> BTreeSet<N> {
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(node) = waiting.pop() {
        waiting.extend(targets.get(&node).into_iter().flatten().filter(|next| reached.insert(**next)));
    }
    reached
}

fn counted(file: &SourceFile, parts: CountedParts) -> impl Iterator<Item = &CodeToken> {
    file.tokens.iter().filter(move |token| parts == CountedParts::All || (!file.is_test && !token.is_test))
}

/// Returns the modules that have files of their own, and whether they are compiled for tests alone.
fn declared_modules(tokens: &[CodeToken]) -> Vec<(String, bool)> {
    let declared = tokens.windows(3).filter(|window| window[0].text == "mod" && window[2].text == ";");
    declared.map(|window| (window[1].text.clone(), window[0].is_test)).collect()
}

/// Returns the names of the items at the top of a file.
fn items(tokens: &[&CodeToken]) -> HashSet<String> {
    let (mut depth, mut found) = (0, HashSet::new());
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            keyword if depth == 0 && ITEMS.contains(&keyword) => {
                found.extend(tokens.get(index + 1).map(|name| name.text.clone()));
            }
            _ => {}
        }
    }
    found
}

fn imports(tokens: &[&CodeToken]) -> Vec<Import> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "use") {
        if tokens.get(index + 1).is_some_and(|next| next.text == "<") {
            continue;
        }
        let before = index.checked_sub(1).map(|before| tokens[before].text.as_str());
        let is_public = matches!(before, Some("pub" | ")"));
        let end = tokens[index..].iter().position(|token| token.text == ";").map_or(tokens.len(), |end| index + end);
        expand(&tokens[index + 1..end], &[], &mut |path, name| {
            found.push(Import { path, name, is_public, line: token.line });
        });
    }
    found
}

/// Calls `take` with each path of a `use` tree and the name that it gets.
fn expand(tree: &[&CodeToken], prefix: &[String], take: &mut dyn FnMut(Vec<String>, String)) {
    let mut path = prefix.to_vec();
    let mut name = None;
    let mut at = 0;
    while at < tree.len() {
        match tree[at].text.as_str() {
            "::" => {}
            "as" => {
                name = tree.get(at + 1).map(|token| token.text.clone());
                at += 1;
            }
            "{" => {
                let (mut depth, mut begin) = (0, at + 1);
                for (end, token) in tree.iter().enumerate().skip(at) {
                    depth += match token.text.as_str() {
                        "{" => 1,
                        "}" => -1,
                        _ => 0,
                    };
                    if depth == 0 || (depth == 1 && token.text == ",") {
                        expand(&tree[begin..end], &path, take);
                        begin = end + 1;
                    }
                }
                return;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if let Some(last) = path.last().filter(|_| !tree.is_empty()).cloned() {
        take(path, name.unwrap_or(last));
    }
}

/// Returns the paths of two or more segments outside of `use` and visibilities.
fn path_expressions(tokens: &[&CodeToken]) -> Vec<(Vec<String>, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    while at < tokens.len() {
        match text(at) {
            "use" if text(at + 1) != "<" => {
                while at < tokens.len() && text(at) != ";" {
                    at += 1;
                }
            }
            "pub" if text(at + 1) == "(" => {
                let owned: Vec<CodeToken> = tokens[at + 1..].iter().take(12).map(|token| (*token).clone()).collect();
                at += 1 + closing(&owned, 0);
            }
            word if is_name(word) && text(at + 1) == "::" => {
                let (mut path, line) = (vec![word.to_owned()], tokens[at].line);
                while text(at + 1) == "::" && is_name(text(at + 2)) {
                    path.push(text(at + 2).to_owned());
                    at += 2;
                }
                if path.len() > 1 {
                    found.push((path, line));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
