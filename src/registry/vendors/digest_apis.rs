//! Learns what tags point at from an API that a registry has besides the distribution API: a few pages in place of a HEAD for each tag.
//!
//! Which tags there are is said by `tags/list` alone. The other API is believed tag by tag, as a HEAD of that registry would be: it is
//! the registry's own word, from its own host, under the same credentials. What it says of a tag twice and differently, or not at
//! all, is asked for by HEAD. A digest that is copied is read by digest, so that nothing is taken for what it is not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::session::Inner;
use crate::registry::vendors::ecr::Ecr;
use crate::registry::vendors::harbor::HarborRepository;

impl Inner {
    /// What those of `tags` point at that an API of this registry tells of. Never fails: what is not told is to be asked for.
    pub(crate) async fn told_digests(
        &self,
        repository: &RepositoryName,
        tags: &BTreeSet<Tag>,
    ) -> BTreeMap<Tag, Digest> {
        let mut told = DigestLookup::of(tags);
        if told.lacking() < MIN_TAGS {
            return BTreeMap::new();
        }
        let Some(api) = self.digest_api(repository) else { return BTreeMap::new() };
        let place = match &api {
            DigestApi::Harbor(harbor) => harbor.project().to_owned(),
            DigestApi::Ecr(_) => String::new(),
        };
        let known = self.digest_apis.verdict(&place);
        if known == Some(false) {
            return BTreeMap::new();
        }
        let task = self.task("reading what the tags point at", repository);
        let asked = self.in_time(&task, async {
            match &api {
                DigestApi::Ecr(ecr) => self.read_ecr(ecr, repository, &mut told, &task).await,
                DigestApi::Harbor(harbor) => {
                    if known.is_none() {
                        harbor.check(&task).await?;
                        self.digest_apis.note(place.clone(), true, VERDICT_TTL);
                    }
                    harbor.read(&mut told, &task).await
                }
            }
        });
        if let Err(error) = asked.await {
            tracing::debug!(error = %error.message, "tags are asked for one by one");
            self.digest_apis.note(
                place,
                false,
                if error.kind.is_transient() { TRANSIENT_VERDICT_TTL } else { VERDICT_TTL },
            );
        }
        told.into_digests()
    }

    fn digest_api<'a>(&'a self, repository: &'a RepositoryName) -> Option<DigestApi<'a>> {
        let ecr = self.ecr.as_ref().map(DigestApi::Ecr);
        ecr.or_else(|| self.harbor(repository).map(DigestApi::Harbor))
    }

    async fn in_time(
        &self,
        task: &Operation,
        asked: impl Future<Output = Result<(), RegistryError>>,
    ) -> Result<(), RegistryError> {
        let limit = self.deadlines.listing;
        match timeout(limit, asked).await {
            Ok(result) => result,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }
}

/// An API that tells.
enum DigestApi<'a> {
    Harbor(HarborRepository<'a>),
    Ecr(&'a Ecr),
}

/// What is told of the tags that are asked about.
pub(crate) struct DigestLookup<'a>(BTreeMap<&'a Tag, LookupState>);

enum LookupState {
    Nothing,
    Digest(Digest),
    /// Several digests: the tag moved meanwhile, or the answer is wrong.
    Contradiction,
}

impl<'a> DigestLookup<'a> {
    /// Nothing yet. Tags that stand for referrers are left out: nobody needs their digests from here.
    fn of(tags: &'a BTreeSet<Tag>) -> Self {
        Self(tags.iter().filter(|tag| !is_referrer_tag(tag)).map(|tag| (tag, LookupState::Nothing)).collect())
    }

    /// Takes that `tag` points at `digest`; names that nobody asked about are left out.
    pub(crate) fn take(&mut self, tag: &str, digest: &Digest) {
        let Ok(tag) = tag.parse::<Tag>() else { return };
        let Some(said) = self.0.get_mut(&tag) else { return };
        match said {
            LookupState::Nothing => *said = LookupState::Digest(digest.clone()),
            LookupState::Digest(known) if known != digest => *said = LookupState::Contradiction,
            LookupState::Digest(_) | LookupState::Contradiction => {}
        }
    }

    /// How many tags nothing is told of: so many HEADs it would take without another page.
    pub(crate) fn lacking(&self) -> usize {
        self.0.values().filter(|said| matches!(said, LookupState::Nothing)).count()
    }

    fn into_digests(self) -> BTreeMap<Tag, Digest> {
        let told = self.0.into_iter().filter_map(|(tag, said)| match said {
            LookupState::Digest(digest) => Some((tag.clone(), digest)),
            LookupState::Nothing | LookupState::Contradiction => None,
        });
        told.collect()
    }
}

/// Where such an API is known to be of use or of none, by what it is asked about: a project, or everything.
#[derive(Default)]
pub(crate) struct ApiVerdicts(Mutex<HashMap<String, (bool, Instant)>>);

impl ApiVerdicts {
    pub(crate) fn verdict(&self, place: &str) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(place).filter(|(_, until)| *until > Instant::now()).map(|(is_useful, _)| *is_useful)
    }

    pub(crate) fn note(&self, place: String, is_useful: bool, lasts: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SUBJECTS && !known.contains_key(&place) {
            known.clear();
        }
        known.insert(place, (is_useful, Instant::now() + lasts));
    }
}

/// For fewer tags than this HEADs are no dearer.
const MIN_TAGS: usize = 3;

const MAX_SUBJECTS: usize = 4096;

/// How long it is believed whether an API is of use.
pub(crate) const VERDICT_TTL: Duration = Duration::from_secs(3600);

/// The same where it failed in a way that may pass.
pub(crate) const TRANSIENT_VERDICT_TTL: Duration = Duration::from_secs(60);
