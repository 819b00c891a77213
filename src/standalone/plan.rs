//! `transship plan`: what `sync` would copy where, and why each repository matches or not.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;

use super::access::{FileAccess, FileContent};
use super::deletions::ListedDeletions;
use super::flags::PlanFlags;
use super::invalid_lists::InvalidList;
use super::preview::{ExcludedTags, PlannedAction, PlannedImage, PlannedRepository, Preview};
use super::run::run_once;
use super::signals::StopSignals;
use super::store::FileStore;
use super::template_check::refused_registries;
use super::text::short_name;
use super::wiring::{Mode, Wiring, name_of, unused_filters};
use super::{UsageError, printed, read};
use crate::copy::{CopyError, Denied, check_signatures};
use crate::plan::{Configuration, LedgerEntry, NamespacedName};
use crate::policy::PermissionRequest;
use crate::registry::{Client, ErrorKind, Reference, RegistryError};
use crate::replication::Access;
use crate::replication::machine::{Machine, Pair, PairKey};
use crate::terms::{Action, CreateRepositories, TagConflict};

/// Shows what `sync` would do. Nothing is written anywhere; a destination is asked only where its owner consents.
/// Returns 0, or 1 if `sync` would fail, 4 if deletions would wait for a person, and 130 or 143 after a signal.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags.
pub async fn plan(flags: PlanFlags) -> Result<ExitCode, UsageError> {
    let content = read(&flags.files)?;
    let store = FileStore::read_only(flags.state.as_deref())?;
    let signals = StopSignals::catch()?;
    let mut wiring = Wiring::new(content, store, 1, flags.run.retry_for, None);
    wiring.deletes = flags.delete;
    tokio::spawn(wiring.core.clock.clone().beat());
    let retry_for = flags.run.retry_for;
    let preview = async {
        wiring.templates.ask(&wiring.access.content()).await;
        let machines = run_once(&wiring, Mode::Plan, signals.token()).await;
        let (deletions, refused_registries) = (ListedDeletions::of(&machines), refused_registries(&machines));
        let mut preview = Preview { deletions, refused_registries, ..Preview::default() };
        for machine in &machines {
            preview.take(machine, &wiring.access).await;
        }
        preview.look_at_destinations(&wiring.access.content(), retry_for).await;
        preview
    };
    let preview = tokio::select! {
        biased;
        // Nothing is written, and half a plan says nothing.
        () = signals.token().cancelled() => None,
        preview = preview => Some(preview),
    };
    let Some(preview) = preview else { return Ok(signals.exit_code().unwrap_or(ExitCode::FAILURE)) };
    printed(preview.show(flags.output))?;
    Ok(preview.exit_code(flags.run.detailed_exit_code))
}

impl Preview {
    async fn take(&mut self, machine: &Machine, access: &FileAccess) {
        let Some(configuration) = machine.configuration() else { return };
        let name = name_of(configuration);
        if configuration.suspend {
            let because = "the configuration is suspended".to_owned();
            let repository = "*".to_owned();
            self.repositories.push(PlannedRepository { configuration: name, repository, matched: false, because });
            return;
        }
        self.take_repositories(machine, configuration, &name);
        self.invalid_lists.extend(InvalidList::of(machine));
        self.unused_filters.extend(unused_filters(machine));
        self.problems.extend(machine.problems().map(|problem| format!("{name}: {}", problem.message)));
        for pair in machine.pairs() {
            self.take_pair(pair, configuration, access).await;
        }
    }

    fn take_repositories(&mut self, machine: &Machine, configuration: &Configuration, name: &str) {
        let (selection, excluded) = (&configuration.selection, machine.excluded());
        for repository in machine.repositories().union(&excluded.repositories) {
            let matches = selection.matches(repository);
            let because: BTreeSet<&str> = matches.iter().map(|m| m.because.as_str()).collect();
            let because = match matches.is_empty() {
                true => selection.why_not(repository),
                false => because.into_iter().collect::<Vec<_>>().join("; "),
            };
            let (configuration, repository) = (name.to_owned(), repository.to_string());
            let matched = !matches.is_empty();
            self.repositories.push(PlannedRepository { configuration, repository, matched, because });
        }
        self.excluded_tags.extend(excluded.tags.iter().map(|(repository, (tags, because))| ExcludedTags {
            configuration: name.to_owned(),
            repository: format!("{}/{repository}", configuration.source),
            tags: *tags,
            because: because.clone(),
        }));
    }

