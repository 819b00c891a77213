//! Exit codes, the log, and output that nothing reads.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Files, text};
use crate::support::image::Image;
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry};

fn scene(name: &str) -> (ScriptedRegistry, ScriptedRegistry, Files) {
    let (source, destination) = (registry(), registry());
    (0..3).for_each(|seed| drop(source.push("app", &format!("v{seed}"), &Image::single(seed, 1, 1_000))));
    let files = files(name, &source, &[&destination]);
    (source, destination, files)
}

/// Runs the program, and closes the pipes of its standard output and error at once.
async fn without_readers(mut command: tokio::process::Command) -> Option<i32> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    tokio::time::timeout(Duration::from_secs(60), child.wait()).await.expect("it ends").unwrap().code()
}

fn program(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
    command.args(arguments);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn output_without_a_reader_is_lost_and_the_work_is_done() {
    let (source, destination, files) = scene("closed-pipe");
    let state = files.state();
    assert_eq!(without_readers(files.command("plan", &["-vv"])).await, Some(0));
    assert_eq!(without_readers(files.command("sync", &["-vvv", "--state", &state])).await, Some(0));
    assert_eq!(destination.tags("app"), source.tags("app"));
    assert_eq!(without_readers(files.command("sync", &["-o", "json"])).await, Some(0));
    assert_eq!(without_readers(program(&["status", "--state", &state, "-o", "wide"])).await, Some(0));
    assert_eq!(without_readers(program(&["status", "--state", "/nowhere"])).await, Some(2));
    assert_eq!(without_readers(program(&["sync", "-f", "/nowhere"])).await, Some(2));
    assert_eq!(without_readers(program(&["sync", "--nonsense"])).await, Some(2));
    assert_eq!(without_readers(program(&["sync", "--help"])).await, Some(0));
    let crds = files.folder.join("crds").display().to_string();
    assert_eq!(without_readers(program(&["crds", "--output", &crds, "-vv"])).await, Some(0));
    let listen = files.command("serve", &["-vv", "--state", &state, "--listen", "256.0.0.1:1"]);
    assert_eq!(without_readers(listen).await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_a_full_disk_takes_away_is_an_error_after_the_work() {
    let (source, destination, files) = scene("full-disk");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = files.command("sync", &[]);
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("standard output cannot be written"), "{}", text(&output));
    assert_eq!(destination.tags("app"), source.tags("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_a_job_of_ci_needs() {
    let (source, _destination, mut files) = scene("exit-codes");
    let state = files.state();
    for (subcommand, plain, detailed) in [("plan", 0, 3), ("sync", 0, 0), ("plan", 0, 0)] {
        let ran = files.run(subcommand, &["--state", &state]).await;
        assert_eq!(ran.status.code(), Some(plain), "{}", text(&ran));
        let ran = files.run(subcommand, &["--state", &state, "--detailed-exit-code"]).await;
        assert_eq!(ran.status.code(), Some(detailed), "{}", text(&ran));
    }
    let nothing = files.run("sync", &["--state", &state]).await;
    assert!(text(&nothing).contains("nothing to do: 3 of 3 images are at their destinations"), "{}", text(&nothing));
    source.push("app", "v4", &Image::single(4, 1, 1_000));
    let changed = files.run("sync", &["--state", &state, "--detailed-exit-code"]).await;
    assert_eq!(changed.status.code(), Some(3), "{}", text(&changed));
    assert!(text(&changed).contains("1 copied, 3 already there, 0 failed"), "{}", text(&changed));

    // A destination of another owner, who does not consent.
    files.documents[1]["metadata"]["namespace"] = json!("team-b");
    files.documents[2]["spec"]["rules"][0]["destinations"] =
        json!([{"registryRef": {"namespace": "team-b", "name": "d0"}}]);
    for subcommand in ["plan", "sync"] {
        for more in [&[][..], &["--detailed-exit-code"]] {
            let denied = files.run(subcommand, more).await;
            assert_eq!(denied.status.code(), Some(1), "{}", text(&denied));
        }
    }
    let usage = files.run("plan", &["--detailed-exit-code", "--ca", "nonsense"]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_answered_as_ecr_answers_from_a_folder_and_from_kubectl() {
    let (source, _destination, files) = scene("ecr-answer");
    let state = files.state();
    let synced = files.run("sync", &["--state", &state]).await;
    assert!(text(&synced).contains(" stored\n3 copied"), "{}", text(&synced));
    let answers = async |arguments: &[&str]| {
        let output = program(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        output.stdout
    };
    let list = files.folder.join("list.json");
    std::fs::write(&list, answers(&["status", "--state", &state, "-o", "json"]).await).unwrap();
    let of_folder = answers(&["status", "--state", &state, "-o", "ecr"]).await;
    assert_eq!(answers(&["status", "-f", list.to_str().unwrap(), "-o", "ecr"]).await, of_folder);
    let answer: Value = serde_json::from_slice(&of_folder).unwrap();
    let expected = source.tags("app").into_iter().map(|(tag, digest)| {
        json!({
            "repositoryName": "app", "imageId": {"imageTag": tag, "imageDigest": digest},
            "replicationStatuses": [{"region": "d0", "registryId": "team-a", "status": "COMPLETE"}],
        })
    });
    let mut sorted = answer.as_array().unwrap().clone();
    sorted.sort_by_key(|answer| answer["imageId"]["imageTag"].to_string());
    assert_eq!(sorted, expected.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_logs_to_standard_error_as_much_as_it_is_asked_to() {
    let (_source, _destination, files) = scene("log");
    let state = files.state();
    let stderr = async |subcommand: &str, more: &[&str], level: &str| {
        let mut command = files.command(subcommand, more);
        let output = command.env("RUST_LOG", level).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(stderr("sync", &[], "").await, "", "a person who waits for nothing reads nothing");
    for subcommand in ["plan", "sync"] {
        assert!(stderr(subcommand, &["-vv"], "").await.contains("DEBUG"), "{subcommand}");
        assert!(stderr(subcommand, &[], "transship=debug").await.contains("DEBUG"), "{subcommand}");
        assert_eq!(stderr(subcommand, &["--quiet"], "trace").await, "", "{subcommand}: a flag wins");
        assert!(stderr(subcommand, &[], "a=b=c").await.contains("RUST_LOG is not a filter"), "{subcommand}");
    }
    let quiet = files.run("sync", &["-q", "--state", &state]).await;
    let printed = String::from_utf8(quiet.stdout).unwrap();
    assert!(!printed.contains("COMPLETE  source") && printed.contains("SOURCE"), "the summary alone: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_a_registry_asks_for_is_visible_once() {
    let (source, _destination, files) = scene("visible-wait");
    source.fault(When::asked("GET", "/manifests/v"), ScriptedFault::too_many(Some("3")));
    let synced = files.run("sync", &[]).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    let stderr = String::from_utf8(synced.stderr).unwrap();
    assert_eq!(stderr.matches("no request is sent for 3 s: ").count(), 1, "{stderr}");
    assert!(stderr.contains("429"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_named_once_without_its_password() {
    let (_source, _destination, files) = scene("proxy-variables");
    for subcommand in ["plan", "sync"] {
        let mut command = files.command(subcommand, &[]);
        command.env("https_proxy", "http://user:canary-5d1c@proxy.example.com:3128").env("HTTP_PROXY", "http://p:1");
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(text(&output).matches("https_proxy, HTTP_PROXY has no effect").count(), 1, "{}", text(&output));
        assert!(!text(&output).contains("canary-5d1c"), "{}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_fields_that_match_nothing_are_refused() {
    let (source, _destination, mut files) = scene("no-effect");
    let refused = async |files: &Files, more: &[&str], expected: &str| {
        for subcommand in ["plan", "sync"] {
            let output = files.run(subcommand, more).await;
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains(expected), "{expected}: {}", text(&output));
        }
    };
    refused(&files, &["--ca", "https://r.example.com=ca.pem"], "without a scheme or path").await;
    refused(&files, &["--ca", "r.example.com=ca.pem"], "no Registry of the files has this host; they have ").await;
    refused(&files, &["--ca", &format!("{}=ca.pem", source.host())], "its Registry speaks plain http").await;
    let spec = files.documents[0]["spec"].clone();
    let wrong: [(&str, Value, &str); 4] = [
        ("url", json!(format!("{}/team", source.url())), "without user, path, query or fragment"),
        ("limits", json!({"concurrency": 65}), "spec.limits.concurrency: must be 1 to 64"),
        ("trustedHosts", json!(["https://cdn.example.com"]), "spec.trustedHosts[0]: "),
        ("tls", json!({"caConfigMapRef": {"name": "ca"}}), "has no effect on a plain http spec.url"),
    ];
    for (field, value, expected) in wrong {
        files.documents[0]["spec"][field] = value;
        refused(&files, &[], expected).await;
        files.documents[0]["spec"] = spec.clone();
    }
    for filter in ["Team/", "team//", "a.-b", "team/._"] {
        files.documents[2]["spec"]["rules"][0]["repositoryFilters"] =
            json!([{"filter": filter, "filterType": "PREFIX_MATCH"}]);
        refused(&files, &[], "filter must be the beginning of a repository name").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_name_is_shown_and_one_failure_costs_no_other_its_record() {
    let (source, destination, mut files) = scene("every-name");
    let digest = source.tags("app")["v0"].clone();
    source.tag("app", "not:valid", &digest);
    source.push("Team/App", "v1", &Image::single(9, 1, 1_000));
    source.push("other", "v1", &Image::single(8, 1, 1_000));
    source.fault(When::asked("", "/app/manifests/v1").always(), ScriptedFault::error(403, "DENIED"));
    source.fault(When::asked("", "/other/tags/list").always(), ScriptedFault::error(500, "UNKNOWN"));
    files.documents[2]["spec"]["rules"][0].as_object_mut().unwrap().remove("repositoryFilters");
    let state = files.state();
    for (subcommand, failed) in [("plan", "failed   source/app:v1"), ("sync", "FAILED    source/app:v1 -> d0/app:v1")] {
        let ran = files.run(subcommand, &["--state", &state]).await;
        assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
        for expected in [
            failed,
            "SourceDenied",
            "source lists 1 name that is not valid, such as \"Team/App\"; they are left out",
            "source/app lists 1 name that is not valid, such as \"not:valid\"; they are left out",
            "! team-a/app: source Registry source: ",
        ] {
            assert!(text(&ran).contains(expected), "{expected}: {}", text(&ran));
        }
        let json = files.run(subcommand, &["-o", "json"]).await;
        let printed: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(printed["invalidNames"][0]["names"], json!({"count": 1, "examples": ["Team/App"]}), "{printed}");
    }
    assert_eq!(destination.tags("app").into_keys().collect::<Vec<_>>(), ["v0", "v2"]);

    source.clear_faults();
    let asked = destination.log().len();
    let again = files.run("sync", &["--state", &state]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("2 copied, 2 already there, 0 failed"), "{}", text(&again));
    let asked = destination.log().split_off(asked);
    let is_known = |path: &str| path.ends_with("/app/manifests/v0") || path.ends_with("/app/manifests/v2");
    assert!(!asked.iter().any(|seen| is_known(&seen.path)), "they were recorded: {asked:?}");
}
