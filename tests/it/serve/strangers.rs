//! Strangers at the port of `serve`: they cost little, and keep no sender out.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Serve, TOKEN, compare_every, pushed, take_notifications};
use crate::standalone::Files;
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::memory::resident;
use crate::support::registry::TestRegistry;

/// In kB.
const MIB: u64 = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_a_token_and_silent_connections_cost_no_memory() {
    let source = TestRegistry::distribution("strangers-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("strangers-destination").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(1, 1, 1000)).await;
    let mut files = Files::new("serve-strangers");
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    files.configuration("app", "app", &[json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::start(&files).await;
    serve.logs("Replicated ready: ", 0).await;
    assert_eq!(serve.notify("source", Some(TOKEN), &pushed("app", "absent")).await.status(), 202);

    let before = resident(serve.process.id());
    let mut senders = Vec::new();
    for _ in 0..250 {
        senders.push(tokio::spawn(almost_a_mebibyte(serve.port.number())));
    }
    let mut open = Vec::new();
    for sender in senders {
        open.push(sender.await.unwrap());
    }
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(("127.0.0.1", serve.port.number())).await.unwrap());
    }
    let after = resident(serve.process.id());
    println!("250 bodies of almost 1 MiB without a token and 1,000 silent connections: {before} kB, then {after} kB");
    assert!(after <= before + 16 * MIB, "{before} kB, then {after} kB");

    let began = Instant::now();
    assert_eq!(serve.notify("source", Some(TOKEN), &pushed("app", "absent")).await.status(), 202);
    let took = began.elapsed();
    println!("a notification beside them: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop((open, silent));
}

/// Sends a request without a token, and all but the last byte of its body, as far as it is taken.
async fn almost_a_mebibyte(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("POST /v1/notify/team-a/source HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1024 * MIB);
    // The port may answer and close before it has read all.
    let send = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b'a'; (1024 * MIB) as usize - 1]).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), send).await;
    stream
}
