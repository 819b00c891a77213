//! Blobs of hostile and odd registries.

use futures::StreamExt;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::testing::{Reply, Server, descriptor};
use crate::registry::{Client, ErrorKind};

const CONTENT: &[u8] = b"0123456789";

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

/// What comes out of the stream, and what it ends with.
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
async fn a_broken_blob_is_unavailable_where_ranges_are_not_served_as_asked() {
    let wrong = |first: usize, total: &str| {
        Reply::new(206, &CONTENT[3..]).header("Content-Range", format!("bytes {first}-9/{total}"))
    };
    for second in [Reply::new(200, CONTENT), Reply::new(400, ""), wrong(2, "10"), wrong(3, "11"), range(3, 9).cut(0)] {
        let shown = format!("{second:?}");
        let server = Server::start(move |_, before| match before {
            0 => Reply::new(200, CONTENT).cut(3),
            _ => second.clone(),
        })
        .await;
        let (content, error) = read(&server.client(), &descriptor(CONTENT)).await;
        assert_eq!((content.as_slice(), error), (&CONTENT[..3], Some(ErrorKind::Unavailable)), "{shown}");
        assert!(server.seen().len() <= 4);
    }
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
async fn a_permit_is_held_while_a_blob_streams_and_given_back_after_it() {
    let server = Server::start(|_, _| Reply::new(200, CONTENT)).await;
    let client = server.client();
    let stream = client.blob(&repository(), &descriptor(CONTENT)).await.unwrap();
    assert_eq!(client.0.reads.available_permits(), 3);
    drop(stream);
    assert_eq!(client.0.reads.available_permits(), 4);
}