    async fn take_pair(&mut self, pair: &Pair, configuration: &Configuration, access: &FileAccess) {
        let PairKey { repository, destination: to, target } = &pair.key;
        let request = PermissionRequest {
            namespace: &configuration.namespace,
            configuration: &configuration.name,
            action: Action::ReplicateImage,
            registry_namespace: &to.namespace,
            registry: &to.name,
            repository: target.as_str(),
        };
        let creation = PermissionRequest { action: Action::CreateRepository, ..request };
        let (decision, creation) = (access.decide(request).await, access.decide(creation).await);
        let uncreatable = match access.registry(to) {
            Some((_, CreateRepositories::Never)) => {
                Some((PlannedAction::Failed, Denied::repository_not_found(target, &to.name).message))
            }
            _ => (!creation.allowed).then_some((PlannedAction::Denied, creation.message)),
        };
        // A tag that was not observed is no longer at the source.
        let observed = pair.ledger.entries().filter(|(_, entry)| entry.observed_at() > Timestamp::MIN);
        let images = observed.map(|(tag, entry)| {
            let (action, reason) = match entry {
                LedgerEntry::Unread(unread, _) => {
                    (PlannedAction::Failed, format!("{:?}: {}", unread.code, unread.message))
                }
                LedgerEntry::Row(_) if !decision.allowed => (PlannedAction::Denied, decision.message.clone()),
                LedgerEntry::Row(_) if entry.is_complete() => {
                    (PlannedAction::Nothing, "it was verified at the destination by an earlier sync".to_owned())
                }
                LedgerEntry::Row(_) => (PlannedAction::Copy, decision.message.clone()),
            };
            let digest = match entry {
                LedgerEntry::Unread(_, digest) => digest.cloned(),
                LedgerEntry::Row(row) => Some(row.digest.clone()),
            };
            PlannedImage {
                source: format!("{}/{repository}", configuration.source),
                destination: format!("{}/{target}", short_name(to, &configuration.namespace)),
                target: target.clone(),
                tag: tag.clone(),
                digest,
                action,
                reason,
                to: to.clone(),
                replaceable: (pair.options.on_tag_conflict == TagConflict::Keep)
                    .then(|| pair.ledger.row(tag).and_then(|row| row.written.clone())),
                from: NamespacedName { namespace: configuration.namespace.clone(), name: configuration.source.clone() },
                repository: repository.clone(),
                signed_by: pair.options.signed_by.clone(),
                may_rewrite: pair.options.may_rewrite(),
                uncreatable: uncreatable.clone(),
            }
        });
        self.images.extend(images);
    }

    /// Looks at the tags that are to be copied, where there is consent.
    async fn look_at_destinations(&mut self, content: &FileContent, retry_for: Duration) {
        let is_announced = AtomicBool::new(false);
        let to_copy = self.images.iter_mut().filter(|image| image.action == PlannedAction::Copy);
        let looks = futures::stream::iter(to_copy).map(|image| image.look_until(content, retry_for, &is_announced));
        let failed: BTreeSet<String> =
            looks.buffer_unordered(MAX_REQUESTS).filter_map(async |failed| failed).collect().await;
        self.problems.extend(failed);
    }
}

