//! Entry points for fuzzers: each passes untrusted bytes to one parser, and asserts its invariants.
//!
//! Tests run them on some thousand mutated examples each; the crate in `fuzz/` runs them without end.

use std::collections::{BTreeSet, HashSet};
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER, WWW_AUTHENTICATE};
use tokio::time::Instant;
use url::Url;

use crate::image::{Digest, MAX_DESCRIPTORS, Manifest, ManifestKind, Platform, RepositoryName, Tag};
use crate::registry::auth::challenge::{Challenge, challenges};
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::docker_config::{DockerConfig, is_host_like};
use crate::registry::auth::token::parse_token;
use crate::registry::content::blobs::content_range;
use crate::registry::error::HttpError;
use crate::registry::http::egress::HostPort;
use crate::registry::http::hosts::{Hosts, canonical_host};
use crate::registry::http::retry;
use crate::registry::http::said::Said;
use crate::registry::lists::link::{NextLink, next_link};
use crate::registry::lists::page::{NameField, read_page};
use crate::registry::vendors::google::PageDigests;

/// One parser under test.
pub struct FuzzTarget {
    /// The name of the binary in `fuzz/`.
    pub name: &'static str,
    /// Parses and asserts; returns true if the input was well-formed. Panics if an invariant does not hold.
    pub run: fn(&[u8]) -> bool,
    /// Well-formed inputs to start from.
    pub seeds: &'static [&'static str],
}

/// All parsers under test.
pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "challenge",
        run: challenge,
        seeds: &[
            "Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a:pull,push\"",
            "Basic realm=\"a\", Bearer realm=https://registry.example:5000/t",
            "Negotiate YII=, Basic realm=\"a \\\"quoted\\\" one\"\nBearer realm=\"http://auth.example/t\"",
        ],
    },
    FuzzTarget {
        name: "content_range",
        run: range,
        seeds: &["bytes 0-0/10", "bytes 5-9/*", "bytes 0-18446744073709551615/*"],
    },
    FuzzTarget { name: "digest", run: digest, seeds: &[SHA256, SHA512] },
    FuzzTarget {
        name: "docker_config",
        run: docker_config,
        seeds: &[
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpzZWNyZXQ="},"*.example:5000/team":{"username":"u","password":"p"}}}"#,
            r#"{"registry.example":{"identitytoken":"t","email":"a@b"}}"#,
            r#"{"auths":null,"credsStore":"x"}"#,
        ],
    },
    FuzzTarget {
        name: "error_envelope",
        run: error_envelope,
        seeds: &[
            r#"{"errors":[{"code":"DENIED","message":"see https://user:pass@s3.example/x?X-Amz-Signature=abc","detail":{}}]}"#,
            r#"{"errors":[{"code":"TOOMANYREQUESTS"},{"code":"X","message":"\u202etxt\u0007"}]}"#,
            r#"{"errors":[{"code":"A","message":"at /v2/x?a=b"}]}"#,
            r#"{"errors":[{"code":"A","message":"https:\u00ff//user:x2v?signed"}]}"#,
        ],
    },
    FuzzTarget {
        name: "host_pattern",
        run: host_pattern,
        seeds: &["*.example\na.example", "a*b*c.*\naxbybc.d", "*\nlocalhost"],
    },
    FuzzTarget {
        name: "host_port",
        run: host_port,
        seeds: &["registry.example:5000", "[::1]:80", "0x7f.1:443", "EXAMPLE.:1"],
    },
    FuzzTarget {
        name: "link",
        run: link,
        seeds: &["</v2/_catalog?last=b&n=2>; rel=\"next\"", "</a>; rel=prev, <?p=2>;rel=next"],
    },
    FuzzTarget {
        name: "location",
        run: location,
        seeds: &["/v2/a/blobs/uploads/1?_state=x", "https://cdn.example/x?sig=1", "http://auth.example/x", "?p=2"],
    },
    FuzzTarget {
        name: "manifest",
        run: manifest,
        seeds: &[
            "application/vnd.oci.image.manifest.v1+json\n{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0,\"urls\":[\"https://x\"]}],\"subject\":null}",
            "application/json; charset=utf-8\n {\"mediaType\":\"application/vnd.oci.image.index.v1+json\", \"manifests\":[{\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}],\"annotations\":{\"a\":\"b\"}}",
            "\n{\"manifests\":[]}",
        ],
    },
    FuzzTarget {
        name: "page",
        run: page,
        seeds: &[
            r#"{"name":"a","tags":["v1","-bad",7]}"#,
            r#"{"tags":null}"#,
            r#"{"repositories":["a"]}"#,
            GOOGLE_PAGE,
        ],
    },
    FuzzTarget { name: "platform", run: platform, seeds: &["linux/amd64", "linux/arm/v7", "windows/amd64"] },
    FuzzTarget {
        name: "realm",
        run: realm,
        seeds: &["https://registry.example:5000/token", "https://auth.example/t?x=y"],
    },
    FuzzTarget {
        name: "registry_url",
        run: registry_url,
        seeds: &["https://Registry.Example.:5000/", "http://[::1]:80", "https://docker.io"],
    },
    FuzzTarget { name: "repository", run: repository, seeds: &["a", "team/app", "a__b/c---d/e.f"] },
    FuzzTarget {
        name: "retry_after",
        run: retry_after,
        seeds: &["120", "1.5", "1m30.5s", "23.722us", "Fri, 15 May 2015 13:35:21 GMT", "1e3"],
    },
    FuzzTarget { name: "tag", run: tag, seeds: &["v1.2.3-rc_1", "latest", "_x"] },
    FuzzTarget {
        name: "token",
        run: token,
        seeds: &[r#"{"token":"t","expires_in":300}"#, r#"{"access_token":"t","expires_in":"1e400","issued_at":"x"}"#],
    },
];

