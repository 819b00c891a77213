//! One read of a blob that several destinations share.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::copy::memo::Memo;
use crate::copy::task::{ImageCopy, RepositoryKey};
use crate::image::{Descriptor, RepositoryName};
use crate::locked::Locked;
use crate::registry::{BlobStream, Client, ClientId, ErrorKind, RegistryError};

/// A blob that is read once; the read is given up when this is dropped.
pub(super) struct SharedRead {
    shared: Arc<ReadState>,
    _driver: AbortOnDropHandle<()>,
}

/// The state that the reading task shares with its branches.
struct ReadState {
    source: BlobSource,
    backlog: Locked<Backlog>,
    /// Notified when there is another piece, or the end.
    more: Notify,
    /// Notified when a branch has taken a piece, or left.
    room: Notify,
    late: Arc<Memo<ClientId, Instant>>,
}

/// The part of the blob that a branch still needs.
struct Backlog {
    pieces: VecDeque<Bytes>,
    /// The number of the first piece.
    first: usize,
    bytes: u64,
    branches: HashMap<u64, Position>,
    /// Destinations that are expected to join.
    awaited: HashSet<RepositoryKey>,
    joined: u64,
    is_open: bool,
    end: Option<Result<(), RegistryError>>,
}

/// The position of a branch.
struct Position {
    /// The number of the piece that it takes next.
    at: usize,
    destination: ClientId,
}

/// One destination's stream of the blob.
pub(super) struct Branch {
    read: Arc<SharedRead>,
    number: u64,
    /// The bytes that it has taken.
    taken: u64,
    /// The request of its own, once it has kept the others waiting.
    asking: Option<BoxFuture<'static, Result<BlobStream, RegistryError>>>,
    /// The answer to that request.
    alone: Option<BlobStream>,
}

/// A blob of a source repository.
#[derive(Clone)]
pub(super) struct BlobSource {
    client: Client,
    repository: RepositoryName,
    blob: Descriptor,
}

impl BlobSource {
    /// Returns the blob as `task` reads it.
    pub(super) fn of(task: &ImageCopy<'_>, blob: &Descriptor) -> Self {
        Self { client: task.source.clone(), repository: task.source_repository.clone(), blob: blob.clone() }
    }
}

