//! Advice on failures whose cause can be seen in an answer: what to change, and where.

use http::StatusCode;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::registry::error::{ErrorKind, Operation};
use crate::registry::http::hosts::official_image_advice;
use crate::registry::http::said::{Said, web_page};

/// Returns the advice on a refusal; `is_own` is true if it comes from the registry's own origin.
pub(super) fn on_refusal(
    status: StatusCode,
    said: &Said,
    is_own: bool,
    kind: ErrorKind,
    operation: &Operation,
) -> Option<String> {
    let text = said.text.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if status == StatusCode::BAD_REQUEST && is_own && says(&WANTS_HTTPS) {
        return Some(format!("this port speaks https: {WRITE_HTTPS}"));
    }
    if says(&WANTS_CERTIFICATE) {
        return Some(NO_CLIENT_CERTIFICATE.to_owned());
    }
    if matches!(kind, ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Denied)
        && let Some(advice) = official_image_advice(operation.host(), operation.repository())
    {
        return Some(advice);
    }
    (said.is_page && is_own).then(|| NO_REGISTRY.to_owned())
}

/// Describes a successful answer that is of no use: a web page by its title, and anything else by `otherwise`, which
/// reads like "has no field x".
pub(crate) fn unexpected(body: &[u8], otherwise: &str) -> String {
    match web_page(body) {
        Some(page) => format!("answered with {page}; {NO_REGISTRY}"),
        None => format!("the answer {otherwise}"),
    }
}

/// Returns the advice on an error of TLS; empty if there is none.
pub(super) fn on_tls(error: &rustls::Error) -> String {
    use AlertDescription::{BadCertificate, CertificateRequired};
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "; this port does not speak TLS: if it speaks http, write http:// in spec.url and set allowHTTP".to_owned()
        }
        rustls::Error::AlertReceived(CertificateRequired | BadCertificate) => format!("; {NO_CLIENT_CERTIFICATE}"),
        rustls::Error::InvalidCertificate(error) => on_certificate(error).to_owned(),
        _ => String::new(),
    }
}

/// Returns the advice on a certificate that is refused; empty if there is none.
fn on_certificate(error: &CertificateError) -> &'static str {
    use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer};
    match error {
        UnknownIssuer => {
            "; no authority of the system signed it: name that of the registry in spec.tls, or with --ca HOST=FILE"
        }
        Expired | ExpiredContext { .. } => {
            "; renew the certificate of the server, if the clock of this machine is right"
        }
        NotValidForName | NotValidForNameContext { .. } => {
            "; write a name of the certificate in spec.url, or have it issued for this one"
        }
        _ => "",
    }
}

/// Returns the advice on an answer over http that is not HTTP; empty if there is none.
pub(super) fn on_broken_http(cause: &str) -> String {
    match cause.contains("invalid HTTP version parsed") {
        true => format!("; if this port speaks https, {WRITE_HTTPS}"),
        false => String::new(),
    }
}

const WRITE_HTTPS: &str = "write https:// in spec.url";

/// The advice on an answer that is a web page.
const NO_REGISTRY: &str =
    "a registry does not answer so: check spec.url, and the proxy or login page in front of the registry";

const NO_CLIENT_CERTIFICATE: &str =
    "the server asks for a client certificate, and Transship sends none: let it accept a password or a token instead";

/// The words of servers that got http at a port for https: Go, nginx, Apache.
const WANTS_HTTPS: [&str; 3] = [
    "http request to an https server",
    "plain http request was sent to https port",
    "plain http to an ssl-enabled server port",
];

/// The words of nginx about a client without a certificate, or with a wrong one.
const WANTS_CERTIFICATE: [&str; 2] = ["no required ssl certificate was sent", "the ssl certificate error"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_can_be_seen_comes_with_its_remedy() {
        let advice = |status: u16, body: &str, operation: &Operation| {
            let (status, said) = (StatusCode::from_u16(status).unwrap(), Said::of(body.as_bytes()));
            let kind = if status == 401 { ErrorKind::Unauthorized } else { ErrorKind::Rejected };
            on_refusal(status, &said, true, kind, operation).unwrap_or_default()
        };
        let hub = Operation::new("docker.io", "listing the tags", "alpine");
        let operation = Operation::new("r.example", "listing the tags", "alpine");
        let table = [
            (400, "Client sent an HTTP request to an HTTPS server.\n", &operation, "https://"),
            (
                400,
                "<html><title>400 The plain HTTP request was sent to HTTPS port</title>",
                &operation,
                "this port speaks https",
            ),
            (400, "<html><title>400 No required SSL certificate was sent</title>", &operation, "client certificate"),
            (200, "<html><title>Sign in</title>", &operation, "check spec.url"),
            (401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, &hub, "library/alpine"),
            (401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, &operation, ""),
            (400, "bad", &hub, ""),
        ];
        for (status, body, operation, expected) in table {
            let found = advice(status, body, operation);
            assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{body}: {found}");
        }
    }

    #[test]
    fn an_error_of_tls_that_has_one_cause_comes_with_its_remedy() {
        let required = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(on_tls(&required).contains("client certificate"));
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(on_tls(&plain).contains("http://"));
        let certificate = |error| on_tls(&rustls::Error::InvalidCertificate(error));
        assert!(certificate(CertificateError::UnknownIssuer).contains("--ca HOST=FILE"));
        assert!(certificate(CertificateError::Expired).contains("renew the certificate"));
        assert!(certificate(CertificateError::NotValidForName).contains("spec.url"));
        assert_eq!(certificate(CertificateError::Revoked), "");
        assert_eq!(on_tls(&rustls::Error::DecryptError), "");
    }
}
