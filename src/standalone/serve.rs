//! `transship serve`: the operator without a cluster, from files and a state folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::access::FileContent;
use super::flags::{FileFlags, ServeFlags};
use super::output::{ImageResult, line};
use super::reader::{self, STANDARD_INPUT};
use super::registries::logins_file;
use super::signals::StopSignals;
use super::store::FileStore;
use super::wiring::{Mode, Wiring, stored};
use super::{UsageError, read, read_again};
use crate::admin::{self, Readiness};
use crate::copy::Copied;
use crate::heartbeats::Heartbeats;
use crate::listener;
use crate::notify;
use crate::plan::{CodedError, NamespacedName, RepositoryAddress, Standing};
use crate::registry::uploads_given_up;
use crate::replication::machine::Assignment;
use crate::replication::{Configurations, Store};
use crate::terms::{PairEnd, ReplicationStatusSpec};

/// Replicates what the files say until SIGTERM or SIGINT.
///
/// # Errors
/// [`UsageError`] names everything that is wrong with the files and flags at the start.
pub async fn serve(flags: ServeFlags) -> Result<ExitCode, UsageError> {
    // At once: until then SIGTERM and SIGHUP kill the process.
    let (signals, hang_up) = (StopSignals::catch()?, signal(SignalKind::hangup()).map_err(UsageError::Signals)?);
    // Before the files are read: a change meanwhile has them read again.
    let seen = fingerprint(&flags.files);
    if flags.files.files.iter().any(|file| file == Path::new(STANDARD_INPUT)) {
        return Err(UsageError::ServeFromStandardInput);
    }
    let content = read(&flags.files)?;
    let store = FileStore::open(Some(&flags.state), "transship serve")?.within(flags.envelope.limits());
    let listener = TcpListener::bind(flags.listen).await;
    let listener = listener.map_err(|error| UsageError::Listen { address: flags.listen, error })?;
    let wiring = Wiring::new(content, store, usize::from(flags.copies), Duration::ZERO, Some(Box::new(log)));
    let shutdown = CancellationToken::new();
    let configurations = Arc::new(Configurations::new(wiring.core.clone(), shutdown.clone()));
    let receiver = notify::Receiver {
        access: wiring.access.clone(),
        configurations: configurations.clone(),
        metrics: wiring.core.metrics.clone(),
    };
    let heartbeats = Heartbeats::default();
    let routes = notify::routes(receiver).merge(admin::routes(
        wiring.core.metrics.clone(),
        Readiness::default(),
        heartbeats.clone(),
    ));
    let mut server = tokio::spawn(listener::serve(listener, None, routes, shutdown.clone()));
    let mut beat = AbortOnDropHandle::new(tokio::spawn(wiring.core.clock.clone().beat()));
    warn_of_missing_tokens(&wiring.access.content());
    delete_removed(&wiring).await;
    seed_claims(&wiring);
    tracing::info!(listen = %flags.listen, state = %flags.state.display(), "serving");

    let store = wiring.store.clone();
    let mut serving = Serving { flags, seen, looked: None, wiring, configurations, heartbeats, template_check: None };
    serving.order();
    serving.configurations.all_have_started();
    serving.check_templates();
    let ended = async {
        tokio::select! { _ = &mut server => "the port", _ = &mut beat => "the clock" }
    };
    let code = serving.run(signals.token(), hang_up, ended).await;
    tracing::info!("ending");
    shutdown.cancel();
    serving.configurations.ended(DRAIN).await;
    uploads_given_up(GIVE_UP).await;
    if !server.is_finished() {
        let _ = tokio::time::timeout(DRAIN, server).await;
    }
    store.close()?;
    Ok(code)
}

struct Serving {
    flags: ServeFlags,
    /// The files as they were last read, well or not.
    seen: Fingerprint,
    /// The files at the last look.
    looked: Option<Fingerprint>,
    wiring: Wiring,
    configurations: Arc<Configurations>,
    heartbeats: Heartbeats,
    /// Asks the Registries with templates until all have answered.
    template_check: Option<AbortOnDropHandle<()>>,
}

impl Serving {
    /// Runs until a signal ends it, or a task that the process needs ends by itself; reads the files again when they
    /// change or SIGHUP comes.
    async fn run(
        &mut self,
        stop: &CancellationToken,
        mut hang_up: Signal,
        ended: impl Future<Output = &'static str>,
    ) -> ExitCode {
        let (mut looks, mut rounds, mut ended) = (every(LOOK_EVERY), every(ORDER_EVERY), pin!(ended));
        loop {
            self.heartbeats.beat("reading of files");
            let well = self.wiring.queues.iter().filter(|(_, slots)| !slots.stand_still());
            well.for_each(|(queue, _)| self.heartbeats.beat(queue));
            tokio::select! {
                () = stop.cancelled() => return ExitCode::SUCCESS,
                task = &mut ended => {
                    tracing::error!("{task} stands still: the process ends, to be started anew");
                    return ExitCode::FAILURE;
                }
                _ = hang_up.recv() => {
                    self.wiring.request();
                    self.look(true);
                }
                Some(_) = self.wiring.wakes.recv() => {
                    while self.wiring.wakes.try_recv().is_ok() {}
                    self.order();
                }
                _ = looks.tick() => self.look(false),
                // One that ended by a panic starts anew.
                _ = rounds.tick() => self.order(),
            }
        }
    }

    /// Reads the files if they have changed and stayed the same for a moment, or `is_forced`.
    fn look(&mut self, is_forced: bool) {
        let present = fingerprint(&self.flags.files);
        let is_still = self.looked.replace(present.clone()).is_some_and(|looked| looked == present);
        if is_forced || (is_still && present != self.seen) {
            self.reload(present);
        }
    }