impl PlannedImage {
    /// Asks the destination for the tag, and the source for a signature, again for `retry_for` after a failure that may pass. Returns the message of the
    /// last request, if that failed.
    async fn look_until(
        &mut self,
        content: &FileContent,
        retry_for: Duration,
        is_announced: &AtomicBool,
    ) -> Option<String> {
        let mut end = None;
        loop {
            let failed = match self.look(content).await {
                Some(failed) => failed,
                None => self.verify(content).await?,
            };
            let end = *end.get_or_insert_with(|| Instant::now() + retry_for);
            let left = end.saturating_duration_since(Instant::now());
            if !failed.kind.is_transient() || left.is_zero() {
                return Some(failed.message);
            }
            let pause = LOOK_AGAIN.min(left);
            if !is_announced.swap(true, Ordering::Relaxed) {
                let seconds = pause.as_secs_f64();
                tracing::info!(target: "transship::waiting", "the next attempt is in {seconds:.0} s, as {failed}");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Verifies the signature of an image that is to be copied. Returns the failure of a request.
    async fn verify(&mut self, content: &FileContent) -> Option<RegistryError> {
        if !matches!(self.action, PlannedAction::Copy | PlannedAction::Overwrite) {
            return None;
        }
        let (key, digest) = (self.signed_by.as_ref()?, self.digest.as_ref()?);
        let client = &content.registries.get(&self.from)?.client;
        match check_signatures(client, &self.repository, digest, key).await {
            Ok(()) => self.reason = format!("{}; its signature is valid", self.reason),
            Err(CopyError::Source(error)) => return Some(error),
            Err(error) => {
                let is_missing = matches!(error, CopyError::SignatureMissing(_));
                self.action = if is_missing { PlannedAction::Skip } else { PlannedAction::Failed };
                self.reason = error.to_string();
            }
        }
        None
    }

    /// Asks the destination for the tag. Returns the failure of a request.
    async fn look(&mut self, content: &FileContent) -> Option<RegistryError> {
        let client = &content.registries.get(&self.to)?.client;
        match client.probe_manifest(&self.target, Reference::Tag(&self.tag)).await {
            Ok(Some(head)) if Some(&head.digest) == self.digest.as_ref() => {
                self.action = PlannedAction::Nothing;
                self.reason = "the destination has it; sync reads back all of it".to_owned();
            }
            Ok(Some(head)) if self.may_rewrite => {
                self.reason = format!(
                    "{}; the destination has {}, which sync compares with the rewritten index",
                    self.reason, head.digest
                );
            }
            Ok(Some(head))
                if self.replaceable.as_ref().is_some_and(|written| *written != Some(head.digest.clone())) =>
            {
                self.action = PlannedAction::Skip;
                self.reason = format!("the destination has {}, which onTagConflict: Keep keeps", head.digest);
            }
            Ok(Some(head)) => {
                self.action = PlannedAction::Overwrite;
                self.reason = format!("{}; the destination has {}", self.reason, head.digest);
            }
            Ok(None) => return self.check_creation(client).await,
            // Registries such as Quay answer so about a repository that the credentials may create.
            Err(error) if is_refused(&error) && client.ping().await.is_ok() => {
                let unknown = format!("the destination does not say if it is there: {error}");
                (self.action, self.reason) = match self.uncreatable.take() {
                    Some((action, because)) => {
                        (action, format!("{unknown}; if the repository does not exist: {because}"))
                    }
                    None => (self.action, format!("{}; {unknown}", self.reason)),
                };
            }
            Err(error) => return Some(error),
        }
        None
    }
}

impl PlannedImage {
    /// Refuses an image whose repository is absent and may not be created, or would be created with settings that the
    /// registry does not have. Returns the failure of a request.
    async fn check_creation(&mut self, client: &Client) -> Option<RegistryError> {
        let of_template = || Some((PlannedAction::Failed, client.unsupported_template_of(&self.target)?));
        let refused = self.uncreatable.clone().or_else(of_template)?;
        match client.first_tags(&self.target).await {
            Ok(Some(_)) => None,
            Ok(None) => {
                (self.action, self.reason) = refused;
                None
            }
            Err(error) => Some(error),
        }
    }
}

fn is_refused(error: &RegistryError) -> bool {
    matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied)
}

/// The pause before a destination is asked again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Requests to destinations at once.
const MAX_REQUESTS: usize = 8;