/// Parses `WWW-Authenticate`, one header per line.
pub fn challenge(data: &[u8]) -> bool {
    let found = challenges(&headers(WWW_AUTHENTICATE, data));
    assert!(found.len() <= 16, "{} challenges", found.len());
    let written = found.iter().map(Challenge::to_string).collect::<Vec<_>>().join(", ");
    if written.len() <= 8 * 1024 {
        assert_eq!(challenges(&headers(WWW_AUTHENTICATE, written.as_bytes())), found, "{written}");
    }
    for offered in &found {
        offered.parameter("realm").into_iter().for_each(|text| _ = realm(text.as_bytes()));
    }
    !found.is_empty()
}

/// Judges the URL of a token service: credentials go to the registry itself, or to hosts that its owner trusts.
pub fn realm(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    match hosts().realm(text) {
        Ok(url) => {
            let place = (url.scheme(), url.host_str().unwrap_or_default(), url.port());
            let places = [("https", REGISTRY, Some(5000)), ("https", REGISTRY, None), ("https", TRUSTED, None)];
            let bare = (place.0, place.1.trim_end_matches('.'), place.2);
            assert!(places.contains(&bare), "{text:?} leads to {place:?}");
            assert!(url.username().is_empty() && url.password().is_none());
            true
        }
        Err(error) => is_safe(&error),
    }
}

/// Judges the location of a redirect or an upload session.
pub fn location(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    let hosts = hosts();
    let from = hosts.root();
    let is_allowed = |url: &Url| {
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
        assert!(url.scheme() == "https" || (url.scheme() == "http" && host(url) == TRUSTED), "{url}");
        assert!(url.host_str().is_some_and(|host| host.len() <= 255));
    };
    let led = [hosts.redirect(&from, text), hosts.upload(&from, text)];
    led.iter().flatten().for_each(is_allowed);
    if let Ok(page) = hosts.next_page(&from, &from, text) {
        assert!(hosts.is_own_origin(&page), "{page}");
        assert_eq!((host(&page), page.port(), page.scheme()), (REGISTRY.to_owned(), Some(5000), "https"));
    }
    led.into_iter().all(|led| led.map_or_else(|error| is_safe(&error), |_| true))
}

/// Parses `Link`: the next page of a list.
pub fn link(data: &[u8]) -> bool {
    let headers = headers(LINK, data);
    let NextLink::Target(target) = next_link(&headers) else { return false };
    let texts = headers.get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    assert!(texts.into_iter().any(|text| text.contains(&target)) && !target.contains('>'), "{target:?}");
    location(target.as_bytes());
    true
}

/// Parses `Content-Range`.
pub fn range(data: &[u8]) -> bool {
    let Some(range) = text(data).and_then(content_range) else { return false };
    let total = range.total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let again = content_range(&format!("bytes {}-{}/{total}", range.first, range.last)).expect("it is one");
    assert_eq!((range.first, range.last, range.total), (again.first, again.last, again.total));
    true
}

/// Parses `Retry-After`.
pub fn retry_after(data: &[u8]) -> bool {
    let wait = retry::asked_wait(&headers(RETRY_AFTER, data));
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(30 * 24 * 3600)), "{wait:?}");
    wait.is_some()
}

