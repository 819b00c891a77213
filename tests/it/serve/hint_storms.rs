//! One authenticated notification that names thousands of tags.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Serve, TOKEN, compare_every, pushed, take_notifications};
use crate::standalone::Files;
use crate::stories::scene::PASSWORD;
use crate::support::eventually::eventually;
use crate::support::memory::resident;
use crate::support::registry::TestRegistry;
use crate::support::scripted::{Personality, ScriptedRegistry, USER};

/// In kB.
const MIB: u64 = 1024;
const EVENTS: usize = 16_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_of_a_mebibyte_costs_little_and_one_request_per_tag() {
    let source = ScriptedRegistry::start(Personality::plain());
    let destination = TestRegistry::distribution("storm-destination").user("writer", PASSWORD).start().await;
    source.create_repository("app");
    let mut files = Files::new("serve-storm");
    let spec = json!({"url": source.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": "source"}}});
    files.login_at(&source.host(), USER, crate::support::scripted::PASSWORD);
    files.add("Registry", json!({"namespace": "team-a", "name": "source"}), spec);
    for number in 0..5 {
        let name = format!("d{number}");
        files.registry("team-a", &name, &destination, "writer");
        files.configuration(&format!("app{number}"), "app", &[json!({"name": name})]);
    }
    compare_every(&mut files, "24h");
    take_notifications(&mut files);
    let serve = Serve::start(&files).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(serve.notify("source", Some(TOKEN), &pushed("app", "warm")).await.status(), 202);
    tokio::time::sleep(Duration::from_secs(6)).await;

    let event = |number| json!({"action": "push", "target": {"repository": "app", "tag": format!("t{number:05}")}});
    let envelope: Vec<Value> = (0..EVENTS).map(event).collect();
    let envelope = json!({"events": envelope});
    assert!(envelope.to_string().len() > 900_000 && envelope.to_string().len() < 1024 * 1024);
    let before = resident(serve.process.id());
    assert_eq!(serve.notify("source", Some(TOKEN), &envelope).await.status(), 202);
    let mut most = 0;
    let mut requests = BTreeMap::new();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        most = resident(serve.process.id()).max(most);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually(Duration::from_secs(480), "every tag is looked at", async || {
        most = resident(serve.process.id()).max(most);
        requests.clear();
        // The log is long: it is read once enough requests came.
        if source.requests() < EVENTS {
            return Err(source.requests());
        }
        for request in source.log().iter().filter(|request| request.path.contains("/manifests/t")) {
            *requests.entry(request.path.clone()).or_insert(0) += 1;
        }
        if requests.len() == EVENTS { Ok(()) } else { Err(requests.len()) }
    })
    .await;
    let (all, worst): (usize, usize) = (requests.values().sum(), *requests.values().max().unwrap());
    println!("{EVENTS} tags, five configurations: {before} kB, then {most} kB; {all} requests, {worst} for one tag");
    assert!(most <= before + 16 * MIB, "{before} kB, then {most} kB");
    assert_eq!((all, worst), (EVENTS, 1));
}
