//! A small client for registries, independent of the project's own, to put images in and to see what is there.

use std::collections::BTreeSet;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::image::{Blob, DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_MANIFEST};
use super::tls::{TestAuthority, client_builder};

/// A client for one registry.
pub struct Pusher {
    url: String,
    client: Client,
    user: Option<(String, String)>,
}

impl Pusher {
    /// Returns a client without credentials, for a URL such as `http://127.0.0.1:5000`.
    pub fn new(url: &str) -> Self {
        let client = client_builder().user_agent("transship-test-pusher").build().expect("a client");
        Self { url: url.to_owned(), client, user: None }
    }

    /// Trusts this authority and no other.
    #[must_use]
    pub fn trusting(mut self, authority: &TestAuthority) -> Self {
        let root = Certificate::from_pem(authority.pem().as_bytes()).expect("the authority's certificate");
        let builder = Client::builder().user_agent("transship-test-pusher").no_proxy();
        self.client = builder.tls_certs_only([root]).build().expect("a client");
        self
    }

    /// Uses these credentials, with basic authentication or to get bearer tokens, as the registry asks for.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Pushes an image with everything below it under a tag, and gives its digest.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.push_below(repository, image).await;
        self.push_manifest(repository, tag, image).await
    }

    /// Pushes an image without a tag, and gives its digest.
    pub async fn push_untagged(&self, repository: &str, image: &Image) -> String {
        self.push(repository, &image.digest(), image).await
    }

    async fn push_below(&self, repository: &str, image: &Image) {
        for blob in &image.blobs {
            self.push_blob(repository, blob).await;
        }
        for child in &image.children {
            Box::pin(self.push_below(repository, child)).await;
            self.push_manifest(repository, &child.digest(), child).await;
        }
    }

    /// Pushes one blob, unless the repository has it.
    pub async fn push_blob(&self, repository: &str, blob: &Blob) {
        if self.has_blob(repository, &blob.digest).await {
            return;
        }
        let start = format!("{}/v2/{repository}/blobs/uploads/", self.url);
        let begun = self.send(Method::POST, &start, |request| request).await;
        assert_eq!(begun.status(), StatusCode::ACCEPTED, "{repository}: an upload begins");
        let location = begun.headers()[LOCATION].to_str().expect("a location in ASCII");
        let location = if location.starts_with('/') { format!("{}{location}", self.url) } else { location.to_owned() };
        let mark = if location.contains('?') { '&' } else { '?' };
        let finish = format!("{location}{mark}digest={}", blob.digest);
        let bytes = blob.bytes.clone();
        let octets = "application/octet-stream";
        let done = self.send(Method::PUT, &finish, |put| put.header(CONTENT_TYPE, octets).body(bytes.clone())).await;
        assert_eq!(done.status(), StatusCode::CREATED, "{repository}: the upload of {} ends", blob.digest);
    }

    /// Puts the manifest alone under a tag or its digest, and gives its digest.
    pub async fn push_manifest(&self, repository: &str, reference: &str, image: &Image) -> String {
        let put = self.put_manifest(repository, reference, image).await;
        let status = put.status();
        assert_eq!(status, StatusCode::CREATED, "{repository}:{reference}: {}", put.text().await.unwrap_or_default());
        image.digest()
    }

    /// Puts the manifest alone and gives whatever the registry answers.
    pub async fn put_manifest(&self, repository: &str, reference: &str, image: &Image) -> Response {
        let url = self.manifest_url(repository, reference);
        let body = bytes::Bytes::from(image.bytes.clone());
        self.send(Method::PUT, &url, |put| put.header(CONTENT_TYPE, &image.media_type).body(body.clone())).await
    }

    /// Returns the digest a tag points to, or `None` if there is no such tag.
    pub async fn digest_of(&self, repository: &str, reference: &str) -> Option<String> {
        let head = self.send(Method::HEAD, &self.manifest_url(repository, reference), accepting_manifests).await;
        match head.status() {
            StatusCode::OK => Some(head.headers()["docker-content-digest"].to_str().expect("a digest").to_owned()),
            StatusCode::NOT_FOUND => None,
            other => panic!("{repository}:{reference}: {other}"),
        }
    }

    /// Returns the manifest's own bytes, or `None` if it is not there.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let get = self.send(Method::GET, &self.manifest_url(repository, reference), accepting_manifests).await;
        match get.status() {
            StatusCode::OK => Some(get.bytes().await.expect("the manifest").to_vec()),
            StatusCode::NOT_FOUND => None,
            other => panic!("{repository}:{reference}: {other}"),
        }
    }

    /// Returns the tags of a repository, in order; none if there is no such repository.
    pub async fn tags(&self, repository: &str) -> BTreeSet<String> {
        let get = self.send(Method::GET, &format!("{}/v2/{repository}/tags/list?n=1000", self.url), |get| get).await;
        if get.status() == StatusCode::NOT_FOUND {
            return BTreeSet::new();
        }
        let list: Value = get.json().await.expect("a list of tags");
        list["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Returns true if a repository has a blob.
    pub async fn has_blob(&self, repository: &str, digest: &str) -> bool {
        self.blob_size(repository, digest).await.is_some()
    }

    /// Returns the bytes of a blob that a repository has.
    pub async fn blob_size(&self, repository: &str, digest: &str) -> Option<u64> {
        let url = format!("{}/v2/{repository}/blobs/{digest}", self.url);
        let head = self.send(Method::HEAD, &url, |head| head).await;
        match head.status() {
            StatusCode::OK => head.headers()[CONTENT_LENGTH].to_str().ok()?.parse().ok(),
            StatusCode::NOT_FOUND => None,
            other => panic!("{repository}@{digest}: {other}"),
        }
    }

    /// Returns the digests of what refers to a manifest: listed by the registry, or by the tag that stands in for its
    /// list.
    pub async fn referrers(&self, repository: &str, digest: &str) -> BTreeSet<String> {
        let listed =
            self.send(Method::GET, &format!("{}/v2/{repository}/referrers/{digest}", self.url), |get| get).await;
        let list = match listed.status() {
            StatusCode::OK => Some(listed.bytes().await.expect("the list").to_vec()),
            _ => self.manifest(repository, &digest.replace(':', "-")).await,
        };
        let list: Value = list.map(|list| serde_json::from_slice(&list).expect("a list in JSON")).unwrap_or_default();
        let entries = list["manifests"].as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect()
    }

    /// Deletes a manifest by its digest, or a tag where the registry can do that; gives the status.
    pub async fn delete_manifest(&self, repository: &str, reference: &str) -> StatusCode {
        self.send(Method::DELETE, &self.manifest_url(repository, reference), |delete| delete).await.status()
    }

    /// Returns the digests of everything that is really there below a tag: manifests, configurations and layers. Panics
    /// if something that a manifest names is missing.
    pub async fn copy_tree_digests(&self, repository: &str, reference: &str) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        let first = self.digest_of(repository, reference).await;
        let mut waiting = vec![first.unwrap_or_else(|| panic!("{repository}:{reference} is not there"))];
        while let Some(digest) = waiting.pop() {
            let bytes = self.manifest(repository, &digest).await;
            let bytes = bytes.unwrap_or_else(|| panic!("{repository}@{digest} is named and not there"));
            assert_eq!(super::image::sha256(&bytes), digest, "{repository}: a manifest that is what its digest says");
            let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest in JSON");
            let named = |field: &str| -> Vec<String> {
                let entries = manifest[field].as_array().cloned().unwrap_or_else(|| vec![manifest[field].clone()]);
                entries.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect()
            };
            for blob in named("config").into_iter().chain(named("layers")) {
                assert!(self.has_blob(repository, &blob).await, "{repository}: {blob} is named and not there");
                digests.insert(blob);
            }
            waiting.extend(named("manifests"));
            digests.insert(digest);
        }
        digests
    }

    fn manifest_url(&self, repository: &str, reference: &str) -> String {
        format!("{}/v2/{repository}/manifests/{reference}", self.url)
    }

    /// Sends a request, and once more with a token if the answer says how to get one.
    pub async fn send(&self, method: Method, url: &str, build: impl Fn(RequestBuilder) -> RequestBuilder) -> Response {
        let request = || build(self.client.request(method.clone(), url));
        let mut first = request();
        if let Some((user, password)) = &self.user {
            first = first.basic_auth(user, Some(password));
        }
        let answer = first.send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = challenge.and_then(|value| value.strip_prefix("Bearer ")) else { return answer };
        let token = self.token(challenge).await;
        request().bearer_auth(token).send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"))
    }

    /// Returns a new token for every request: nothing to keep, and nothing to expire.
    async fn token(&self, challenge: &str) -> String {
        let part = |name: &str| challenge.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        let realm = part("realm").expect("a challenge has a realm");
        let query = [("service", part("service")), ("scope", part("scope"))];
        let mut realm = url::Url::parse(realm).expect("a realm is a URL");
        for (name, value) in query {
            realm.query_pairs_mut().extend_pairs(value.map(|value| (name, value)));
        }
        let mut get = self.client.get(realm);
        if let Some((user, password)) = &self.user {
            get = get.basic_auth(user, Some(password));
        }
        let answer: Value = get.send().await.expect("a token server").json().await.expect("an answer in JSON");
        answer["token"].as_str().expect("the token server gives a token").to_owned()
    }
}

fn accepting_manifests(request: RequestBuilder) -> RequestBuilder {
    request.header(ACCEPT, [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", "))
}
