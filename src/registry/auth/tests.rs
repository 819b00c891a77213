//! The authentication of the client.

use futures::future::join_all;

use crate::registry::testing::{Reply, Seen, Server, password};
use crate::registry::{Client, Credentials, ErrorKind, Logins, PathLogin};

const TAGS: &str = r#"{"tags":["v1"]}"#;

fn bearer(realm: &str) -> Reply {
    Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"registry\""))
}

/// Returns a registry that takes the tokens for which `takes` holds, and its token service, which counts them: `t0`,
/// `t1`, …
async fn registry(takes: impl Fn(&str, usize) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| match seen.target.split('?').next() {
        Some("/token") => Reply::new(200, format!(r#"{{"access_token":"t{before}","expires_in":300}}"#)),
        _ => match seen.header("authorization") {
            Some(token) if takes(token, before) => Reply::new(200, TAGS),
            _ => bearer(&format!("http://{}/token", seen.header("host").unwrap())),
        },
    })
    .await
}

async fn tags(client: &Client, repository: &str) -> Result<usize, ErrorKind> {
    let tags = client.tags(&repository.parse().unwrap()).await.map_err(|error| error.kind)?;
    Ok(tags.map_or(0, |tags| tags.len()))
}

fn token_requests(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.target.starts_with("/token")).collect()
}

#[tokio::test]
async fn a_token_is_got_once_for_a_scope_and_sent_at_once_from_then_on() {
    let server = registry(|token, _| token.starts_with("Bearer t")).await;
    let client = server.client_as(password());
    for repository in ["a", "a", "b"] {
        assert_eq!(tags(&client, repository).await, Ok(1));
    }
    let tokens = token_requests(&server);
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[0].target, "/token?service=registry&scope=repository%3Aa%3Apull");
    assert_eq!(tokens[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    assert_eq!(server.seen().len(), 6, "{:?}", server.lines());
}

#[tokio::test]
async fn many_requests_wait_for_one_token() {
    let server = registry(|token, _| token.starts_with("Bearer t")).await;
    let client = server.client();
    assert!(join_all((0..8).map(|_| tags(&client, "a"))).await.iter().all(Result::is_ok));
    assert_eq!(token_requests(&server).len(), 1);
    assert_eq!(token_requests(&server)[0].header("authorization"), None);
}

#[tokio::test]
async fn a_token_that_is_refused_later_is_renewed_once() {
    let server = registry(|token, before| token == if before < 3 { "Bearer t0" } else { "Bearer t1" }).await;
    let client = server.client_as(password());
    for _ in 0..4 {
        assert_eq!(tags(&client, "a").await, Ok(1));
    }
    assert_eq!(token_requests(&server).len(), 2);
}

#[tokio::test]
async fn credentials_that_are_never_enough_are_unauthorized_without_a_storm() {
    let server = registry(|_, _| false).await;
    let client = server.client_as(password());
    assert_eq!(tags(&client, "a").await, Err(ErrorKind::Unauthorized));
    assert_eq!(server.seen().len(), 3, "{:?}", server.lines());
    assert_eq!(tags(&client, "a").await, Err(ErrorKind::Unauthorized));
    assert_eq!(token_requests(&server).len(), 2);
}

#[tokio::test]
async fn a_realm_on_a_foreign_host_gets_nothing_and_the_error_names_the_field() {
    let thief = Server::start(|_, _| Reply::new(200, r#"{"token":"t"}"#)).await;
    let realm = format!("http://localhost:{}/token", thief.port);
    let server = Server::start(move |_, _| bearer(&realm)).await;
    let client = server.client_trusting(password(), &[], &[&server, &thief]);
    let error = client.ping().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.message.contains("trustedHosts") && error.message.contains("localhost"), "{error}");
    assert!(thief.seen().is_empty());

    let trusted = [format!("localhost:{}", thief.port)];
    let client = server.client_trusting(password(), &trusted, &[&server, &thief]);
    assert_eq!(client.ping().await.unwrap_err().kind, ErrorKind::Unauthorized);
    assert_eq!(thief.seen()[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[tokio::test]
async fn a_token_service_that_redirects_is_not_followed() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        target if target.starts_with("/token") => Reply::new(307, "").header("Location", "/elsewhere"),
        _ => bearer(&format!("http://{}/token", seen.header("host").unwrap())),
    })
    .await;
    let error = server.client_as(password()).ping().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    assert_eq!(server.count("GET /elsewhere"), 0);
}

#[tokio::test]
async fn a_token_service_that_refuses_is_named() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        target if target.starts_with("/token") => Reply::new(401, r#"{"details":"incorrect username"}"#),
        _ => bearer(&format!("http://{}/token", seen.header("host").unwrap())),
    })
    .await;
    let error = server.client_as(password()).ping().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.message.contains("token service") && !error.message.contains("secret"), "{error}");
    server.client().ping().await.expect("an anonymous client may be refused before it names a repository");
}