impl SharedRead {
    /// Starts a read for the destinations that join. It does not go on far before the `awaited` ones have joined.
    pub(super) fn start(
        source: BlobSource,
        awaited: HashSet<RepositoryKey>,
        late: Arc<Memo<ClientId, Instant>>,
    ) -> Arc<Self> {
        let backlog = Backlog {
            pieces: VecDeque::new(),
            first: 0,
            bytes: 0,
            branches: HashMap::new(),
            awaited,
            joined: 0,
            is_open: false,
            end: None,
        };
        let shared = Arc::new(ReadState {
            source,
            backlog: Locked::new(backlog),
            more: Notify::new(),
            room: Notify::new(),
            late,
        });
        let driver = tokio::spawn(drive(shared.clone()));
        Arc::new(Self { shared, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Joins if no piece is gone yet. Returns true with it if other destinations are still awaited.
    pub(super) fn join(self: &Arc<Self>, destination: &RepositoryKey) -> (Option<Branch>, bool) {
        let mut backlog = self.shared.backlog.lock();
        let is_whole = backlog.first == 0 && !matches!(backlog.end, Some(Err(_)));
        let branch = is_whole.then(|| {
            let number = backlog.joined;
            backlog.joined += 1;
            backlog.branches.insert(number, Position { at: 0, destination: destination.0 });
            Branch { read: self.clone(), number, taken: 0, asking: None, alone: None }
        });
        backlog.awaited.remove(destination);
        backlog.trim();
        let is_awaited = !backlog.awaited.is_empty();
        drop(backlog);
        self.shared.room.notify_one();
        (branch, is_awaited)
    }

    /// Notes that `destination` does not come any more. Returns true if others are still awaited.
    pub(super) fn needs_not(&self, destination: &RepositoryKey) -> bool {
        let mut backlog = self.shared.backlog.lock();
        if backlog.awaited.remove(destination) {
            backlog.trim();
            self.shared.room.notify_one();
        }
        !backlog.awaited.is_empty()
    }
}

impl Branch {
    /// Returns the bytes, once the source has answered.
    ///
    /// # Errors
    /// The error of the source.
    pub(super) async fn open(self) -> Result<BlobStream, RegistryError> {
        let shared = self.read.shared.clone();
        shared
            .wait(|backlog| match &backlog.end {
                Some(Err(error)) if !backlog.is_open => Some(Err(error.clone())),
                _ => backlog.is_open.then_some(Ok(())),
            })
            .await?;
        let pieces = futures::stream::unfold(Some(self), |branch| async {
            let mut branch = branch?;
            match branch.next().await {
                Some(Ok(piece)) => Some((Ok(piece), Some(branch))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        Ok(pieces.boxed())
    }

    async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        if let Some(alone) = &mut self.alone {
            return alone.next().await;
        }
        if self.asking.is_none() {
            match self.take().await {
                Taken::Piece(piece) => {
                    self.taken += piece.len() as u64;
                    return Some(Ok(piece));
                }
                Taken::End(end) => return end.err().map(Err),
                Taken::CutOff => self.asking = Some(self.read_alone()),
            }
        }
        // The source may have no free connection until the waiting branches end: an empty piece shows progress.
        let Ok(opened) = tokio::time::timeout(SIGN_OF_LIFE, self.asking.as_mut()?).await else {
            return Some(Ok(Bytes::new()));
        };
        self.asking = None;
        match opened {
            Ok(stream) => self.alone.insert(stream).next().await,
            Err(error) => Some(Err(error)),
        }
    }

    async fn take(&mut self) -> Taken {
        let number = self.number;
        let taken = self.read.shared.wait(|backlog| {
            let first = backlog.first;
            let Some(position) = backlog.branches.get_mut(&number) else { return Some(Taken::CutOff) };
            match backlog.pieces.get(position.at - first).cloned() {
                Some(piece) => {
                    position.at += 1;
                    backlog.trim();
                    Some(Taken::Piece(piece))
                }
                None => backlog.end.clone().map(Taken::End),
            }
        });
        let taken = taken.await;
        self.read.shared.room.notify_one();
        taken
    }

    /// Reads the rest of the blob by a request of its own.
    fn read_alone(&self) -> BoxFuture<'static, Result<BlobStream, RegistryError>> {
        let BlobSource { client, repository, blob } = self.read.shared.source.clone();
        tracing::debug!(%repository, digest = %blob.digest, at = self.taken, "goes on alone");
        let mut to_skip = self.taken;
        async move {
            let rest = client.blob(&repository, &blob).await?.map(move |piece| {
                piece.map(|mut piece| {
                    let skipped = to_skip.min(piece.len() as u64);
                    piece.advance(skipped as usize);
                    to_skip -= skipped;
                    piece
                })
            });
            Ok(rest.boxed())
        }
        .boxed()
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        let mut backlog = self.read.shared.backlog.lock();
        backlog.branches.remove(&self.number);
        backlog.trim();
        drop(backlog);
        self.read.shared.room.notify_one();
    }
}

enum Taken {
    Piece(Bytes),
    End(Result<(), RegistryError>),
    CutOff,
}

/// Reads the blob as fast as it is taken. However this ends, waiting branches learn of an end.
async fn drive(shared: Arc<ReadState>) {
    let _end = EndGuard(&shared);
    let BlobSource { client, repository, blob } = &shared.source;
    let mut stream = match client.blob(repository, blob).await {
        Ok(stream) => stream,
        Err(error) => return shared.end(Err(error)),
    };
    shared.backlog.lock().is_open = true;
    shared.more.notify_waiters();
    let mut starved = Duration::ZERO;
    loop {
        match stream.next().await {
            Some(Ok(piece)) => {
                shared.have_room(&mut starved).await;
                if shared.is_given_up() {
                    return;
                }
                shared.add(piece);
            }
            Some(Err(error)) => return shared.end(Err(error)),
            None => return shared.end(Ok(())),
        }
    }
}

/// Ends the read for the branches when the reading task ends or is aborted.
struct EndGuard<'a>(&'a ReadState);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let broken = || Err(RegistryError::new(ErrorKind::Unavailable, "reading the source broke off"));
        self.0.backlog.lock().end.get_or_insert_with(broken);
        self.0.more.notify_waiters();
    }
}

impl ReadState {
    fn add(&self, piece: Bytes) {
        let mut backlog = self.backlog.lock();
        backlog.bytes += piece.len() as u64;
        backlog.pieces.push_back(piece);
        backlog.trim();
        drop(backlog);
        self.more.notify_waiters();
    }

    fn end(&self, end: Result<(), RegistryError>) {
        self.backlog.lock().end = Some(end);
        self.more.notify_waiters();
    }

    /// Waits until there is room for a piece. A branch that keeps others waiting for too long is not waited for any
    /// more; `starved` is the time that branches have waited for a slower one.
    async fn have_room(&self, starved: &mut Duration) {
        loop {
            let (patience, is_starving) = {
                let backlog = self.backlog.lock();
                match (backlog.bytes < MAX_AHEAD, backlog.awaited.is_empty(), backlog.is_starving()) {
                    (true, _, _) => return,
                    (false, false, _) => (UNTIL_ALL_HAVE_COME, false),
                    (false, true, true) => (UNTIL_ALL_HAVE_TAKEN.saturating_sub(*starved), true),
                    // They are all slower than the source, which is as it should be.
                    (false, true, false) => (UNTIL_ALL_HAVE_TAKEN, false),
                }
            };
            let began = Instant::now();
            let is_late = tokio::time::timeout(patience, self.room.notified()).await.is_err();
            if is_starving {
                *starved += began.elapsed();
            }
            if is_late {
                self.go_on_without();
            }
        }
    }

    fn go_on_without(&self) {
        let mut backlog = self.backlog.lock();
        let late = if backlog.awaited.is_empty() {
            backlog.cut_off()
        } else {
            backlog.awaited.drain().map(|(client, _)| client).collect()
        };
        backlog.trim();
        drop(backlog);
        let now = Instant::now();
        late.into_iter().for_each(|client| self.late.note(client, now));
        self.more.notify_waiters();
    }

    /// Returns true if no branch needs the rest: then none can join from now on.
    fn is_given_up(&self) -> bool {
        let mut backlog = self.backlog.lock();
        let is_given_up = backlog.branches.is_empty() && backlog.awaited.is_empty();
        if is_given_up {
            backlog.end = Some(Err(RegistryError::new(ErrorKind::Unavailable, "no copy needed it any more")));
        }
        is_given_up
    }

    /// Returns the result of `look` as soon as there is one.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Backlog) -> Option<T>) -> T {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if let Some(found) = look(&mut self.backlog.lock()) {
                return found;
            }
            more.await;
        }
    }
}

