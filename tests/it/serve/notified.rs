//! Pushes to a real registry, its notifications, and the paths of `--listen`.

use std::time::Instant;

use base64::Engine;
use transship::terms::ReplicationState;

use super::{Serve, TOKEN, becomes, client, compare_every, pushed, status, take_notifications};
use crate::standalone::{Files, basic, text};
use crate::stories::scene::PASSWORD;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Port;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::files_below;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_replicated_by_notification_and_no_secret_gets_out() {
    let port = Port::claim();
    let notify = format!("http://127.0.0.1:{}/v1/notify/team-a/source", port.number());
    let source = TestRegistry::distribution("serve-source").user("reader", PASSWORD);
    let source = source.notify(&notify, &[("Authorization", &format!("Bearer {TOKEN}"))]).start().await;
    let destination = TestRegistry::distribution("serve-destination").user("writer", PASSWORD).start().await;
    let mut files = Files::new("serve-notified");
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    files.configuration("app", "app", &[serde_json::json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::on(port, &files, &[]).await;
    serve.logs("Replicated ready: ", 0).await;

    let tags = ["v1", "v2", "v3"];
    for (seed, tag) in (1..).zip(tags) {
        let digest = source.pusher().push("app", tag, &Image::single(seed, 2, 20_000)).await;
        let began = Instant::now();
        let complete = becomes(&files, &format!("app: d/app:{tag}"), ReplicationState::Complete).await;
        println!("push to COMPLETE: {:?}", began.elapsed());
        assert_eq!(complete.digest, digest);
        assert_eq!(destination.pusher().digest_of("app", tag).await, Some(digest));
    }
    for tag in tags {
        let line = format!("COMPLETE  source/app:{tag} -> d/app:{tag}  sha256:");
        assert_eq!(serve.count(&line), 1, "{line}: {}", serve.log());
    }
    assert_eq!(serve.count("an image is complete"), 0, "one line for each image: {}", serve.log());

    assert_eq!(refusals(&serve, &source).await, [401; 5]);
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "transship_hints_total 4")] {
        let answer = client().get(serve.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.text().await.unwrap();
        assert!(body.contains(part), "{path}: {body}");
    }
    let metrics = client().get(serve.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("transship_copies_total{outcome=\"complete\"} 3"), "{metrics}");

    let mut output_of_all = metrics;
    for output in ["table", "wide", "json", "yaml"] {
        output_of_all += &text(&status(&files, &["-o", output]).await);
    }
    output_of_all += &serve.end().await;
    files_below(files.state().as_ref()).iter().for_each(|(_, bytes)| output_of_all += &String::from_utf8_lossy(bytes));
    let encoded = base64::engine::general_purpose::STANDARD.encode(TOKEN);
    for canary in [PASSWORD, TOKEN, &encoded, &basic("reader", PASSWORD), &basic("writer", PASSWORD)] {
        assert!(!output_of_all.contains(canary), "{canary} is in the output");
    }
}

/// Sends notifications that prove nothing. They are answered alike, and nothing is asked of the source for them.
async fn refusals(serve: &Serve, source: &TestRegistry) -> [u16; 5] {
    let before = source.access_log().len();
    let body = pushed("app", "ghost");
    let cases = [
        ("source", Some("wrong-token-of-notifications")),
        ("source", None),
        ("source", Some("")),
        ("nowhere", Some(TOKEN)),
        ("d", Some(TOKEN)),
    ];
    let mut answers = Vec::new();
    for (registry, token) in cases {
        let answer = serve.notify(registry, token, &body).await;
        let mut headers = answer.headers().clone();
        headers.remove("date");
        answers.push((answer.status().as_u16(), headers, answer.bytes().await.unwrap()));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // One that is right is looked at: the others would have been looked at before it.
    serve.hint("app", "absent").await;
    let paths = eventually(super::SOON, "the hinted tag is looked at", async || {
        let log = source.access_log().split_off(before);
        let paths: Vec<_> = log.into_iter().map(|access| access.path).collect();
        paths.iter().any(|path| path.ends_with("/absent")).then_some(paths)
    });
    assert!(paths.await.iter().all(|path| !path.contains("ghost")));
    let codes: Vec<u16> = answers.iter().map(|(code, ..)| *code).collect();
    codes.try_into().unwrap()
}
