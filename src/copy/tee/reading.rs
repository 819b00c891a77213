//! One reading of a blob that several destinations share.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::copy::memo::Memo;
use crate::copy::task::RepositoryKey;
use crate::image::{Descriptor, RepositoryName};
use crate::registry::{BlobStream, Client, ClientId, ErrorKind, RegistryError};

/// A blob that is read once; it is given up when nobody holds this any more.
pub(super) struct Reading {
    shared: Arc<Shared>,
    _driver: AbortOnDropHandle<()>,
}

/// What the task that reads and those it reads for have in common.
struct Shared {
    source: (Client, RepositoryName, Descriptor),
    window: Mutex<Window>,
    /// There is more, or an end.
    more: Notify,
    /// Somebody has taken something, or left.
    room: Notify,
    late: Arc<Memo<ClientId, Instant>>,
}

/// The part of the blob that somebody still needs.
struct Window {
    pieces: VecDeque<Bytes>,
    /// The number of the first piece.
    first: usize,
    bytes: u64,
    readers: HashMap<u64, Place>,
    /// Who is to come.
    awaited: HashSet<RepositoryKey>,
    joined: u64,
    is_open: bool,
    end: Option<Result<(), RegistryError>>,
}

/// Where a reader is.
struct Place {
    /// The piece that it takes next.
    at: usize,
    destination: ClientId,
}

/// One of those that a blob is read for.
pub(super) struct Reader {
    reading: Arc<Reading>,
    number: u64,
    /// How many bytes it has taken.
    taken: u64,
    /// What it reads by itself, once it has kept the others waiting: as it is asked for, and as it comes.
    asking: Option<BoxFuture<'static, Result<BlobStream, RegistryError>>>,
    alone: Option<BlobStream>,
}

