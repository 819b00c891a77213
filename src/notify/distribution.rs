//! The event envelope of CNCF Distribution.

use serde::Deserialize;

use crate::image::{RepositoryName, Tag};

/// The tags that an envelope says were pushed. What is no envelope says nothing.
pub(super) fn pushed_tags(body: &[u8]) -> Vec<(RepositoryName, Tag)> {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let pushed = envelope.events.into_iter().filter(|event| event.action == "push");
    pushed.filter_map(|event| Some((event.target.repository.parse().ok()?, event.target.tag?.parse().ok()?))).collect()
}

#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    action: String,
    #[serde(default)]
    target: Target,
}

#[derive(Default, Deserialize)]
struct Target {
    #[serde(default)]
    repository: String,
    tag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pushes_of_tags_count() {
        let body = br#"{"events":[
            {"id":"1","action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00",
             "repository":"mservice","tag":"42","url":"http://evil.example.com/"}},
            {"id":"2","action":"push","target":{"repository":"mservice","digest":"sha256:00"}},
            {"id":"3","action":"pull","target":{"repository":"mservice","tag":"41"}},
            {"id":"4","action":"push","target":{"repository":"../etc","tag":"41"}}]}"#;
        let pushed: Vec<_> = pushed_tags(body).into_iter().map(|(r, t)| format!("{r}:{t}")).collect();
        assert_eq!(pushed, ["mservice:42"]);
    }

    #[test]
    fn garbage_says_nothing() {
        for body in [&b""[..], b"{}", b"[]", b"{\"events\":null}", b"\xff\xfe", b"{\"events\":[1]}"] {
            assert!(pushed_tags(body).is_empty());
        }
    }
}
