//! Takes hints: looks at the tags, and lists the repositories, that they name.

use super::Driver;
use crate::image::{Digest, RepositoryName, Tag};
use crate::long_work::long_work_if;
use crate::replication::machine::{Event, Hints, Looked};
use crate::replication::mailbox::Mail;
use crate::replication::observer::LookMode;

impl Driver {
    /// Takes hints, and the loss of statuses.
    pub(super) fn take_mail(&mut self, mail: Mail) {
        let Mail { orders, workers, hints, deleted_in, is_overflown, statuses, listed } = mail;
        if let Some(orders) = orders {
            let (event, now) = (Event::Orders(orders.clone()), self.core.clock.now());
            long_work_if(self.machine.takes_long(&event), || self.machine.narrow(&orders, now));
            self.step(event);
        }
        if let Some(problem) = workers {
            self.step(Event::Workers(problem));
        }
        if let Some(listed) = listed {
            self.step(Event::StatusesListed(listed));
        }
        if !statuses.is_empty() {
            self.step(Event::StatusesLost(statuses));
        }
        if hints.is_empty() && deleted_in.is_empty() && !is_overflown {
            return;
        }
        let tags = hints.iter().map(|hint| (hint.repository.clone(), hint.tag.clone(), hint.digest.clone())).collect();
        self.hinted = hints.into_iter().map(|hint| ((hint.repository.clone(), hint.tag.clone()), hint)).collect();
        self.step(Event::Hints(Hints { tags, deleted_in, overflown: is_overflown }));
        self.hinted.clear();
    }

    /// Looks at a tag. One look serves all configurations that were given the same hint.
    pub(super) fn look(&mut self, repository: RepositoryName, tag: Tag, hinted: Option<Digest>) {
        let (observer, is_read) = (self.observer(), self.machine.reads_ahead());
        let selection = self.machine.configuration().map(|configuration| &configuration.selection);
        let is_dated = selection.is_some_and(|selection| selection.tags_of(&repository).needs_date(&tag));
        let key = (repository, tag);
        let hint = self.hinted.remove(&key);
        let (repository, tag) = key.clone();
        let look = async move {
            let (repository, tag) = key;
            let is_repeated = hint.as_ref().is_none_or(|hint| !hint.is_one_of_many);
            let look = || observer.look(repository, tag, hinted, LookMode { is_read, is_repeated, is_dated });
            match &hint {
                Some(hint) => {
                    let mut looked = hint.looked.get_or_init(look).await.clone();
                    if is_dated {
                        observer.add_date(&mut looked).await;
                    }
                    if let Looked::Seen(observed) | Looked::SeenOtherwise(observed) = &mut looked {
                        observed.pushed_at = Some(hint.received_at);
                    }
                    Event::Looked(looked)
                }
                None => Event::Looked(look().await),
            }
        };
        self.spawn(look, Event::Looked(Looked::Unreadable(repository, tag)));
    }

    /// Looks at a known tag once the budget of its host allows it.
    pub(super) fn sweep(&mut self, repository: RepositoryName, tag: Tag, asks: bool) {
        let (observer, expected) = (self.observer(), Looked::Unreadable(repository.clone(), tag.clone()));
        let look = async move {
            let (looked, listed) = observer.sweep(repository, tag, asks).await;
            Event::Swept(looked, listed)
        };
        self.spawn(look, Event::Swept(expected, None));
    }

    /// Lists the tags of a repository.
    pub(super) fn list_tags(&mut self, repository: RepositoryName) {
        let Some(configuration) = self.machine.configuration().cloned() else { return };
        let (observer, background, name) = (self.observer(), self.background.clone(), repository.clone());
        let list = async move {
            let _place = background.acquire().await;
            let listed = observer.list(&configuration, &repository).await;
            Event::TagsListed(repository, listed.map(Box::new))
        };
        self.spawn(list, Event::TagsListed(name, None));
    }
}