/// Parses the name of a repository.
pub fn repository(data: &[u8]) -> bool {
    parsed::<RepositoryName>(data).is_some_and(|name| {
        assert!(name.as_str().len() <= RepositoryName::MAX_LENGTH && !name.as_str().ends_with('/'));
        let url = hosts().of(&name, "tags/list");
        assert_eq!(url.path(), format!("/v2/{name}/tags/list"), "a name is a path");
        true
    })
}

/// Parses a tag.
pub fn tag(data: &[u8]) -> bool {
    parsed::<Tag>(data).is_some_and(|tag| is_one_segment(tag.as_str()))
}

/// Parses a digest.
pub fn digest(data: &[u8]) -> bool {
    parsed::<Digest>(data).is_some_and(|digest| {
        let expected = if digest.as_str().starts_with("sha512:") { 128 } else { 64 };
        assert_eq!(digest.encoded().len(), expected);
        assert!(digest.encoded().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert!(!digest.verifies(digest.as_str().as_bytes()));
        is_one_segment(digest.as_str())
    })
}

/// Parses a platform.
pub fn platform(data: &[u8]) -> bool {
    parsed::<Platform>(data).is_some()
}

/// Parses a host and port, as an administrator lists it.
pub fn host_port(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    match text.parse::<HostPort>() {
        Ok(found) => {
            assert_eq!(found.to_string().parse::<HostPort>().as_ref(), Ok(&found), "{text:?}");
            true
        }
        Err(error) => is_shown(&error, 1000),
    }
}

/// Parses the URL of a registry: its canonical host names the same registry.
pub fn registry_url(data: &[u8]) -> bool {
    let Some(url) = text(data).and_then(|text| Url::parse(text).ok()) else { return false };
    let Ok(hosts) = Hosts::new(&url, &[], &[]) else { return false };
    let again = Url::parse(&format!("{}://{}", url.scheme(), hosts.host())).expect("a canonical host is a host");
    assert_eq!(canonical_host(&again), hosts.host(), "{url}");
    true
}

/// Parses a manifest or index, behind a line with its content type.
pub fn manifest(data: &[u8]) -> bool {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let content_type = std::str::from_utf8(&data[..at]).ok().filter(|text| !text.is_empty());
    let document = Bytes::copy_from_slice(data.get(at + 1..).unwrap_or_default());
    let manifest = match Manifest::parse(content_type, document.clone()) {
        Ok(manifest) => manifest,
        Err(error) => return is_shown(&error, 2000),
    };
    assert_eq!(manifest.bytes, document, "the bytes are left alone");
    assert!(manifest.digest.verifies(&document) && manifest.media_type.len() <= 255);
    let value: serde_json::Value =
        serde_json::from_str(&String::from_utf8_lossy(&document)).expect("a manifest is JSON");
    let has = |field: &str| value.get(field).is_some_and(|value| !value.is_null());
    let (listed, is_index) = match &manifest.kind {
        ManifestKind::Image { blobs, .. } => (blobs, false),
        ManifestKind::Index { children } => (children, true),
    };
    let has_null = value.get("manifests").is_some_and(serde_json::Value::is_null);
    let is_index_of_null = is_index && has_null && listed.is_empty();
    let has_index = has("manifests") || is_index_of_null;
    assert_eq!((is_index, !is_index), (has_index, has("config") || has("layers") || has("blobs")));
    assert!(
        listed.len() <= MAX_DESCRIPTORS
            && listed.iter().map(|d| &d.digest).collect::<HashSet<_>>().len() == listed.len()
    );
    assert!(is_index || listed.iter().skip(1).all(|blob| !blob.media_type.contains(".foreign.")));
    true
}

/// Parses the body of a refusal.
pub fn error_envelope(data: &[u8]) -> bool {
    let Said { codes, text, .. } = Said::of(data);
    assert!(codes.len() <= 100);
    is_shown(&text, 1000);
    for word in text.split(' ') {
        let has_query = |(front, query): (&str, &str)| front.contains('/') || query.contains('=');
        assert!(!word.split_once('?').is_some_and(has_query), "a query in {text:?}");
        assert!(!word.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or(rest).contains('@')));
    }
    !codes.is_empty()
}

/// Parses a docker configuration: its debug output holds no password.
pub fn docker_config(data: &[u8]) -> bool {
    let Ok(config) = DockerConfig::parse(data) else { return false };
    let repository = "team/app".parse().ok();
    for host in ["docker.io", "registry.example", "a.example:5000"] {
        if let Credentials::Basic { .. } | Credentials::IdentityToken(_) =
            config.logins_for(host).credentials(repository.as_ref())
        {
            assert!(format!("{config:?}").contains("***"));
        }
    }
    true
}

