//! Blobs of hostile and odd registries.

use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::testing::{Reply, Server, descriptor, password};
use crate::registry::{Client, ErrorKind};

const CONTENT: &[u8] = b"0123456789";

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

/// Reads the stream to its end; returns the content and the error.
async fn read(client: &Client, blob: &Descriptor) -> (Vec<u8>, Option<ErrorKind>) {
    let mut stream = match client.blob(&repository(), blob).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Some(error.kind)),
    };
    let mut content = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => content.extend_from_slice(&piece),
            Err(error) => return (content, Some(error.kind)),
        }
    }
    (content, None)
}

fn range(first: usize, last: usize) -> Reply {
    Reply::new(206, &CONTENT[first..=last]).header("Content-Range", format!("bytes {first}-{last}/{}", CONTENT.len()))
}

#[tokio::test]
async fn content_that_differs_never_comes_out_whole() {
    let server = Server::start(|_, _| Reply::new(200, CONTENT)).await;
    let client = server.client();
    assert_eq!(read(&client, &descriptor(CONTENT)).await, (CONTENT.to_vec(), None));

    let other = Descriptor { size: 10, ..descriptor(b"other") };
    let (content, error) = read(&client, &other).await;
    assert!(content.len() < CONTENT.len());
    assert_eq!(error, Some(ErrorKind::InvalidContent));
    for size in [0, 9, 11] {
        let wrong = Descriptor { size, ..descriptor(CONTENT) };
        assert_eq!(read(&client, &wrong).await, (Vec::new(), Some(ErrorKind::InvalidContent)), "{size}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_a_blob_is_named() {
    const PAGE: &str = "<!DOCTYPE html><html><title>Sign in</title></html>";
    let blob = |size: usize| Descriptor { size: size as u64, ..descriptor(b"other") };
    let chunked = format!("{:x}\r\n{PAGE}\r\n0\r\n\r\n", PAGE.len());
    let replies = [Reply::new(200, PAGE), Reply::new(200, chunked).header("Transfer-Encoding", "chunked")];
    for (reply, size) in replies.into_iter().flat_map(|reply| [10, 50, 1_000].map(|size| (reply.clone(), size))) {
        let server = Server::start(move |_, _| reply.clone()).await;
        let mut shown = String::new();
        match server.client().blob(&repository(), &blob(size)).await {
            Ok(mut stream) => {
                while let Some(piece) = stream.next().await {
                    shown.extend(piece.err().map(|error| error.message));
                }
            }
            Err(error) => shown = error.message,
        }
        assert!(shown.contains("this is not the blob: the registry answered with a web page \"Sign in\""), "{shown}");
    }
}

#[tokio::test]
async fn content_of_untold_length_is_counted() {
    // the chunked body; what it ends with
    let table = [
        ("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", None),
        ("a\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n", Some(ErrorKind::InvalidContent)),
        ("5\r\n01234\r\n0\r\n\r\n", Some(ErrorKind::InvalidContent)),
    ];
    for (body, expected) in table {
        let server = Server::start(move |_, _| Reply::new(200, body).header("Transfer-Encoding", "chunked")).await;
        let (content, error) = read(&server.client(), &descriptor(CONTENT)).await;
        assert_eq!((content == CONTENT, error), (expected.is_none(), expected), "{body}");
    }
}

#[tokio::test]
async fn a_broken_blob_is_taken_up_where_it_broke() {
    let server = Server::start(|seen, before| match (before, seen.header("range")) {
        (0, None) => Reply::new(200, CONTENT).cut(3),
        (1, Some("bytes=3-")) => range(3, 9).cut(2),
        (2, Some("bytes=5-")) => range(5, 9),
        _ => Reply::new(400, ""),
    })
    .await;
    assert_eq!(read(&server.client(), &descriptor(CONTENT)).await, (CONTENT.to_vec(), None));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_broken_blob_is_read_anew_where_ranges_are_not_served_as_asked() {
    let wrong = |first: usize, total: &str| {
        Reply::new(206, &CONTENT[3..]).header("Content-Range", format!("bytes {first}-9/{total}"))
    };
    // the answer to the range, as a cold cache, a CDN, or an odd server gives it; the requests in all
    let table = [
        (Reply::new(200, CONTENT), 2),
        (Reply::new(400, ""), 3),
        (Reply::new(416, ""), 3),
        (wrong(2, "10"), 3),
        (wrong(3, "11"), 3),
        (Reply::new(206, &CONTENT[3..]), 3),
    ];
    for (second, requests) in table {
        let shown = format!("{second:?}");
        let server = Server::start(move |seen, before| match (before, seen.header("range")) {
            (0, _) => Reply::new(200, CONTENT).cut(3),
            (1, Some("bytes=3-")) => second.clone(),
            (_, None) => Reply::new(200, CONTENT),
            _ => Reply::new(500, ""),
        })
        .await;
        assert_eq!(read(&server.client(), &descriptor(CONTENT)).await, (CONTENT.to_vec(), None), "{shown}");
        assert_eq!(server.seen().len(), requests, "{shown}");
    }
}

#[tokio::test]
async fn a_blob_that_breaks_again_is_read_from_the_start_each_time() {
    let server = Server::start(|seen, before| match (before, seen.header("range")) {
        (0, None) => Reply::new(200, CONTENT).cut(3),
        (_, Some(_)) => Reply::new(400, ""),
        (2, None) => Reply::new(200, CONTENT).cut(2),
        (_, None) => Reply::new(200, CONTENT).cut(3 + before),
    })
    .await;
    assert_eq!(
        read(&server.client(), &descriptor(CONTENT)).await,
        (CONTENT[..7].to_vec(), Some(ErrorKind::Unavailable))
    );
    let with_range = server.seen().iter().filter(|seen| seen.header("range").is_some()).count();
    assert_eq!((with_range, server.seen().len()), (1, 5), "at most 3 more, and no range once it was refused");
}

#[tokio::test]
async fn content_that_changes_when_it_is_read_anew_never_comes_out_whole() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(200, "01x3456789").cut(5),
        _ => Reply::new(200, CONTENT),
    })
    .await;
    let (content, error) = read(&server.client(), &descriptor(CONTENT)).await;
    assert_eq!((content.as_slice(), error), (b"01x34".as_slice(), Some(ErrorKind::InvalidContent)));
    let server = Server::start(|_, before| match before {
        0 => Reply::new(200, CONTENT).cut(5),
        _ => Reply::new(200, &CONTENT[..4]),
    })
    .await;
    assert_eq!(read(&server.client(), &descriptor(CONTENT)).await.1, Some(ErrorKind::InvalidContent));
}