impl Backlog {
    /// Drops the pieces that no branch needs any more.
    fn trim(&mut self) {
        let end = self.first + self.pieces.len();
        let needed = if self.awaited.is_empty() {
            self.branches.values().map(|position| position.at).min().unwrap_or(end)
        } else {
            0
        };
        while self.first < needed {
            let Some(piece) = self.pieces.pop_front() else { break };
            self.bytes -= piece.len() as u64;
            self.first += 1;
        }
    }

    /// Returns true if one branch has taken every piece, and another has not.
    fn is_starving(&self) -> bool {
        let end = self.first + self.pieces.len();
        self.branches.values().any(|position| position.at == end)
            && self.branches.values().any(|position| position.at < end)
    }

    /// Removes the branches that are furthest behind, if another one waits for them. Returns their destinations.
    fn cut_off(&mut self) -> Vec<ClientId> {
        if !self.is_starving() {
            return Vec::new();
        }
        let behind = self.branches.values().map(|position| position.at).min();
        self.branches
            .extract_if(|_, position| Some(position.at) == behind)
            .map(|(_, position)| position.destination)
            .collect()
    }
}

/// Bytes by which the fastest branch may be ahead of the slowest, and of the destinations that have not come yet.
pub(super) const MAX_AHEAD: u64 = 512 * 1024;
/// The interval of the empty pieces of a branch that waits for a request of its own.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
const UNTIL_ALL_HAVE_COME: Duration = Duration::from_secs(1);
const UNTIL_ALL_HAVE_TAKEN: Duration = Duration::from_secs(5);
