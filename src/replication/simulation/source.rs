//! The model of the source registry: the history of each tag, and the lies in its lists for a moment.

use std::collections::{BTreeSet, HashMap};

use super::names::{Content, Millis, REPOSITORIES, TAGS};

/// The source registry.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub repositories: [Repository; REPOSITORIES],
    /// Every request fails until then.
    pub down_until: Millis,
    /// Tags that are listed and not given.
    pub withheld: BTreeSet<(usize, usize)>,
    /// Repositories whose next list of tags ends in an error after its first page.
    pub broken_lists: BTreeSet<usize>,
    /// The lie of the next catalog.
    pub catalog_lie: Option<Lie>,
    /// The lie of the next list of the tags of a repository.
    pub tags_lie: HashMap<usize, Lie>,
    /// Readers whose last list of this kind was a lie: the next one is true, so that no two lies follow each other.
    lied: BTreeSet<(Reader, Option<usize>)>,
    /// Readers of whose repository not every tag was observed since a list that was a lie.
    misled: BTreeSet<(Reader, usize)>,
    contents: Content,
}

/// The process and configuration that read a list.
pub(super) type Reader = (u32, usize);

/// A wrong list that counts as complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Empty,
    /// The list lacks one entry.
    Lacks(usize),
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// True if the catalog has it.
    pub is_listed: bool,
    /// True if the catalog ever lost it.
    pub was_unlisted: bool,
    pub tags: [History; TAGS],
}

/// The contents that a tag pointed at, oldest first; `None` where it was deleted.
#[derive(Debug, Default)]
pub(super) struct History(pub Vec<Option<Content>>);

impl History {
    pub(super) fn now(&self) -> Option<Content> {
        self.0.last().copied().flatten()
    }

    /// Returns the number of the latest push of a content among the first `pushes` changes: the larger, the newer.
    ///
    /// A tag that is rolled back has an earlier content anew; a copy that began before carries the earlier push.
    pub(super) fn order(&self, content: Content, pushes: usize) -> usize {
        self.0[..pushes].iter().rposition(|pushed| *pushed == Some(content)).expect("a content that was pushed")
    }

    pub(super) fn has_vanished(&self) -> bool {
        self.0.contains(&None)
    }
}

impl Source {
    /// Pushes a new content, and returns it.
    pub(super) fn push(&mut self, repository: usize, tag: usize) -> Content {
        self.contents += 1;
        self.repositories[repository].tags[tag].0.push(Some(self.contents));
        self.contents
    }

    /// Points a tag at an earlier content again.
    pub(super) fn roll_back(&mut self, repository: usize, tag: usize, choice: usize) {
        let history = &mut self.repositories[repository].tags[tag].0;
        let pushed: Vec<Content> = history.iter().flatten().copied().collect();
        if let (Some(earlier), Some(Some(_))) = (pushed.get(choice % pushed.len().max(1)), history.last()) {
            history.push(Some(*earlier));
        }
    }

    pub(super) fn delete(&mut self, repository: usize, tag: usize) {
        let history = &mut self.repositories[repository].tags[tag];
        if history.now().is_some() {
            history.0.push(None);
        }
    }

    /// Returns true if a tag is listed and not given.
    pub(super) fn withholds(&self, repository: usize, tag: usize) -> bool {
        self.withheld.contains(&(repository, tag)) && self.repositories[repository].tags[tag].now().is_some()
    }

    /// Lists a repository from now on. A list that was requested before may be taken later, and lacks it.
    pub(super) fn enlist(&mut self, index: usize) {
        let repository = &mut self.repositories[index];
        repository.was_unlisted |= !std::mem::replace(&mut repository.is_listed, true);
    }

    pub(super) fn unlist(&mut self, repository: usize) {
        let repository = &mut self.repositories[repository];
        (repository.was_unlisted, repository.is_listed) = (repository.was_unlisted || repository.is_listed, false);
    }

    pub(super) fn listed(&self) -> BTreeSet<usize> {
        (0..REPOSITORIES).filter(|index| self.repositories[*index].is_listed).collect()
    }

    pub(super) fn tags(&self, repository: usize) -> BTreeSet<usize> {
        (0..TAGS).filter(|tag| self.repositories[repository].tags[*tag].now().is_some()).collect()
    }

    /// Returns the catalog as `reader` gets it now, and whether it is a lie.
    pub(super) fn catalog(&mut self, reader: Reader) -> (BTreeSet<usize>, bool) {
        let honest = self.listed();
        let lie = if self.lied.contains(&(reader, None)) { None } else { self.catalog_lie.take() };
        bend(honest, lie)
    }

    /// Returns the tags of a repository as `reader` gets them now, and whether that is a lie.
    pub(super) fn list(&mut self, reader: Reader, repository: usize) -> (BTreeSet<usize>, bool) {
        let honest = self.tags(repository);
        let is_due = !self.lied.contains(&(reader, Some(repository)));
        let lie = if is_due { self.tags_lie.remove(&repository) } else { None };
        bend(honest, lie)
    }

    /// Returns true if the list of tags that is answered now ends in an error.
    pub(super) fn breaks_list(&mut self, repository: usize) -> bool {
        self.broken_lists.remove(&repository)
    }

    /// Returns true if a list of a repository that a reader took was a lie, and not every tag was observed since.
    pub(super) fn lies_to(&self, reader: Reader, repository: usize) -> bool {
        self.misled.contains(&(reader, repository))
    }

    /// Records that a reader has observed every tag of the last list of a repository.
    pub(super) fn closed(&mut self, reader: Reader, repository: usize) {
        if !self.lied.contains(&(reader, Some(repository))) {
            self.misled.remove(&(reader, repository));
        }
    }

    /// Records that a list has been taken by its reader.
    pub(super) fn taken(&mut self, reader: Reader, repository: Option<usize>, is_lie: bool) {
        if is_lie {
            self.misled.extend(repository.map(|repository| (reader, repository)));
            self.lied.insert((reader, repository));
        } else {
            self.lied.remove(&(reader, repository));
        }
    }
}

fn bend(honest: BTreeSet<usize>, lie: Option<Lie>) -> (BTreeSet<usize>, bool) {
    let shown = match lie {
        None => honest.clone(),
        Some(Lie::Empty) => BTreeSet::new(),
        Some(Lie::Lacks(entry)) => honest.iter().copied().filter(|index| *index != entry).collect(),
    };
    let is_lie = shown != honest;
    (shown, is_lie)
}