#[tokio::test]
async fn a_blob_is_taken_up_at_the_registry_and_never_at_the_url_it_signed_before() {
    let storage = Server::start(|seen, _| match (seen.target.as_str(), seen.header("range")) {
        ("/blob?signature=0", None) => Reply::new(200, CONTENT).cut(4),
        ("/blob?signature=1", Some("bytes=4-")) => range(4, 9),
        _ => Reply::new(403, ""),
    })
    .await;
    let place = format!("localhost:{}", storage.port);
    let location = format!("http://{place}/blob?signature=");
    let server =
        Server::start(move |_, before| Reply::new(307, "").header("Location", format!("{location}{before}"))).await;
    let client = server.client_trusting(password(), &[place], &[&server, &storage]);
    assert_eq!(read(&client, &descriptor(CONTENT)).await, (CONTENT.to_vec(), None));
    assert_eq!(storage.lines(), ["GET /blob?signature=0", "GET /blob?signature=1"]);
}

#[tokio::test]
async fn a_token_that_runs_out_while_a_blob_streams_is_renewed() {
    let server = Server::start(|seen, before| {
        if seen.target.starts_with("/token") {
            return Reply::new(200, format!(r#"{{"token":"t{before}"}}"#));
        }
        match (seen.header("authorization"), seen.header("range")) {
            (Some("Bearer t0"), None) => Reply::new(200, CONTENT).cut(4),
            (Some("Bearer t1"), Some("bytes=4-")) => range(4, 9),
            _ => {
                let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                Reply::new(401, "").header("WWW-Authenticate", realm)
            }
        }
    })
    .await;
    assert_eq!(read(&server.client_as(password()), &descriptor(CONTENT)).await, (CONTENT.to_vec(), None));
    assert_eq!(server.count("GET /token"), 2);
}

#[tokio::test]
async fn a_blob_without_a_length_or_with_one_of_zero_is_read_by_its_descriptor() {
    let body = "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";
    let server = Server::start(move |seen, _| match seen.method.as_str() {
        "HEAD" => Reply::new(200, "").header("Content-Length", 0),
        _ => Reply::new(200, body).header("Transfer-Encoding", "chunked"),
    })
    .await;
    let client = server.client();
    assert!(client.has_blob(&repository(), &descriptor(CONTENT)).await.unwrap());
    assert_eq!(read(&client, &descriptor(CONTENT)).await, (CONTENT.to_vec(), None));
}

#[tokio::test]
async fn a_blob_that_stalls_times_out() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(200, CONTENT).stall(3),
        _ => Reply::new(404, ""),
    })
    .await;
    let (content, error) = read(&server.client(), &descriptor(CONTENT)).await;
    assert_eq!((content.as_slice(), error), (&CONTENT[..3], Some(ErrorKind::NotFound)));
}

