//! Files that change while `serve` runs.

use std::time::Duration;

use serde_json::{Value, json};
use transship::terms::{FailureCode, ReplicationState};

use super::{SOON, Serve, becomes, compare_every, images, take_notifications};
use crate::standalone::Files;
use crate::support::eventually::{eventually, throughout};
use crate::support::image::Image;
use crate::support::process::{Port, Signal};
use crate::support::run_folder::files_below;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::registry;

const READ: &str = "the files were read again";
const KEPT: &str = "the last files that were right stay in force: ";

/// Returns a source of team-a that takes notifications, and a destination of `owner`.
fn pair(name: &str, owner: &str, source: &ScriptedRegistry, destination: &ScriptedRegistry) -> Files {
    let mut files = Files::new(name);
    for (namespace, name, registry) in [("team-a", "source", source), (owner, "d", destination)] {
        let spec = json!({"url": registry.url(), "allowHTTP": true});
        files.add("Registry", json!({"namespace": namespace, "name": name}), spec);
    }
    take_notifications(&mut files);
    files
}

/// Returns the consent of team-b to copies from team-a.
fn consent(files: &mut Files) -> Value {
    let statement = json!({"sid": "from-a", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"]});
    let spec = json!({"registryRef": {"name": "d"}, "statements": [statement]});
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-b", "name": "consent"}), spec);
    files.documents.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_added_lets_images_go_on_and_a_removed_one_stops_them() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files = pair("reading-policy", "team-b", &source, &destination);
    files.configuration("app", "app", &[json!({"namespace": "team-b", "name": "d"})]);
    compare_every(&mut files, "24h");
    let serve = Serve::start(&files).await;
    let refused = becomes(&files, "app: d/app:v1", ReplicationState::Failed).await;
    assert_eq!(refused.failure_code, Some(FailureCode::RegistryPermissionDenied));
    assert!(destination.log().is_empty(), "without consent nothing is asked: {:?}", destination.log());

    let consent = consent(&mut files);
    files.documents.push(consent.clone());
    files.write();
    becomes(&files, "app: d/app:v1", ReplicationState::Complete).await;
    assert_eq!(destination.tags("app"), source.tags("app"));

    // A copy that is under way when the policy goes is stopped, and one that comes later is refused.
    let image = Image::single(2, 1, 1_000);
    source.push("app", "v2", &image);
    let layer = image.blobs.last().unwrap().digest.clone();
    source.fault(When::asked("GET", format!("/blobs/{layer}")), ScriptedFault::Delay(Duration::from_secs(7)));
    serve.hint("app", "v2").await;
    eventually(SOON, "the layer is asked for", async || source.count("GET", &layer) > 0).await;
    let read = serve.count(READ);
    files.documents.pop();
    files.write();
    serve.logs(READ, read).await;
    source.push("app", "v3", &Image::single(3, 1, 1_000));
    serve.hint("app", "v3").await;
    let refused = becomes(&files, "app: d/app:v3", ReplicationState::Failed).await;
    assert_eq!(refused.failure_code, Some(FailureCode::RegistryPermissionDenied));
    let stopped = becomes(&files, "app: d/app:v2", ReplicationState::Failed).await;
    assert_eq!(stopped.failure_code, Some(FailureCode::PolicyRevoked), "{stopped:?}");
    assert_eq!(destination.tags("app").into_keys().collect::<Vec<_>>(), ["v1"]);

    files.documents.push(consent);
    files.write();
    becomes(&files, "app: d/app:v3", ReplicationState::Complete).await;
    becomes(&files, "app: d/app:v2", ReplicationState::Complete).await;
    assert_eq!(destination.tags("app"), source.tags("app"));
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_last_good_state_and_is_named() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    source.push("lib", "v1", &Image::single(2, 1, 1_000));
    let mut files = pair("reading-broken", "team-a", &source, &destination);
    files.configuration("app", "app", &[json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d/app:v1", ReplicationState::Complete).await;

    let file = files.replace("all.yaml", "kind: [").display().to_string();
    serve.logs(&format!("{KEPT}{file} is no YAML: "), 0).await;
    source.push("app", "v2", &Image::single(3, 1, 1_000));
    serve.hint("app", "v2").await;
    becomes(&files, "app: d/app:v2", ReplicationState::Complete).await;
    files.documents[0]["spec"]["allowHtpp"] = json!(true);
    files.write();
    let misspelt = format!("{KEPT}{file}: Registry team-a/source: unknown field spec.allowHtpp: correct or remove it");
    serve.logs(&misspelt, 0).await;
    std::fs::remove_file(&file).unwrap();
    serve.logs(&format!("{KEPT}{file} cannot be read: "), 0).await;
    source.push("app", "v3", &Image::single(4, 1, 1_000));
    serve.hint("app", "v3").await;
    becomes(&files, "app: d/app:v3", ReplicationState::Complete).await;
    assert_eq!(serve.count(KEPT), 3, "each error is logged once: {}", serve.log());
    assert_eq!(serve.count(READ), 0, "{}", serve.log());

    files.documents[0]["spec"].as_object_mut().unwrap().remove("allowHtpp");
    files.configuration("lib", "lib", &[json!({"name": "d"})]);
    files.write();
    becomes(&files, "lib: d/lib:v1", ReplicationState::Complete).await;
    assert_eq!((serve.count(KEPT), serve.count(READ)), (3, 1), "{}", serve.log());
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_emptied_deletes_no_state() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files = pair("reading-emptied", "team-a", &source, &destination);
    files.configuration("app", "app", &[json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d/app:v1", ReplicationState::Complete).await;
    let state = files.folder.join("state");
    let kept = || ["records", "statuses"].map(|part| files_below(&state.join(part)).len());
    for content in ["", "# nothing yet\n"] {
        let refused = serve.count(KEPT);
        files.replace("all.yaml", content);
        serve.logs(&format!("{KEPT}the files have no ReplicationConfiguration"), refused).await;
        let digest = source.push("app", &format!("v{}", refused + 2), &Image::single(2, 1, 1_000));
        serve.hint("app", &format!("v{}", refused + 2)).await;
        let image = becomes(&files, &format!("app: d/app:v{}", refused + 2), ReplicationState::Complete).await;
        assert_eq!((image.digest, kept()), (digest, [1, 1]));
    }
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_removed_loses_its_statuses() {
    let (source, destination) = (registry(), registry());
    for repository in ["app/one", "app/two", "lib"] {
        source.push(repository, "v1", &Image::single(1, 1, 1_000));
    }
    let mut files = pair("reading-removed", "team-a", &source, &destination);
    files.configuration("lib", "lib", &[json!({"name": "d"})]);
    files.configuration("app", "app/", &[json!({"name": "d"})]);
    compare_every(&mut files, "24h");
    let serve = Serve::start(&files).await;
    for image in ["app: d/app/one:v1", "app: d/app/two:v1", "lib: d/lib:v1"] {
        becomes(&files, image, ReplicationState::Complete).await;
    }
    let removed = files.documents.pop().unwrap();
    files.write();
    eventually(SOON, "its statuses are gone", async || {
        let images = images(&files).await;
        if images.len() == 1 { Ok(()) } else { Err(format!("{images:?}, {}", serve.log())) }
    })
    .await;
    let state = files.folder.join("state");
    let left = |part: &str| files_below(&state.join(part)).len();
    eventually(SOON, "its records are gone", async || left("records") == 1 && left("statuses") == 1).await;
    source.push("app/one", "v2", &Image::single(2, 1, 1_000));
    serve.hint("app/one", "v2").await;
    let ignored = async || destination.tags("app/one").len() == 1 && left("statuses") == 1;
    throughout(Duration::from_secs(1), "no configuration wants it any more", ignored).await;

    // It comes back with nothing recorded: what is there is found, and not written again.
    let (asked, writes) = (destination.log().len(), destination.count("PUT", "/v2/app/two/manifests/"));
    files.documents.push(removed);
    files.write();
    becomes(&files, "app: d/app/two:v1", ReplicationState::Complete).await;
    becomes(&files, "app: d/app/one:v2", ReplicationState::Complete).await;
    assert_eq!(destination.count("PUT", "/v2/app/two/manifests/"), writes);
    assert!(destination.log().split_off(asked).iter().all(|seen| !seen.path.contains("/lib/")), "lib went on");
    serve.end().await;

    // The same, while no process runs.
    files.documents.pop();
    let serve = Serve::start(&files).await;
    serve.logs("Replicated ready: ", 0).await;
    assert_eq!(images(&files).await.keys().collect::<Vec<_>>(), ["lib: d/lib:v1"]);
    assert_eq!((left("records"), left("statuses")), (1, 1));
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_has_files_read_that_do_not_look_changed() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    source.push("lib", "v1", &Image::single(2, 1, 1_000));
    let mut files = pair("reading-sighup", "team-a", &source, &destination);
    files.configuration("app", "app", &[json!({"name": "d"})]);
    let serve = Serve::start(&files).await;
    becomes(&files, "app: d/app:v1", ReplicationState::Complete).await;

    let file = files.folder.join("all.yaml");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    let same_length = std::fs::read_to_string(&file).unwrap().replace("\"filter\":\"app\"", "\"filter\":\"lib\"");
    let partial = files.replace("other.yaml", &same_length);
    std::fs::File::options().write(true).open(&partial).unwrap().set_modified(modified).unwrap();
    std::fs::rename(&partial, &file).unwrap();
    let unread = async || serve.count(READ) == 0;
    throughout(Duration::from_millis(2_500), "it does not look changed", unread).await;
    serve.process.signal(Signal::HUP);
    becomes(&files, "app: d/lib:v1", ReplicationState::Complete).await;
    assert_eq!(images(&files).await.len(), 1, "the earlier repository is no longer selected");
    serve.process.signal(Signal::HUP);
    serve.logs(READ, 1).await;
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_into_a_folder_is_read() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    source.push("lib", "v1", &Image::single(2, 1, 1_000));
    let mut files = pair("reading-folder", "team-a", &source, &destination);
    files.configuration("app", "app", &[json!({"name": "d"})]);
    files.configuration("lib", "lib", &[json!({"name": "d"})]);
    let (lib, app) = (files.documents.pop().unwrap(), files.documents.pop().unwrap());
    let folder = files.folder.join("objects");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("app.json"), app.to_string()).unwrap();
    let serve = Serve::on(Port::claim(), &files, &["-f", &folder.display().to_string()]).await;
    becomes(&files, "app: d/app:v1", ReplicationState::Complete).await;

    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
    std::fs::write(folder.join("lib.yaml"), format!("{lib}\n---\n{foreign}\n")).unwrap();
    becomes(&files, "lib: d/lib:v1", ReplicationState::Complete).await;
    assert!(serve.count("skipped, as they are of other programs: 1 Service (v1)") > 0, "{}", serve.log());
    std::fs::remove_file(folder.join("lib.yaml")).unwrap();
    eventually(SOON, "its replicas go with it", async || !images(&files).await.contains_key("lib: d/lib:v1")).await;
    serve.end().await;
}