    /// Puts the files in force, unless they are wrong or change while they are read.
    fn reload(&mut self, present: Fingerprint) {
        let earlier = self.wiring.access.content();
        let content = read_again(&self.flags.files, &earlier);
        if fingerprint(&self.flags.files) != present {
            return; // The next look that finds them still reads them.
        }
        self.seen = present;
        match content {
            Ok(content) => {
                let removed = removed(&earlier, &content);
                warn_of_missing_tokens(&content);
                self.wiring.access.replace(content);
                tracing::info!("the files were read again");
                removed.iter().for_each(|(namespace, name)| self.configurations.end(namespace, name));
                self.check_templates();
            }
            Err(error) => tracing::error!("the last files that were right stay in force: {error}"),
        }
        self.order();
    }

    /// Asks the Registries with templates what they are: one that lacks a setting blocks its configurations.
    fn check_templates(&mut self) {
        let (check, access, core) =
            (self.wiring.templates.clone(), self.wiring.access.clone(), self.wiring.core.clone());
        let ask = async move {
            loop {
                let (has_all, is_changed) = check.ask(&access.content()).await;
                if is_changed {
                    let _ = core.wakes.send(Vec::new()); // A closed channel means that the process ends.
                }
                if has_all {
                    return;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        self.template_check = Some(AbortOnDropHandle::new(tokio::spawn(ask)));
    }

    /// Gives every configuration its orders.
    fn order(&self) {
        for orders in self.wiring.orders(Mode::Serve) {
            let (store, of) = (self.wiring.store.clone(), orders.clone());
            self.configurations.order(orders, move || stored(&store, &of));
        }
    }
}

/// Warns of Registries whose notifications cannot be authenticated.
fn warn_of_missing_tokens(content: &FileContent) {
    content.documents.faults_of_tokens().for_each(|fault| tracing::warn!("{fault}"));
}

/// Returns the configurations that are no longer in the files.
fn removed(earlier: &FileContent, present: &FileContent) -> Vec<(String, String)> {
    let names = |content: &FileContent| {
        let configurations = content.documents.configurations.iter();
        configurations.map(|c| (c.namespace.clone(), c.name.clone())).collect::<Vec<_>>()
    };
    let kept = names(present);
    names(earlier).into_iter().filter(|name| !kept.contains(name)).collect()
}

/// Deletes the state of configurations that were removed from the files while no process ran: another one may write to
/// their destinations now.
async fn delete_removed(wiring: &Wiring) {
    let content = wiring.access.content();
    let is_kept = |namespace: &str, name: &str| {
        content.documents.configurations.iter().any(|c| c.namespace == namespace && c.name == name)
    };
    for (namespace, name) in wiring.store.configurations() {
        if is_kept(&namespace, &name) {
            continue;
        }
        tracing::info!("configuration {namespace}/{name} is not in the files: its state is deleted");
        for pair in wiring.store.load(&namespace, &name) {
            if let Err(error) = wiring.store.delete(&pair.identity).await {
                tracing::warn!("{error}");
            }
        }
    }
}

/// Claims what earlier processes wrote to, before any configuration starts: the first in the files has it where two
/// want it.
fn seed_claims(wiring: &Wiring) {
    let place = |end: &PairEnd| {
        // The uid of a Registry of files is its host.
        Some(RepositoryAddress { host: end.registry_ref.uid.clone(), repository: end.repository.parse().ok()? })
    };
    for orders in wiring.orders(Mode::Serve) {
        let pairs = wiring.stored(&orders).pairs;
        let mut claims = wiring.core.claims.lock();
        claims.introduce(&orders.holder.uid, &orders.namespace);
        let specs = pairs.iter().map(|pair| &pair.identity.spec);
        let has_consent = |spec: &&ReplicationStatusSpec| {
            let PairEnd { registry_ref: registry, repository } = &spec.destination;
            let namespace = registry.namespace.clone().unwrap_or_else(|| orders.namespace.clone());
            orders.decision(&NamespacedName { namespace, name: registry.name.clone() }, repository).allowed
        };
        for spec in specs.filter(has_consent) {
            if let (Some(source), Some(destination)) = (place(&spec.source), place(&spec.destination)) {
                let _ = claims.claim(&orders.holder, Standing::Accepted, &source, &destination);
            }
        }
    }
}

/// Logs an image that is there; the core logs one that failed.
fn log(assignment: &Assignment, copied: &Result<Copied, CodedError>) {
    if copied.is_ok() {
        tracing::info!("{}", line(&ImageResult::of_copy(assignment, copied.clone())));
    }
}

/// Returns a timer whose first tick comes after a whole period.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Changes when a file does that is read, or one comes or goes: those with documents, the docker configuration, the
/// certificates.
fn fingerprint(flags: &FileFlags) -> Fingerprint {
    let logins = logins_file(flags.docker_config.as_deref());
    let (documents, _) = reader::files(&flags.files);
    let files = documents.into_iter().chain(logins).chain(flags.ca.iter().map(|(_, file)| file.clone()));
    let state = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.map(|file| (file.clone(), state(&file))).collect()
}

/// The time of the last change of each file and its length; `None` if it is absent.
type Fingerprint = HashMap<PathBuf, Option<(SystemTime, u64)>>;

const LOOK_EVERY: Duration = Duration::from_millis(400);
/// The pause between rounds that look whether every configuration runs.
const ORDER_EVERY: Duration = Duration::from_secs(60);
/// The pause before Registries with templates that have not answered are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(15);
const DRAIN: Duration = Duration::from_secs(10);
/// The longest wait for registries to take the cancellation of uploads.
const GIVE_UP: Duration = Duration::from_secs(2);