impl Reading {
    /// Reads for those who join, and does not go on far before the `awaited` have.
    pub(super) fn start(
        (client, repository, blob): (&Client, &RepositoryName, &Descriptor),
        awaited: HashSet<RepositoryKey>,
        late: Arc<Memo<ClientId, Instant>>,
    ) -> Arc<Self> {
        let window = Window {
            pieces: VecDeque::new(),
            first: 0,
            bytes: 0,
            readers: HashMap::new(),
            awaited,
            joined: 0,
            is_open: false,
            end: None,
        };
        let shared = Arc::new(Shared {
            source: (client.clone(), repository.clone(), blob.clone()),
            window: Mutex::new(window),
            more: Notify::new(),
            room: Notify::new(),
            late,
        });
        let driver = tokio::spawn(drive(shared.clone()));
        Arc::new(Self { shared, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Joins if nothing is gone yet; and whether others are still awaited.
    pub(super) fn join(self: &Arc<Self>, destination: &RepositoryKey) -> (Option<Reader>, bool) {
        let mut window = self.shared.lock();
        let is_whole = window.first == 0 && !matches!(window.end, Some(Err(_)));
        let reader = is_whole.then(|| {
            let number = window.joined;
            window.joined += 1;
            window.readers.insert(number, Place { at: 0, destination: destination.0 });
            Reader { reading: self.clone(), number, taken: 0, asking: None, alone: None }
        });
        window.awaited.remove(destination);
        window.trim();
        let is_awaited = !window.awaited.is_empty();
        drop(window);
        self.shared.room.notify_one();
        (reader, is_awaited)
    }

    /// `destination` does not come any more; whether others are still awaited.
    pub(super) fn needs_not(&self, destination: &RepositoryKey) -> bool {
        let mut window = self.shared.lock();
        if window.awaited.remove(destination) {
            window.trim();
            self.shared.room.notify_one();
        }
        !window.awaited.is_empty()
    }
}

impl Reader {
    /// The bytes, once the source has answered.
    ///
    /// # Errors
    /// What the source answers with.
    pub(super) async fn open(self) -> Result<BlobStream, RegistryError> {
        let shared = self.reading.shared.clone();
        shared
            .wait(|window| match &window.end {
                Some(Err(error)) if !window.is_open => Some(Err(error.clone())),
                _ => window.is_open.then_some(Ok(())),
            })
            .await?;
        let pieces = futures::stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Some(Ok(piece)) => Some((Ok(piece), Some(reader))),
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
        // The source may have no place before those who were kept waiting have all of it. An empty piece says that it goes on.
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
        let taken = self.reading.shared.wait(|window| {
            let first = window.first;
            let Some(place) = window.readers.get_mut(&number) else { return Some(Taken::CutOff) };
            match window.pieces.get(place.at - first).cloned() {
                Some(piece) => {
                    place.at += 1;
                    window.trim();
                    Some(Taken::Piece(piece))
                }
                None => window.end.clone().map(Taken::End),
            }
        });
        let taken = taken.await;
        self.reading.shared.room.notify_one();
        taken
    }

    /// The rest of the blob, by a request of its own.
    fn read_alone(&self) -> BoxFuture<'static, Result<BlobStream, RegistryError>> {
        let (client, repository, blob) = self.reading.shared.source.clone();
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

impl Drop for Reader {
    fn drop(&mut self) {
        let mut window = self.reading.shared.lock();
        window.readers.remove(&self.number);
        window.trim();
        drop(window);
        self.reading.shared.room.notify_one();
    }
}

enum Taken {
    Piece(Bytes),
    End(Result<(), RegistryError>),
    CutOff,
}

/// Reads the blob as fast as it is taken. Whatever becomes of this, those who wait learn of an end.
async fn drive(shared: Arc<Shared>) {
    let _end = End(&shared);
    let (client, repository, blob) = &shared.source;
    let mut stream = match client.blob(repository, blob).await {
        Ok(stream) => stream,
        Err(error) => return shared.end(Err(error)),
    };
    shared.lock().is_open = true;
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

/// Ends a reading that ended without saying so.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let broken = || Err(RegistryError::new(ErrorKind::Unavailable, "reading the source broke off"));
        self.0.lock().end.get_or_insert_with(broken);
        self.0.more.notify_waiters();
    }
}

impl Shared {
    fn add(&self, piece: Bytes) {
        let mut window = self.lock();
        window.bytes += piece.len() as u64;
        window.pieces.push_back(piece);
        window.trim();
        drop(window);
        self.more.notify_waiters();
    }

    fn end(&self, end: Result<(), RegistryError>) {
        self.lock().end = Some(end);
        self.more.notify_waiters();
    }

    /// Waits until there is room for a piece. Whoever keeps others waiting for too long is not waited for any more; `starved` is for
    /// how long somebody has waited because of somebody slower.
    async fn have_room(&self, starved: &mut Duration) {
        loop {
            let (patience, is_starving) = {
                let window = self.lock();
                match (window.bytes < WINDOW, window.awaited.is_empty(), window.is_starving()) {
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
        let mut window = self.lock();
        let late = match window.awaited.is_empty() {
            true => window.cut_off(),
            false => window.awaited.drain().map(|(client, _)| client).collect(),
        };
        window.trim();
        drop(window);
        let now = Instant::now();
        late.into_iter().for_each(|client| self.late.note(client, now));
        self.more.notify_waiters();
    }

    /// Whether nobody needs the rest: nobody can join from now on.
    fn is_given_up(&self) -> bool {
        let mut window = self.lock();
        let is_given_up = window.readers.is_empty() && window.awaited.is_empty();
        if is_given_up {
            window.end = Some(Err(RegistryError::new(ErrorKind::Unavailable, "nobody needed it any more")));
        }
        is_given_up
    }

    /// What `look` finds, as soon as it finds something.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Window) -> Option<T>) -> T {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            more.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Drops what nobody needs any more.
    fn trim(&mut self) {
        let end = self.first + self.pieces.len();
        let needed = match self.awaited.is_empty() {
            true => self.readers.values().map(|place| place.at).min().unwrap_or(end),
            false => 0,
        };
        while self.first < needed {
            let Some(piece) = self.pieces.pop_front() else { break };
            self.bytes -= piece.len() as u64;
            self.first += 1;
        }
    }

    /// Whether somebody has taken everything, and somebody has not.
    fn is_starving(&self) -> bool {
        let end = self.first + self.pieces.len();
        self.readers.values().any(|place| place.at == end) && self.readers.values().any(|place| place.at < end)
    }

    /// Leaves behind those who are furthest behind, if somebody waits for them; who that is.
    fn cut_off(&mut self) -> Vec<ClientId> {
        if !self.is_starving() {
            return Vec::new();
        }
        let behind = self.readers.values().map(|place| place.at).min();
        self.readers.extract_if(|_, place| Some(place.at) == behind).map(|(_, place)| place.destination).collect()
    }
}

/// How far the fastest may be ahead of the slowest, and of those who have not come yet.
pub(super) const WINDOW: u64 = 512 * 1024;
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
const UNTIL_ALL_HAVE_COME: Duration = Duration::from_secs(1);
const UNTIL_ALL_HAVE_TAKEN: Duration = Duration::from_secs(5);
