//! Faults on command: which requests meet them, and what happens then.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

/// The requests that meet a fault.
#[derive(Debug, Clone)]
pub struct When {
    /// Empty for any.
    method: &'static str,
    part: String,
    /// True if the path and query are `part`, and no more.
    is_whole: bool,
    skip: u32,
    times: u32,
}

impl When {
    /// Requests of this method (any if empty) whose path and query contain `part`; only the first of them.
    pub fn asked(method: &'static str, part: impl Into<String>) -> Self {
        Self { method, part: part.into(), is_whole: false, skip: 0, times: 1 }
    }

    /// Meets only requests whose path and query are no more than that.
    #[must_use]
    pub fn exactly(mut self) -> Self {
        self.is_whole = true;
        self
    }

    /// Meets the `n`th of them, counted from 1, not the first.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.skip = n - 1;
        self
    }

    /// Meets so many of them in a row.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Meets all of them from there on.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }
}

/// A treatment of one request.
#[derive(Debug, Clone)]
pub enum ScriptedFault {
    /// It is answered so, and nothing is done.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Bytes },
    /// It is answered with `first`, and then with `more` again and again, without end and without a length.
    Endless { status: u16, headers: Vec<(&'static str, String)>, first: &'static str, more: &'static str },
    /// It is answered with these headers in place of its own of the same names; one without a value is only taken away.
    Headers(Vec<(&'static str, String)>),
    /// Before it is looked at, the registry collects its garbage: blobs that no manifest names, of every repository.
    CollectGarbage,
    /// The connection breaks after so many bytes of the answer's body.
    CutAnswer(u64),
    /// The connection breaks after so many bytes of the request's body came in.
    CutRequest(u64),
    /// The request has its effect, and the connection breaks in place of the answer.
    LoseAnswer,
    /// There is never an answer.
    Hold,
    /// It is looked at later.
    Delay(Duration),
    /// It is carried out at once and answered later.
    AnswerLate(Duration),
    /// It is carried out later, also if the client does not wait for the answer.
    EffectLate(Duration),
    /// Each token that was given until then is no good any more, from this request on.
    ExpireTokens,
    /// The byte at this place of the answer's body is another one.
    Flip(u64),
    /// The answer's body ends after so many bytes as if it were whole.
    Shorten {
        after: u64,
        /// True if `Content-Length` states that length; else there is none.
        states_length: bool,
    },
}

impl ScriptedFault {
    /// Returns an answer with the error document of the specification.
    pub fn error(status: u16, code: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": "as the test wants it" }] }).to_string();
        Self::Answer { status, headers: vec![("content-type", "application/json".to_owned())], body: body.into() }
    }

    /// 429, with `Retry-After` if there is one.
    pub fn too_many(retry_after: Option<&str>) -> Self {
        let Self::Answer { status, mut headers, body } = Self::error(429, "TOOMANYREQUESTS") else { unreachable!() };
        headers.extend(retry_after.map(|value| ("retry-after", value.to_owned())));
        Self::Answer { status, headers, body }
    }
}

#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<(When, ScriptedFault)>>);

impl Faults {
    pub(super) fn add(&self, when: When, fault: ScriptedFault) {
        self.0.lock().expect("no holder panics").push((when, fault));
    }

    pub(super) fn clear(&self) {
        self.0.lock().expect("no holder panics").clear();
    }

    /// Returns the fault that this request meets; each request meets one at most, but counts for all.
    pub(super) fn next(&self, method: &str, path: &str) -> Option<ScriptedFault> {
        let mut found = None;
        for (when, fault) in self.0.lock().expect("no holder panics").iter_mut() {
            let is_met = if when.is_whole { path == when.part } else { path.contains(&when.part) };
            if !(when.method.is_empty() || when.method == method) || !is_met {
                continue;
            }
            if when.skip > 0 {
                when.skip -= 1;
            } else if when.times > 0 && found.is_none() {
                when.times = when.times.saturating_sub(u32::from(when.times != u32::MAX));
                found = Some(fault.clone());
            }
        }
        found
    }
}
