//! Has one image copied for a configuration, in this process or by a Job, and tells the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Context;
use super::by_job::copy_by_job;
use super::consent::{Consent, Granted};
use crate::api::{Action, FailureCode, Registry};
use crate::channel::Holder;
use crate::copy::{Copied, Failed, ImageCopy, MountScope, Progress};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{CopyOptions, DestinationReference, Place, Replica};
use crate::policy::Decision;

/// One image to copy.
pub struct Assignment {
    /// The namespace and name of the configuration.
    pub configuration: (String, String),
    /// Its uid.
    pub uid: String,
    /// The source.
    pub source: Arc<Registry>,
    /// The destination.
    pub destination: DestinationReference,
    /// The destination as it is claimed.
    pub place: Place,
    /// The repository, of the same name at both ends.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it points at at the source.
    pub digest: Digest,
    /// What of the image is copied.
    pub options: CopyOptions,
    /// Every tag of the source repository that stands for referrers, where they are known and few.
    pub referrer_tags: Option<Arc<BTreeSet<Tag>>>,
    /// The class of the Job that copies it; `None` for this process.
    pub class: Option<String>,
    /// It was pushed just now.
    pub hurried: bool,
}

/// How a copy ended.
pub struct Outcome {
    /// The decision about the destination, as far as it came to one.
    pub permission: Decision,
    /// What is at the destination now, or why it failed.
    pub result: Result<Replica, Failed>,
}

/// Copies the image and reads it back. Without consent no request reaches the destination. `tell` is called when the copy begins,
/// now and then with the bytes that were read, and with `None` where it waits again.
pub async fn copy(context: &Arc<Context>, assignment: &Arc<Assignment>, tell: impl Fn(Option<u64>) + Send) -> Outcome {
    let permission = context.policies.decide(&assignment.request(Action::ReplicateImage)).await;
    if !permission.allowed {
        let failed = Failed::new(FailureCode::RegistryPermissionDenied, permission.message.clone());
        return Outcome { permission, result: Err(failed) };
    }
    let result = carry_out(context, assignment, &tell).await;
    let Err(failed) = result else { return Outcome { permission, result } };
    if failed.code != FailureCode::RegistryPermissionDenied {
        return Outcome { permission, result: Err(failed) };
    }
    // It was allowed when it began: what is denied now was revoked meanwhile.
    let permission = context.policies.decide(&assignment.request(Action::ReplicateImage)).await;
    let code = if permission.allowed { failed.code } else { FailureCode::PolicyRevoked };
    Outcome { permission, result: Err(Failed { code, ..failed }) }
}

async fn carry_out(
    context: &Arc<Context>,
    assignment: &Arc<Assignment>,
    tell: &(impl Fn(Option<u64>) + Send),
) -> Result<Replica, Failed> {
    let DestinationReference { namespace, name } = &assignment.destination;
    let not_ready = |message| Failed::new(FailureCode::RegistryNotReady, message);
    let registry = context
        .registry(namespace, name)
        .ok_or_else(|| not_ready(format!("there is no Registry {namespace}/{name}")))?;
    // What is wrong with a Registry of another namespace is its owner's to read, not ours.
    let own = *namespace == assignment.configuration.0;
    let destination = context.registries.client(&registry).await.map_err(|unusable| {
        not_ready(if own {
            format!("Registry {name}: {}", unusable.message)
        } else {
            format!("Registry {namespace}/{name} is not ready")
        })
    })?;
    let source = context.registries.client(&assignment.source).await.map_err(|unusable| not_ready(unusable.message))?;
    let create = registry.spec.create_repositories;
    let consent = Consent { context: context.clone(), assignment: assignment.clone(), create };
    let suspect = |is_source: bool| context.check_registry(if is_source { &assignment.source } else { &registry });
    if let Some(class) = &assignment.class {
        return copy_by_job(consent, (&registry, class), tell, suspect).await;
    }
    let _permit = context.copy_permits.acquire().await;
    tell(Some(0));
    let holder = Holder { session: IN_PROCESS.to_owned(), copy: format!("{:032x}", rand::random::<u128>()) };
    let authority = Granted { consent, holder };
    let progress = Progress::default();
    let task = ImageCopy {
        source: &source,
        source_repository: &assignment.repository,
        destination: &destination,
        destination_repository: &assignment.repository,
        tag: &assignment.tag,
        digest: &assignment.digest,
        options: &assignment.options,
        was_there: false,
        referrer_tags: assignment.referrer_tags.clone(),
        scope: MountScope::new(&assignment.uid),
        across_owners: !own,
        authority: &authority,
        progress: &progress,
    };
    let _holding = Holding { context, holder: &authority.holder };
    let copied = watched(Box::pin(context.engine.copy(&task)), &progress, context, tell).await;
    copied.map(Copied::replica).map_err(|error| {
        if let Some(is_source) = error.suspects_registry() {
            suspect(is_source);
        }
        Failed::from(error)
    })
}

/// The grants of a copy, which go back also when it is dropped.
struct Holding<'a> {
    context: &'a Context,
    holder: &'a Holder,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.context.office.give_back(self.holder);
    }
}

/// Does `work`, counting its bytes every second and telling them every [`TELL_EVERY`].
async fn watched<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    context: &Context,
    tell: &(impl Fn(Option<u64>) + Send),
) -> T {
    let mut work = std::pin::pin!(work);
    let (mut counted, mut told_at) = (0, Instant::now());
    loop {
        let done = tokio::time::timeout(COUNT_EVERY, &mut work).await;
        let bytes = progress.bytes();
        context.metrics.bytes.inc_by(bytes - counted);
        counted = bytes;
        if let Ok(done) = done {
            return done;
        }
        if told_at.elapsed() >= TELL_EVERY {
            told_at = Instant::now();
            tell(Some(bytes));
        }
    }
}

/// The session of the copies in this process: what another process holds is not theirs.
const IN_PROCESS: &str = "operator";
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often the bytes of a running image are told to those who write its status.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(5);
