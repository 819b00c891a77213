//! Requests to a scripted registry, and their answers.

use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenRequest {
    pub method: String,
    /// With the query, as it was asked for; of ECR's API with the action behind a `#`.
    pub path: String,
    /// 0 while there is no answer, and where the connection was broken in place of one.
    pub status: u16,
    /// Bytes of the request's body that came in.
    pub received: u64,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    /// True if it carried an `Authorization`.
    pub authorized: bool,
    /// True if it went to the other origin: the one that keeps blobs, or gives tokens.
    pub elsewhere: bool,
    /// The number of the connection that it came over.
    pub connection: usize,
    pub range: Option<String>,
    pub content_range: Option<String>,
    pub user_agent: String,
}

impl SeenRequest {
    /// `GET /v2/`, and so on.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Returns true if the method and a part of the path are these.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

#[derive(Default)]
pub(super) struct Log(Mutex<Vec<SeenRequest>>);

/// One line of the log, to be completed.
#[derive(Clone)]
pub(super) struct Entry {
    log: Arc<Log>,
    index: usize,
}

impl Log {
    pub(super) fn begin(self: &Arc<Self>, seen: SeenRequest) -> Entry {
        let mut lines = self.0.lock().expect("no holder panics");
        lines.push(seen);
        Entry { log: self.clone(), index: lines.len() - 1 }
    }

    /// Returns the number of requests but for those that ask whether this is a registry.
    pub(super) fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").iter().filter(|seen| seen.path != "/v2/").count()
    }

    pub(super) fn lines(&self) -> Vec<SeenRequest> {
        self.0.lock().expect("no holder panics").clone()
    }
}

impl Entry {
    pub(super) fn update(&self, change: impl FnOnce(&mut SeenRequest)) {
        change(&mut self.log.0.lock().expect("no holder panics")[self.index]);
    }
}
