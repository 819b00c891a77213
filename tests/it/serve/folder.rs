//! One process uses a state folder; `status` reads it meanwhile; a restart changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use transship::api::ReplicationStatus;
use transship::terms::ReplicationState;

use super::{Serve, becomes, objects, status};
use crate::standalone::{Files, text};
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::process::Port;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::files_below;

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_has_one_process_and_a_restart_asks_nothing_anew() {
    let source = TestRegistry::distribution("folder-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::docker_2_8("folder-destination").user("writer", PASSWORD).start().await;
    let image = Image::multi_platform(1, 5_000);
    source.pusher().push("app/one", "v1", &image).await;
    source.pusher().push("app/two", "v2", &Image::single(9, 2, 5_000)).await;
    let mut files = Files::new("serve-folder");
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    files.configuration("app", "app/", &[json!({"name": "d"})]);
    let first = Serve::start(&files).await;
    let complete = becomes(&files, "app: d/app/one:v1", ReplicationState::Complete).await;
    assert_eq!(complete.digest, image.digest());
    becomes(&files, "app: d/app/two:v2", ReplicationState::Complete).await;
    first.logs("Replicated ready: ", 0).await;

    let (state, free) = (files.state(), Port::claim());
    let listen = format!("127.0.0.1:{}", free.number());
    let owner = format!("is in use by process {} (transship serve)", first.process.id());
    for (command, more) in [("serve", vec!["--state", &state, "--listen", &listen]), ("sync", vec!["--state", &state])]
    {
        let refused = files.run(command, &more).await;
        assert_eq!(refused.status.code(), Some(2), "{command}: {}", text(&refused));
        assert!(text(&refused).contains(&owner), "{command}: {}", text(&refused));
    }
    let planned = files.run("plan", &["--state", &state]).await;
    assert_eq!(planned.status.code(), Some(0), "a plan only reads: {}", text(&planned));
    shown(&files).await;

    first.end().await;
    let (records, asked) = (files_below(state.as_ref()), destination.access_log().len());
    assert!(records.len() >= 5, "a lock, two records, two statuses: {:?}", records.keys());
    let again = Serve::start(&files).await;
    again.logs("Replicated ready: ", 0).await;
    // A status that changed would be written within a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    again.end().await;
    assert_eq!(destination.access_log().split_off(asked), [], "the destination was not asked");
    let unlocked = |folder: &std::path::Path| {
        let mut files = files_below(folder);
        files.retain(|path, _| !path.ends_with("lock"));
        files
    };
    let (mut before, after) = (records, unlocked(state.as_ref()));
    before.retain(|path, _| !path.ends_with("lock"));
    assert!(before == after, "{before:?}\n{after:?}");
    let output = files.run("sync", &["--state", &state]).await;
    assert_eq!(output.status.code(), Some(0), "the folder is free: {}", text(&output));
}

/// Reads the statuses of both pairs in every format.
async fn shown(files: &Files) {
    let found = objects(files).await;
    let names: Vec<_> = found.iter().map(|object| object.spec.destination.repository.as_str()).collect();
    assert_eq!(found.len(), 2, "{names:?}");
    assert!(names.contains(&"app/one") && names.contains(&"app/two"), "{names:?}");

    let yaml = status(files, &["-o", "yaml"]).await;
    let list: Value = serde_saphyr::from_str(&text(&yaml)).unwrap();
    let of_yaml: Vec<ReplicationStatus> = serde_json::from_value(list["items"].clone()).unwrap();
    assert_eq!(of_yaml, found);

    let table = text(&status(files, &[]).await);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].contains("SOURCE") && lines[0].ends_with("AGE"), "{table}");
    for (repository, tag) in [("app/one", "v1"), ("app/two", "v2")] {
        let line = lines.iter().find(|line| line.contains(&format!("source/{repository}"))).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[2..8], [&format!("d/{repository}"), "COMPLETE", "Replicated", "1", "1", "0"], "{table}");
        assert_eq!(words[8], tag, "{table}");
    }
    let wide = text(&status(files, &["-o", "wide"]).await);
    assert!(wide.contains("MESSAGE") && wide.lines().count() == 7, "{wide}");
}
