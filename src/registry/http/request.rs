//! A request that can be sent more than once.

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

/// A request whose body, if any, is in memory.
pub(crate) struct HttpRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl HttpRequest {
    /// Creates a request without headers and body.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None }
    }

    /// Returns this request for `url`, which may differ from its own after a redirect.
    pub(super) fn at(&self, url: &Url, authorization: Option<&HeaderValue>) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        *request.body_mut() = self.body.clone().map(Into::into);
        request
    }
}
