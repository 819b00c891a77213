//! One request on its way through the parts of the registry.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, Method};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::log::Entry;
use super::personality::{Over, Personality};
use super::shared::{RegistryState, Role};

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    /// Decoded, without the query.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) shared: Arc<RegistryState>,
    pub(super) role: Role,
    pub(super) personality: Arc<Personality>,
    body: BodyDataStream,
    entry: Entry,
    received: u64,
    cut_at: Option<u64>,
}

/// The connection is broken, or to be broken: no answer can be sent.
#[derive(Debug)]
pub(super) struct Gone;

/// The next piece of a body.
pub(super) enum Piece {
    Bytes(Bytes),
    /// The body is over what the personality takes.
    TooMuch,
}

impl Call {
    pub(super) fn new(
        request: Request,
        shared: Arc<RegistryState>,
        role: Role,
        personality: Arc<Personality>,
        entry: Entry,
        cut_at: Option<u64>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let path = parts.uri.path().replace("%3A", ":").replace("%3a", ":");
        let body = body.into_data_stream();
        let (method, headers) = (parts.method, parts.headers);
        Self { method, path, query, headers, shared, role, personality, body, entry, received: 0, cut_at }
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns true if the bearer token of the request is good and has a grant.
    pub(super) fn has_grant(&self, grant: &str) -> bool {
        let token = self.header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        self.shared.tokens.has(token, grant)
    }

    /// Returns the next piece of the body; nothing at its end.
    pub(super) async fn next_piece(&mut self) -> Result<Option<Piece>, Gone> {
        let Some(piece) = self.body.next().await else { return Ok(None) };
        let mut piece = piece.map_err(|_| Gone)?;
        if let Some(end) = self.cut_at {
            let left = usize::try_from(end - self.received).unwrap_or(usize::MAX);
            if left == 0 {
                return Err(Gone);
            }
            piece.truncate(left);
        }
        self.received += piece.len() as u64;
        let received = self.received;
        self.entry.update(|seen| seen.received = received);
        match self.personality.body_limit {
            Some((most, Over::Breaks)) if received > most => Err(Gone),
            Some((most, Over::Answers)) if received > most => Ok(Some(Piece::TooMuch)),
            _ => Ok(Some(Piece::Bytes(piece))),
        }
    }

    /// Returns the whole body; `Err(None)` if it is over `limit`.
    pub(super) async fn body(&mut self, limit: usize) -> Result<Option<Bytes>, Gone> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next_piece().await? {
            match piece {
                Piece::Bytes(piece) if whole.len() + piece.len() <= limit => whole.extend_from_slice(&piece),
                _ => return Ok(None),
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// Takes the rest of the body and does nothing with it: a refused client reads its answer before the connection
    /// closes.
    pub(super) async fn drain(&mut self) {
        while let Some(Ok(piece)) = self.body.next().await {
            self.received += piece.len() as u64;
        }
        let received = self.received;
        self.entry.update(|seen| seen.received = received);
    }

    /// Returns a URL of an origin of this registry.
    pub(super) fn url(&self, role: Role, path: &str) -> String {
        match role {
            Role::Registry => format!("http://{}{path}", self.shared.origin(role)),
            Role::Other => format!("http://{}{path}", by_name(self.shared.origin(role))),
        }
    }
}

/// The other origin goes by name, where that leads here: then it is another host, and not only another port.
pub(super) fn by_name(address: SocketAddr) -> String {
    if address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { address.to_string() }
}
