//! Lists of hostile and odd registries.

use std::time::Duration;

use crate::image::{RepositoryName, Tag};
use crate::registry::ErrorKind;
use crate::registry::testing::{Reply, Server};

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

async fn tags_of(body: &'static str) -> Result<Option<Vec<String>>, ErrorKind> {
    let server = Server::start(move |_, _| Reply::new(200, body)).await;
    let tags = server.client().tags(&repository()).await.map_err(|error| error.kind)?;
    Ok(tags.map(|tags| tags.iter().map(ToString::to_string).collect()))
}

#[tokio::test]
async fn pages_are_followed_as_they_are_linked() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        "/v2/_catalog?n=1000" => Reply::new(200, r#"{"repositories":["b","UPPER"]}"#)
            .header("Link", "</v2/_catalog?next=x%3D>; rel=\"next\""),
        "/v2/_catalog?next=x%3D" => Reply::new(200, r#"{"repositories":["a","b"]}"#),
        _ => Reply::new(400, ""),
    })
    .await;
    let listed = server.client().repositories().await.unwrap();
    let names: Vec<_> = listed.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(listed.invalid.to_string(), r#"1 name that is not valid, such as "UPPER""#);
}

#[tokio::test]
async fn names_that_are_not_valid_are_counted_over_all_pages() {
    let server = Server::start(|_, page| match page {
        0 => Reply::new(200, r#"{"tags":["v1","a/b","https://u:p@r.example/x?sig=1"]}"#)
            .header("Link", "<?last=v1>; rel=next"),
        _ => Reply::new(200, r#"{"tags":["v2","a/b",7]}"#),
    })
    .await;
    let listing = server.client().tags_and_digests(&repository(), &|_| true).await.unwrap().unwrap();
    assert_eq!((listing.tags.len(), listing.left_out), (2, 0));
    let text = listing.invalid.to_string();
    assert_eq!(text, r#"4 names that are not valid, such as "a/b", "https://r.example/x""#);
}

#[tokio::test]
async fn odd_pages_are_read_and_wrong_ones_refused() {
    let three = || Ok(Some(vec!["v1".to_owned(), "v2".to_owned()]));
    assert_eq!(tags_of(r#"{"name":"x","tags":["v2","v1","-bad","a/b",7]}"#).await, three());
    assert_eq!(tags_of(r#"{"tags":null}"#).await, Ok(Some(Vec::new())));
    for body in ["{}", "[]", "<html>", r#"{"tags":{}}"#, ""] {
        assert_eq!(tags_of(body).await, Err(ErrorKind::InvalidContent), "{body}");
    }
}

#[tokio::test]
async fn a_link_that_goes_in_a_circle_ends() {
    // A proxy that drops the query answers so, whatever follows.
    let server =
        Server::start(|_, _| Reply::new(200, r#"{"tags":["v1"]}"#).header("Link", "<?last=a>; rel=next")).await;
    let error = server.client().tags(&repository()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidContent, "{error}");
    let words = ["repeats the one before it", "Link: <?last=a>; rel=next", "pass on the query"];
    assert!(words.iter().all(|words| error.message.contains(words)), "{error}");
    let server = Server::start(|_, page| {
        let tags = if page == 0 { r#"["v1"]"# } else { "[]" };
        Reply::new(200, format!(r#"{{"tags":{tags}}}"#)).header("Link", "<?last=v1>; rel=next")
    })
    .await;
    let listed = server.client().tags(&repository()).await.unwrap().unwrap();
    assert_eq!(listed.len(), 1, "nothing follows an empty page");
    let server = Server::start(|_, before| {
        let page = if before < 3 { before } else { 1 };
        Reply::new(200, format!(r#"{{"tags":["v{before}"]}}"#)).header("Link", format!("<?page={page}>; rel=next"))
    })
    .await;
    let error = server.client().tags(&repository()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidContent, "{error}");
    assert!(error.message.contains("go in a circle; the registry sent Link: <?page=1>; rel=next"), "{error}");
}

#[tokio::test]
async fn a_further_page_that_is_refused_shows_the_header_and_the_remedy() {
    for status in [400, 403, 404, 410] {
        let server = Server::start(move |_, page| match page {
            0 => Reply::new(200, r#"{"tags":["v1"]}"#).header("Link", "</v2/team/app/tags/list?last=v1>; rel=next"),
            _ => Reply::new(status, ""),
        })
        .await;
        let error = server.client().tags(&repository()).await.unwrap_err();
        let words = "; the registry sent Link: </v2/team/app/tags/list?last=v1>; rel=next; ";
        assert!(error.message.contains(&format!("answered {status}")) && error.message.contains(words), "{error}");
        assert!(error.message.contains("pass on the query"), "{error}");
    }
}

#[tokio::test]
async fn a_next_page_on_another_host_is_refused() {
    let server = Server::start(|_, _| {
        Reply::new(200, r#"{"tags":[]}"#).header("Link", "<https://evil.example/v2/>; rel=\"next\"")
    })
    .await;
    assert_eq!(server.client().tags(&repository()).await.unwrap_err().kind, ErrorKind::InvalidContent);
}

#[tokio::test]
async fn lists_and_pages_that_are_too_large_are_refused() {
    let server = Server::start(|_, _| Reply::new(200, "").header("Content-Length", 9 << 20)).await;
    assert_eq!(server.client().tags(&repository()).await.unwrap_err().kind, ErrorKind::TooLarge);
    let server = Server::start(|_, page| {
        let tags: Vec<_> = (0..60_000).map(|n| format!("\"{page:060}-{n:060}\"")).collect();
        Reply::new(200, format!(r#"{{"tags":[{}]}}"#, tags.join(","))).header("Link", format!("<?p={page}>; rel=next"))
    })
    .await;
    let error = server.client().tags(&repository()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    assert!(error.message.contains("tags take over 32 MiB: narrow tagFilters"), "{error}");
}

#[tokio::test]
async fn a_list_of_a_quarter_of_a_million_tags_is_kept_whole() {
    let server = Server::start(|_, page| {
        let tags: Vec<_> = (0..50_000).map(|n| format!("\"v{page}-{n}\"")).collect();
        let reply = Reply::new(200, format!(r#"{{"tags":[{}]}}"#, tags.join(",")));
        if page < 4 { reply.header("Link", format!("<?last={page}>; rel=next")) } else { reply }
    })
    .await;
    let tags = server.client().tags(&repository()).await.unwrap().unwrap();
    assert_eq!(tags.len(), 250_000);
}

#[tokio::test]
async fn all_that_is_wanted_is_kept_in_any_order_and_however_often_it_comes() {
    let server = Server::start(|_, page| {
        let tags: Vec<_> = (0..100).map(|n| format!("\"v{}\"", (page / 2 * 100 + n) * 7_919 % 1_000)).collect();
        let reply = Reply::new(200, format!(r#"{{"tags":[{}]}}"#, tags.join(",")));
        if page < 19 { reply.header("Link", format!("<?last={page}>; rel=next")) } else { reply }
    })
    .await;
    let keep = |tag: &Tag| tag.as_str().len() == 2;
    let listing = server.client().tags_and_digests(&repository(), &keep).await.unwrap().unwrap();
    let kept: Vec<&str> = listing.tags.iter().map(Tag::as_str).collect();
    assert_eq!(kept, ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"]);
}

#[tokio::test]
async fn a_list_without_an_end_ends_with_an_error() {
    let server =
        Server::start(|_, page| Reply::new(200, r#"{"tags":["v1"]}"#).header("Link", format!("<?p={page}>; rel=next")));
    let client = server.await.client_with(|deadlines| deadlines.listing = Duration::from_millis(300));
    let error = client.tags(&repository()).await.unwrap_err();
    assert!(error.message.contains("the list did not end within 300ms"), "{error}");
}

#[tokio::test]
async fn a_page_that_does_not_come_ends_the_list_with_an_error() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(200, r#"{"tags":["v1"]}"#).header("Link", "<?last=v1>; rel=next"),
        _ => Reply::new(200, r#"{"tags":["v2"]}"#).stall(5),
    })
    .await;
    let client = server.client_with(|deadlines| deadlines.page = Duration::from_millis(200));
    let error = client.tags(&repository()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("a page of the list did not come within 200ms"), "{error}");
}

#[tokio::test]
async fn only_a_registry_can_say_that_a_repository_is_absent() {
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
    let server = Server::start(move |_, _| Reply::new(404, unknown)).await;
    assert_eq!(server.client().tags(&repository()).await.unwrap(), None);
    assert_eq!(server.client().first_tags(&repository()).await.unwrap(), None);

    let bare = Server::start(|seen, _| Reply::new(if seen.target == "/v2/" { 200 } else { 404 }, "")).await;
    assert_eq!(bare.client().tags(&repository()).await.unwrap(), None);

    let proxy = Server::start(|_, _| Reply::new(404, "<html>default backend</html>")).await;
    assert_eq!(proxy.client().tags(&repository()).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(proxy.client().first_tags(&repository()).await.is_err());
}

#[tokio::test]
async fn a_repository_exists_even_without_tags() {
    let server = Server::start(|_, _| Reply::new(200, r#"{"tags":null}"#)).await;
    assert!(server.client().first_tags(&repository()).await.unwrap().is_some());
    assert_eq!(server.lines(), ["GET /v2/team/app/tags/list?n=1000"]);
}

#[tokio::test]
async fn a_forbidden_catalog_is_an_unsupported_one() {
    for status in [401, 403, 404, 405] {
        let server = Server::start(move |request, _| match request.target.as_str() {
            "/v2/" => Reply::new(200, "{}"),
            _ => Reply::new(status, ""),
        })
        .await;
        assert_eq!(server.client().repositories().await.unwrap_err().kind, ErrorKind::Unsupported, "{status}");
    }
    let server = Server::start(|_, _| Reply::new(401, "")).await;
    assert_eq!(server.client().repositories().await.unwrap_err().kind, ErrorKind::Unauthorized, "refused everywhere");
}

#[tokio::test]
async fn a_list_that_breaks_off_is_asked_for_again() {
    let server = Server::start(|_, before| {
        let page = Reply::new(200, r#"{"tags":["v1"]}"#);
        if before == 0 { page.cut(5) } else { page }
    })
    .await;
    assert_eq!(server.client().tags(&repository()).await.unwrap().unwrap().len(), 1);
}