#[tokio::test]
async fn a_blob_that_drips_times_out_and_holds_no_place() {
    let content = vec![7_u8; 100_000];
    let blob = descriptor(&content);
    let drip = Reply::new(200, &content).header("Accept-Ranges", "bytes").drip_body(Duration::from_millis(10));
    let server = Server::start(move |seen, _| match seen.header("range") {
        Some(_) => Reply::new(416, ""),
        None => drip.clone(),
    })
    .await;
    let client = server.client();
    let began = Instant::now();
    let all = futures::future::join_all((0..4).map(|_| read(&client, &blob))).await;
    assert!(all.iter().all(|(bytes, error)| bytes.len() < 1_000 && *error == Some(ErrorKind::Unavailable)));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_blob_that_its_reader_takes_slowly_is_no_drip() {
    let content = vec![7_u8; 300_000];
    let blob = descriptor(&content);
    let server = {
        let content = content.clone();
        Server::start(move |_, _| Reply::new(200, &content)).await
    };
    let mut pieces = server.client().blob(&repository(), &blob).await.unwrap();
    let mut length = 0;
    while let Some(piece) = pieces.next().await {
        length += piece.unwrap().len();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!((length, server.seen().len()), (300_000, 1));
}

#[tokio::test]
async fn whether_a_blob_is_there_is_asked_in_the_way_that_works() {
    let size = CONTENT.len();
    let part = |total: &str| Reply::new(206, "0").header("Content-Range", format!("bytes 0-0/{total}"));
    // the answer to HEAD; the answer to GET; what comes out
    let table = [
        (Reply::new(200, CONTENT), None, Ok(true)),
        (Reply::new(200, ""), None, Ok(true)),
        (Reply::new(200, "").header("Content-Length", size + 1), None, Err(ErrorKind::InvalidContent)),
        (Reply::new(404, ""), None, Ok(false)),
        (Reply::new(405, ""), Some(part("10")), Ok(true)),
        (Reply::new(403, ""), Some(part("*")), Ok(true)),
        (Reply::new(403, ""), Some(part("11")), Err(ErrorKind::InvalidContent)),
        (Reply::new(403, ""), Some(Reply::new(403, "")), Err(ErrorKind::Denied)),
        (Reply::new(405, ""), Some(Reply::new(404, "")), Ok(false)),
        (Reply::new(500, ""), Some(part("10")), Ok(true)),
        (Reply::new(500, "").reset(), Some(Reply::new(404, "")), Ok(false)),
        (Reply::new(500, ""), Some(Reply::new(500, "")), Err(ErrorKind::Unavailable)),
    ];
    for (head, get, expected) in table {
        let shown = format!("{head:?} {get:?}");
        let get = get.unwrap_or_else(|| Reply::new(500, ""));
        let server = Server::start(move |seen, _| if seen.method == "HEAD" { head.clone() } else { get.clone() }).await;
        let found = server.client().has_blob(&repository(), &descriptor(CONTENT)).await.map_err(|error| error.kind);
        assert_eq!(found, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_place_is_held_while_a_blob_streams_and_given_back_after_it() {
    let large = vec![7; 100_000];
    let content = large.clone();
    let server = Server::start(move |_, _| Reply::new(200, &content)).await;
    let client = server.client();
    let stream = client.blob(&repository(), &descriptor(&large)).await.unwrap();
    assert_eq!(client.http().reads().free_for_bodies(), 3);
    drop(stream);
    assert_eq!(client.http().reads().free_for_bodies(), 4);
}

#[tokio::test]
async fn small_requests_never_wait_behind_large_blobs() {
    let large = vec![7; 100_000];
    let content = large.clone();
    let server = Server::start(move |seen, _| match seen.target.contains(descriptor(CONTENT).digest.as_str()) {
        true => Reply::new(200, CONTENT),
        false => Reply::new(200, &content).stall(50_000),
    })
    .await;
    let client = server.client();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(client.blob(&repository(), &descriptor(&large)).await.unwrap());
    }
    assert_eq!(client.http().reads().free_for_bodies(), 0);
    assert!(client.has_blob(&repository(), &descriptor(CONTENT)).await.unwrap());
    assert_eq!(read(&client, &descriptor(CONTENT)).await, (CONTENT.to_vec(), None), "a config is as small");
}

#[tokio::test]
async fn a_registry_that_is_overloaded_gets_fewer_requests_at_once() {
    for overload in [Reply::new(503, ""), Reply::new(429, "").header("Retry-After", "0"), Reply::new(200, "").reset()] {
        let shown = format!("{overload:?}");
        let server = Server::start(move |_, before| match before {
            0 => overload.clone(),
            _ => Reply::new(200, CONTENT),
        })
        .await;
        let client = server.client();
        assert_eq!(client.http().reads().limit(), 4);
        assert!(client.has_blob(&repository(), &descriptor(CONTENT)).await.unwrap(), "{shown}");
        assert_eq!((client.http().reads().limit(), client.http().writes().limit()), (2, 4), "{shown}");
    }
}
