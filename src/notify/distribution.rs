//! The event envelope of CNCF Distribution.

use serde::Deserialize;

use crate::image::{Digest, RepositoryName, Tag};

/// Returns the tags that an envelope reports as pushed, with their digests. Anything else than an envelope reports
/// none.
pub(super) fn pushed_tags(body: &[u8]) -> Vec<(RepositoryName, Tag, Option<Digest>)> {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let pushed = envelope.events.into_iter().filter(|event| event.action == "push");
    let tags = pushed.filter_map(|PushEvent { target, .. }| {
        let digest = target.digest.and_then(|digest| digest.parse().ok());
        Some((target.repository.parse().ok()?, target.tag?.parse().ok()?, digest))
    });
    tags.collect()
}

#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    events: Vec<PushEvent>,
}

#[derive(Deserialize)]
struct PushEvent {
    #[serde(default)]
    action: String,
    #[serde(default)]
    target: PushTarget,
}

#[derive(Default, Deserialize)]
struct PushTarget {
    #[serde(default)]
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
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
        let pushed: Vec<_> = pushed_tags(body).into_iter().map(|(r, t, _)| format!("{r}:{t}")).collect();
        assert_eq!(pushed, ["mservice:42"]);
    }

    #[test]
    fn garbage_says_nothing() {
        for body in [&b""[..], b"{}", b"[]", b"{\"events\":null}", b"\xff\xfe", b"{\"events\":[1]}"] {
            assert!(pushed_tags(body).is_empty());
        }
    }
}
