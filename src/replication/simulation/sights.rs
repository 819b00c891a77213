//! Sights of the source by a configuration of a process: the latest one of each content under a tag.

use super::names::{Millis, content, millis, repository_index, tag_index};
use super::process::Running;
use super::source::Source;
use crate::replication::machine::{Event, Finding, Looked, Observed};

/// An observation of a content under a tag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    /// The time of its request.
    pub sent_at: Millis,
    /// The number of changes of the tag until its answer arrived; it can show none of a later one.
    pub pushes: usize,
}

impl Running {
    /// Writes down what an event observes.
    pub(super) fn watch(&mut self, event: &Event, source: &Source) {
        match event {
            Event::Looked(Looked::Seen(observed)) | Event::Swept(Looked::Seen(observed), _) => {
                self.see(observed, source)
            }
            Event::Found(id, finding) if self.comparing.as_ref().is_some_and(|comparing| comparing.id == *id) => {
                match finding {
                    Finding::Repositories { .. } => self.found.clear(),
                    Finding::Image(observed) => {
                        self.found.insert((repository_index(observed.repository.as_str()), tag_index(&observed.tag)));
                        self.see(observed, source);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn see(&mut self, observed: &Observed, source: &Source) {
        let (index, number) = (repository_index(observed.repository.as_str()), tag_index(&observed.tag));
        let latest = self.seen.entry((index, number, content(&observed.digest))).or_default();
        latest.sent_at = millis(observed.sent_at).max(latest.sent_at);
        latest.pushes = source.repositories[index].tags[number].0.len();
    }
}
