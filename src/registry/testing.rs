//! A scripted HTTP server for the tests of this room, which records the requests it gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::image::{Descriptor, Digest};
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::logins::Logins;
use crate::registry::client::{Client, RegistryOptions};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::egress::EgressPolicy;
use crate::registry::http::pacer::RequestLimits;

/// A request that the server got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// True if the body had the announced length.
    pub(crate) is_complete: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns the method and the target, such as `GET /v2/`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// A response of the server.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The number of bytes of the body that are sent.
    sent: usize,
    /// True if the connection is kept open in silence afterwards.
    stalls: bool,
    /// The delays before each byte of the head, and of the body.
    drips: (Duration, Duration),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        Self { status, headers: Vec::new(), sent: body.len(), body, stalls: false, drips: Default::default() }
    }

    /// No bytes, and an open connection.
    pub(crate) fn silence() -> Self {
        Self::new(0, "")
    }

    /// Closes the connection without a response.
    pub(crate) fn reset(mut self) -> Self {
        self.status = 1;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sends the head byte by byte, each after this time.
    pub(crate) fn drip_head(mut self, each: Duration) -> Self {
        self.drips.0 = each;
        self
    }

    /// Sends the body byte by byte, each after this time.
    pub(crate) fn drip_body(mut self, each: Duration) -> Self {
        self.drips.1 = each;
        self
    }

    /// Sends only the first `sent` bytes of the body, then closes.
    pub(crate) fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }

    /// Sends only the first `sent` bytes of the body, then nothing.
    pub(crate) fn stall(mut self, sent: usize) -> Self {
        (self.sent, self.stalls) = (sent, true);
        self
    }
}

/// A server on a free port of 127.0.0.1, for as long as the runtime of the test lives.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `answer` gets the request, and the number of earlier ones with the same method and path.
    pub(crate) async fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), log.clone()));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns the first line of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits until a request that starts with `start` came in.
    pub(crate) async fn until_seen(&self, start: &str) {
        for _ in 0..200 {
            if self.count(start) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{start} was not seen, but {:?}", self.lines());
    }

    /// Creates a client without credentials.
    pub(crate) fn client(&self) -> Client {
        self.client_as(Credentials::Anonymous)
    }

    /// Creates a client without credentials and with other deadlines.
    pub(crate) fn client_with(&self, change: impl FnOnce(&mut Deadlines)) -> Client {
        let allow = [format!("127.0.0.1:{}", self.port).parse().unwrap()].into();
        let policy = EgressPolicy { allow, ..EgressPolicy::default() };
        let mut deadlines = deadlines();
        change(&mut deadlines);
        let options = options(&format!("http://127.0.0.1:{}", self.port), Credentials::Anonymous, &[]);
        Client::with_deadlines(options, Arc::new(policy), deadlines).unwrap()
    }

    /// Creates a client with several logins.
    pub(crate) fn client_of(&self, logins: Logins) -> Client {
        let allow = [format!("127.0.0.1:{}", self.port).parse().unwrap()].into();
        let policy = EgressPolicy { allow, ..EgressPolicy::default() };
        let options = options(&format!("http://127.0.0.1:{}", self.port), Credentials::Anonymous, &[]);
        Client::with_deadlines(RegistryOptions { logins, ..options }, Arc::new(policy), deadlines()).unwrap()
    }

    pub(crate) fn client_as(&self, credentials: Credentials) -> Client {
        self.client_trusting(credentials, &[], &[self])
    }

    /// Creates a client that trusts `trusted`; the administrator lists the ports of `listed` on this machine.
    pub(crate) fn client_trusting(&self, credentials: Credentials, trusted: &[String], listed: &[&Server]) -> Client {
        let hosts = listed.iter().flat_map(|server| ["127.0.0.1", "localhost"].map(|host| (host, server.port)));
        let allow = hosts.map(|(host, port)| format!("{host}:{port}").parse().unwrap()).collect();
        let policy = EgressPolicy { allow, ..EgressPolicy::default() };
        let options = options(&format!("http://127.0.0.1:{}", self.port), credentials, trusted);
        Client::with_deadlines(options, Arc::new(policy), deadlines()).unwrap()
    }
}

pub(crate) fn options(url: &str, credentials: Credentials, trusted: &[String]) -> RegistryOptions {
    RegistryOptions {
        url: url.parse().unwrap(),
        logins: credentials.into(),
        ca_bundle: None,
        trusted_hosts: trusted.to_vec(),
        limits: RequestLimits::of_concurrency(4),
        templates: Vec::new(),
    }
}

pub(crate) fn password() -> Credentials {
    Credentials::Basic { username: "user".to_owned(), password: "secret".into() }
}

/// Returns the descriptor of `content`.
pub(crate) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor { media_type: "x/y".to_owned(), digest: Digest::sha256(content), size: content.len() as u64 }
}

fn deadlines() -> Deadlines {
    Deadlines {
        idle: Duration::from_millis(150),
        headers: Duration::from_millis(1500),
        whole_body: Duration::from_secs(2),
        first_backoff: Duration::from_millis(2),
        last_backoff: Duration::from_millis(8),
        min_pause: Duration::from_millis(20),
        max_wait: Duration::from_millis(400),
        ..Deadlines::default()
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&Seen, usize) -> Reply>, log: Arc<Mutex<Vec<Seen>>>) {
    let Some(seen) = read_request(&mut stream).await else {
        return;
    };
    let path = |seen: &Seen| (seen.method.clone(), seen.target.split('?').next().map(str::to_owned));
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|other| path(other) == path(&seen)).count();
        log.push(seen.clone());
        before
    };
    let reply = answer(&seen, before);
    if reply.status == 1 {
        return;
    }
    if reply.status == 0 {
        return tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    let is_framed = |name: &str| ["content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str());
    if !reply.headers.iter().any(|(name, _)| is_framed(name)) {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if seen.method == "HEAD" { &[] } else { &reply.body[..reply.sent] };
    for (bytes, each) in [(head.as_bytes(), reply.drips.0), (body, reply.drips.1)] {
        let length = if each.is_zero() { bytes.len().max(1) } else { 1 };
        for piece in bytes.chunks(length) {
            tokio::time::sleep(each).await;
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
    }
    let _ = stream.flush().await;
    if reply.stalls {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen { method: first.next()?, target: first.next()?, headers, ..Seen::default() };
    let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    let _ = stream.take(length).read_to_end(&mut seen.body).await;
    seen.is_complete = seen.body.len() as u64 == length;
    Some(seen)
}