#[tokio::test]
async fn an_identity_token_is_traded_by_post() {
    let server = registry(|token, _| token == "Bearer t0").await;
    let client = server.client_as(Credentials::IdentityToken("refresh".into()));
    assert_eq!(tags(&client, "a").await, Ok(1));
    let request = &token_requests(&server)[0];
    let form = String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(request.line(), "POST /token");
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh"), "{form}");
    assert!(form.contains("scope=repository%3Aa%3Apull"), "{form}");
}

#[tokio::test]
async fn a_password_is_sent_after_the_first_challenge_and_at_once_from_then_on() {
    let server = Server::start(|seen, _| match seen.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") => Reply::new(200, TAGS),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = server.client_as(password());
    assert_eq!(tags(&client, "a").await, Ok(1));
    assert_eq!(tags(&client, "a").await, Ok(1));
    let sent: Vec<_> = server.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
    assert_eq!(tags(&server.client(), "a").await, Err(ErrorKind::Unauthorized));
}

#[tokio::test]
async fn the_name_of_a_scheme_is_read_in_any_case() {
    for scheme in ["bearer", "BEARER", "basic", "BASIC"] {
        let server =
            Server::start(move |seen, _| match (seen.target.split('?').next(), seen.header("authorization")) {
                (Some("/token"), _) => Reply::new(200, r#"{"token":"t"}"#),
                (_, Some("Bearer t" | "Basic dXNlcjpzZWNyZXQ=")) => Reply::new(200, TAGS),
                _ => {
                    let realm = format!("{scheme} realm=\"http://{}/token\"", seen.header("host").unwrap());
                    Reply::new(401, "").header("WWW-Authenticate", realm)
                }
            })
            .await;
        assert_eq!(tags(&server.client_as(password()), "a").await, Ok(1), "{scheme}");
    }
}

fn account(path: &str, username: &str) -> PathLogin {
    let credentials = Credentials::Basic { username: username.to_owned(), password: "secret".into() };
    PathLogin { path: path.to_owned(), credentials }
}

#[tokio::test]
async fn each_path_of_a_registry_is_read_with_its_own_account() {
    // `team`, `all` with the password `secret`.
    let (team, all) = ("Basic dGVhbTpzZWNyZXQ=", "Basic YWxsOnNlY3JldA==");
    for has_tokens in [false, true] {
        let server = Server::start(move |seen, _| {
            let target = seen.target.replace("%3A", ":").replace("%2F", "/");
            let right = if target.contains("team/") { team } else { all };
            let token = if target.contains("team/") { "team" } else { "all" };
            match (seen.header("authorization"), target.split('?').next()) {
                (Some(sent), Some("/token")) if sent == right => Reply::new(200, format!(r#"{{"token":"{token}"}}"#)),
                (Some(sent), _) if has_tokens && sent == format!("Bearer {token}") => Reply::new(200, TAGS),
                (Some(sent), _) if !has_tokens && sent == right => Reply::new(200, TAGS),
                _ if has_tokens => bearer(&format!("http://{}/token", seen.header("host").unwrap())),
                _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
            }
        })
        .await;
        let client = server.client_of(Logins::new(vec![account("", "all"), account("team", "team")], None));
        for repository in ["team/app", "other/app", "teams/app", "team/app"] {
            assert_eq!(tags(&client, repository).await, Ok(1), "{repository}, {has_tokens}");
        }
        client.ping().await.expect("the account for all of it");
    }
}

#[tokio::test]
async fn a_refusal_says_which_credentials_were_sent() {
    let basic =
        |password: &str| Logins::from(Credentials::Basic { username: "user".to_owned(), password: password.into() });
    let unused = Logins::new(Vec::new(), Some("it names the credential helper x".to_owned()));
    // logins; words of the message; words that are not in it
    let table = [
        (Logins::default(), "no credentials were sent", "refuses the credentials"),
        (unused, "no credentials were sent: it names the credential helper x", "refuses the credentials"),
        (basic("secret\n"), "ends in a line break", "no credentials were sent"),
        (basic("secret"), "answered 401", "no credentials were sent"),
    ];
    let with_tokens = Server::start(|seen, _| match seen.target.split('?').next() {
        Some("/token") => Reply::new(401, ""),
        _ => bearer(&format!("http://{}/token", seen.header("host").unwrap())),
    })
    .await;
    let with_passwords = Server::start(|_, _| Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x")).await;
    let forbidding = Server::start(|_, _| Reply::new(403, "")).await;
    for (logins, expected, unexpected) in table {
        for server in [&with_tokens, &with_passwords, &forbidding] {
            let tags = server.client_of(logins.clone()).tags(&"a".parse().unwrap()).await;
            let message = tags.unwrap_err().message.replace("answered 403", "answered 401");
            assert!(message.contains(expected) && !message.contains(unexpected), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
    let unknown = Server::start(|_, _| Reply::new(401, "").header("WWW-Authenticate", "Negotiate")).await;
    let error = unknown.client_as(password()).ping().await.unwrap_err();
    assert!(error.message.contains("in a way that is known (Basic or Bearer)"), "{error}");
}

#[tokio::test]
async fn credentials_never_show_when_printed() {
    assert_eq!(format!("{:?}", password()), "Basic(***)");
    assert_eq!(format!("{:?}", Credentials::IdentityToken("secret".into())), "IdentityToken(***)");
}
