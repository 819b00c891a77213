//! Strangers and greedy senders at the port of `serve`: they cost little, and keep no sender out.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Serve, TOKEN, client_builder, compare_every, pushed, take_notifications};
use crate::standalone::Files;
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::memory::resident;
use crate::support::registry::TestRegistry;
use crate::support::scripted::{Personality, ScriptedRegistry};

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
        senders.push(tokio::spawn(almost_a_mebibyte(serve.port.number(), "")));
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

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_a_token_that_wait_for_room_cost_no_memory() {
    let source = ScriptedRegistry::start(Personality::plain());
    let mut files = Files::new("serve-greedy");
    for name in ["source", "d"] {
        let spec = json!({"url": source.url(), "allowHTTP": true});
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    files.configuration("app", "app", &[json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::start(&files).await;
    assert_eq!(serve.notify("source", Some(TOKEN), &pushed("app", "absent")).await.status(), 202);

    // The windows of HTTP/2 would hold what is not read yet.
    let http_2 = client_builder().http2_prior_knowledge().build().unwrap();
    http_2.get(serve.url("/healthz")).send().await.expect_err("the port speaks HTTP/1.1");
    let before = resident(serve.process.id());
    let authorization = format!("authorization: Bearer {TOKEN}\r\n");
    let senders = (0..250).map(|_| almost_a_mebibyte(serve.port.number(), &authorization));
    let open = futures::future::join_all(senders).await;
    let after = resident(serve.process.id());
    println!("250 bodies of almost 1 MiB with a token: {before} kB, then {after} kB");
    assert!(after <= before + 24 * MIB, "{before} kB, then {after} kB");
    drop(open);
    assert_eq!(serve.notify("source", Some(TOKEN), &pushed("app", "absent")).await.status(), 202);
}

/// Sends a request with a header, and all but the last byte of its body, as far as it is taken.
async fn almost_a_mebibyte(port: u16, header: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let path = "/v1/notify/team-a/source";
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{header}content-length: {}\r\n\r\n", 1024 * MIB);
    // The port may answer and close before it has read all.
    let send = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b'a'; (1024 * MIB) as usize - 1]).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), send).await;
    stream
}
