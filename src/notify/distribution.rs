//! The event envelope of CNCF Distribution.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::image::{Digest, RepositoryName, Tag};

/// The content of one notification.
#[derive(Debug, Default)]
pub(super) struct Notification {
    /// The tags that it reports as pushed, with their digests.
    pub(super) pushed: Vec<(RepositoryName, Tag, Option<Digest>)>,
    /// The repositories in which it reports deletions: of a tag, of a manifest, or of the whole repository.
    pub(super) deleted_in: BTreeSet<RepositoryName>,
    /// The number of its parts that cannot be decoded.
    pub(super) skipped: usize,
    /// The first of them, for people: its place and the cause.
    pub(super) because: Option<String>,
}

impl Notification {
    /// Parses an envelope. An event that cannot be decoded is skipped and counted; it ends no other.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut notification = Self::default();
        match decode::<Envelope<'_>>(body) {
            Ok(envelope) => {
                let events = envelope.events.unwrap_or_default().into_iter().enumerate();
                events.for_each(|(index, event)| notification.take(index, event));
            }
            Err(cause) => notification.skip("the body is no event envelope", &cause),
        }
        notification
    }

    fn take(&mut self, index: usize, event: &RawValue) {
        match reported(event) {
            Ok(Some(ReportedChange::Pushed(pushed))) => self.pushed.push(pushed),
            Ok(Some(ReportedChange::DeletedIn(repository))) => drop(self.deleted_in.insert(repository)),
            Ok(None) => {}
            Err(cause) => self.skip(&format!("events[{index}]"), &cause),
        }
    }

    fn skip(&mut self, part: &str, cause: &str) {
        self.skipped += 1;
        self.because.get_or_insert_with(|| format!("{part}: {cause}").chars().take(MAX_CAUSE).collect());
    }
}

/// The content of one event.
enum ReportedChange {
    Pushed((RepositoryName, Tag, Option<Digest>)),
    DeletedIn(RepositoryName),
}

/// Returns the content of an event; `None` for an event of another action, or a push without a tag.
fn reported(event: &RawValue) -> Result<Option<ReportedChange>, String> {
    let EventAction { action } = decode(event.get().as_bytes())?;
    if !matches!(action.as_str(), "push" | "delete") {
        return Ok(None);
    }
    let TargetEvent { target } = decode(event.get().as_bytes())?;
    let repository =
        || target.repository.parse::<RepositoryName>().map_err(|error| format!("target.repository: {error}"));
    if action == "delete" {
        return repository().map(|repository| Some(ReportedChange::DeletedIn(repository)));
    }
    let Some(tag) = &target.tag else { return Ok(None) };
    let tag = tag.parse().map_err(|error| format!("target.tag: {error}"));
    let digest = target.digest.as_ref().and_then(|digest| digest.parse().ok());
    Ok(Some(ReportedChange::Pushed((repository()?, tag?, digest))))
}

/// Decodes an object. serde would take a list for the fields of one.
fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    events: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct EventAction {
    #[serde(default)]
    action: String,
}

#[derive(Deserialize)]
struct TargetEvent {
    target: EventTarget,
}

#[derive(Deserialize)]
struct EventTarget {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Characters of a cause: a parser repeats what it was given.
const MAX_CAUSE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(notification: &Notification) -> Vec<String> {
        notification.pushed.iter().map(|(repository, tag, _)| format!("{repository}:{tag}")).collect()
    }

    #[test]
    fn only_pushes_of_tags_count() {
        let body = br#"{"events":[
            {"id":"1","action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00",
             "repository":"mservice","tag":"42","url":"http://evil.example.com/"}},
            {"id":"2","action":"push","target":{"repository":"mservice","digest":"sha256:00"}},
            {"id":"3","action":"pull","target":{"repository":"mservice","tag":"41"}},
            {"id":"4","action":"mount","target":null}]}"#;
        let notification = Notification::parse(body);
        assert_eq!((pushed(&notification), notification.skipped), (vec!["mservice:42".to_owned()], 0));
    }

    #[test]
    fn a_deletion_says_in_which_repository_it_was() {
        let body = br#"{"events":[
            {"action":"delete","target":{"repository":"mservice","tag":"42"}},
            {"action":"delete","target":{"repository":"mservice","digest":"sha256:00"}},
            {"action":"delete","target":{"repository":"whole"}},
            {"action":"delete","target":{"repository":"../etc"}},
            {"action":"delete"}]}"#;
        let notification = Notification::parse(body);
        let names: Vec<&str> = notification.deleted_in.iter().map(RepositoryName::as_str).collect();
        assert_eq!((names, notification.skipped, pushed(&notification)), (vec!["mservice", "whole"], 2, vec![]));
    }

    #[test]
    fn an_event_that_cannot_be_decoded_spoils_no_other() {
        let good = r#"{"action":"push","target":{"repository":"a","tag":"1"}}"#;
        for (bad, cause) in [
            (r#"{"action":"push"}"#, "missing field `target`"),
            (r#"{"action":"push","target":null}"#, "invalid type: null"),
            (r#"{"action":"push","target":{"tag":"1"}}"#, "missing field `repository`"),
            (r#"{"action":"push","target":{"repository":"../etc","tag":"1"}}"#, "target.repository: "),
            (r#"{"action":"push","target":{"repository":"a","tag":"a b"}}"#, "target.tag: "),
            (r#"{"action":["push"]}"#, "invalid type"),
            ("7", "it is no JSON object"),
            ("null", "it is no JSON object"),
            (r#"["push",{"repository":"a","tag":"2"}]"#, "it is no JSON object"),
        ] {
            let notification = Notification::parse(format!(r#"{{"events":[{good},{bad},{good}]}}"#).as_bytes());
            assert_eq!((pushed(&notification), notification.skipped), (vec!["a:1".to_owned(); 2], 1), "{bad}");
            let because = notification.because.unwrap();
            assert!(because.starts_with("events[1]: ") && because.contains(cause), "{bad}: {because}");
        }
    }

    #[test]
    fn garbage_says_nothing_and_is_counted() {
        for (body, skipped) in [
            (&b""[..], 1),
            (b"{}", 0),
            (b"[]", 1),
            (b"{\"events\":null}", 0),
            (b"\xff\xfe", 1),
            (b"{\"events\":[1]}", 1),
            (b"{\"events\":7}", 1),
        ] {
            let notification = Notification::parse(body);
            assert_eq!((pushed(&notification), notification.skipped), (vec![], skipped), "{body:?}");
        }
        let long = format!(r#"{{"events":[{{"action":"push","target":"{}"}}]}}"#, "x".repeat(10_000));
        assert!(Notification::parse(long.as_bytes()).because.unwrap().len() <= MAX_CAUSE);
    }
}