/// Matches a pattern of hosts and a host, one per line, and compares with a matcher that is slow and plain.
pub fn host_pattern(data: &[u8]) -> bool {
    let Some((pattern, host)) = text(data).and_then(|text| text.split_once('\n')) else { return false };
    let found = is_host_like(pattern, host);
    if data.len() <= 256 {
        assert_eq!(found, plainly_matches(pattern, host), "{pattern:?} {host:?}");
    }
    found
}

/// Parses a page of tags and repositories.
pub fn page(data: &[u8]) -> bool {
    let tags = read_page::<Tag>(data, NameField::Tags, &|_| true);
    let names = read_page::<RepositoryName>(data, NameField::Repositories, &|_| true);
    if let Some(page) = &tags {
        let some = read_page::<Tag>(data, NameField::Tags, &|tag| tag.as_str().len() % 2 == 0).expect("the same page");
        assert!(some.kept.iter().all(|tag| page.kept.contains(tag)) && some.invalid == page.invalid);
        assert!(page.kept.len() + page.invalid.count <= data.len() && (page.kept.is_empty() || !page.is_empty()));
    }
    if let Some(manifests) = tags.as_ref().and_then(|page| page.manifests) {
        let (mut digests, every) = (PageDigests::default(), tags.iter().flat_map(|page| page.kept.clone()).collect());
        digests.add(manifests, &|_| true);
        assert!([0, BTreeSet::len(&every)].contains(&digests.of(&every).len()));
    }
    tags.is_some() || names.is_some()
}

/// Parses the document of a token service.
pub fn token(data: &[u8]) -> bool {
    let now = Instant::now();
    parse_token(data, now).is_some_and(|token| {
        assert!(token.header.is_sensitive() && token.header.as_bytes().starts_with(b"Bearer "));
        assert!(token.renew_at >= now && token.renew_at <= now + Duration::from_secs(86_400));
        true
    })
}

fn parsed<T: FromStr + Display + Debug + PartialEq>(data: &[u8]) -> Option<T>
where
    T::Err: Display,
{
    let text = text(data)?;
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value));
            Some(value)
        }
        Err(error) => {
            is_shown(&error, 1000);
            None
        }
    }
}

/// Asserts that `text` is one segment of a path, and remains one in a URL.
fn is_one_segment(text: &str) -> bool {
    let url = hosts().of(&"a".parse().expect("a name"), &format!("manifests/{text}"));
    assert_eq!(url.path(), format!("/v2/a/manifests/{text}"));
    assert!(url.query().is_none() && url.fragment().is_none());
    true
}

/// Asserts that a message may be shown. Returns false, so that it can end a function.
fn is_shown(message: &impl Display, max: usize) -> bool {
    let text = message.to_string();
    assert!(text.chars().count() <= max, "{} characters", text.chars().count());
    let is_fit = |c: char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(text.chars().all(is_fit), "{text:?}");
    false
}

/// Asserts that the message of an error names no query, user or fragment. Returns false.
fn is_safe(error: &HttpError) -> bool {
    assert!(!error.detail.contains(['?', '@', '#']), "{}", error.detail);
    is_shown(&error.detail, 1000)
}

fn plainly_matches(pattern: &str, host: &str) -> bool {
    fn label(pattern: &[char], text: &[char]) -> bool {
        let mut row: Vec<bool> = (0..=text.len()).map(|at| at == 0).collect();
        for c in pattern {
            let mut next = vec![*c == '*' && row[0]];
            for (at, found) in text.iter().enumerate() {
                next.push(if *c == '*' { next[at] || row[at + 1] } else { row[at] && c == found });
            }
            row = next;
        }
        row[text.len()]
    }
    let split = |text: &str| text.split('.').map(|label| label.chars().collect::<Vec<_>>()).collect::<Vec<_>>();
    let (patterns, labels) = (split(pattern), split(host));
    patterns.len() == labels.len() && patterns.iter().zip(&labels).all(|(pattern, text)| label(pattern, text))
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

fn headers(name: HeaderName, data: &[u8]) -> HeaderMap {
    let values = data.split(|b| *b == b'\n').take(64).filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn hosts() -> Hosts {
    let url = format!("https://{REGISTRY}:5000").parse().expect("a URL");
    Hosts::new(&url, &[TRUSTED.to_owned()], &[]).expect("valid hosts")
}

const REGISTRY: &str = "registry.example";
const TRUSTED: &str = "auth.example";
const SHA256: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const GOOGLE_PAGE: &str = r#"{"tags":["v1"],"manifest":{"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a":{"tag":["v1"]}}}"#;
const SHA512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

#[cfg(test)]
mod tests;
