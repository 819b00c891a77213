//! The test ground itself stands: the API server, the registries, the tools, and the end of all of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::http::HeaderMap;
use reqwest::Method;

use crate::support::background::BackgroundServer;
use crate::support::control_plane::ControlPlane;
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::kube_users::{claim_operator, claim_tenant};
use crate::support::process::{is_running, spawn_bound};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::pusher::Pusher;
use crate::support::registry::{AccessLine, TestRegistry};
use crate::support::run_folder::{new_folder, run_folder};
use crate::support::tls::TestAuthority;
use crate::support::token_server::TokenServer;
use crate::support::tools::ToolLogin;

const SOON: Duration = Duration::from_secs(10);

/// Two registries whose options are the same and whose software is not.
macro_rules! both_generations {
    ($registry:ident => $test:block) => {
        for $registry in [TestRegistry::distribution("distribution"), TestRegistry::docker_2_8("docker-2-8")] $test
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_records_who_created_a_namespace() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("recorded").await;
    let created = plane.audit_log().into_iter().find(|event| {
        event.verb == "create" && event.object_ref.resource == "namespaces" && event.object_ref.name == namespace.name
    });
    let created = created.expect("an entry for the creation");
    assert_eq!((created.user.username.as_str(), created.response_status.code), ("admin", 201));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_serves_the_projects_definitions() {
    let plane = ControlPlane::shared().await;
    let listed = plane.kubectl(&["get", "crds", "-o", "name"]).await.expect_success("listing the definitions");
    assert!(listed.contains("transship"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_api_server_are_distinct_and_held_to_their_rights() {
    let plane = ControlPlane::shared().await;
    let (operator, tenant, start) = (claim_operator(), claim_tenant(), plane.audit_position());
    assert!(plane.kubectl_as(&operator, &["get", "secrets", "-A"]).await.success);
    assert!(!plane.kubectl_as(&tenant, &["get", "secrets", "-A"]).await.success);
    let codes = |user: &str| -> Vec<u16> {
        let about_secrets = plane.audit_log_of(user, start).into_iter().filter(|e| e.object_ref.resource == "secrets");
        about_secrets.map(|event| event.response_status.code).collect()
    };
    assert_eq!((codes(&operator), codes(&tenant)), (vec![200], vec![403]));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_registries_take_a_push_by_crane_and_log_it() {
    both_generations!(options => {
        let registry = options.start().await;
        registry.pusher().push("team/app", "1.0", &Image::single(1, 3, 2000)).await;
        let (from, to) = (registry.image("team/app:1.0"), registry.image("team/copy:1.0"));
        ToolLogin::anonymous().run("crane", &["copy", &from, &to]).await.expect_success("crane copy");
        eventually(SOON, "the push is in the access log", async || {
            let pushed = |access: &AccessLine| {
                access.method == "PUT" && access.path == "/v2/team/copy/manifests/1.0" && access.status == 201
                    && access.user_agent.starts_with("crane/")
            };
            registry.access_log().iter().any(pushed)
        })
        .await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_registries_keep_every_kind_of_image_as_it_was_pushed() {
    both_generations!(options => {
        let registry = options.start().await;
        let pusher = registry.pusher();
        let subject = Image::single(10, 2, 500);
        let images = [
            ("docker", Image::docker(11, 2, 500)),
            ("platforms", Image::multi_platform(20, 500)),
            ("nested", Image::nested_index(30, 500)),
            ("artifact", Image::artifact(40, "application/vnd.example.thing", 500, Some(&subject))),
            ("subject", subject),
        ];
        for (tag, image) in &images {
            let digest = pusher.push("kinds", tag, image).await;
            assert_eq!(pusher.digest_of("kinds", tag).await, Some(digest), "{tag}");
            assert_eq!(pusher.copy_tree_digests("kinds", tag).await, image.tree_digests(), "{tag}");
        }
        assert_eq!(pusher.tags("kinds").await.len(), images.len());
        assert_eq!(pusher.digest_of("kinds", "absent").await, None);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_keeps_its_port_and_its_images_over_a_restart() {
    let mut registry = TestRegistry::distribution("restarted").start().await;
    let (url, pusher) = (registry.url(), registry.pusher());
    let digest = pusher.push("app", "1", &Image::single(2, 1, 100)).await;
    registry.restart().await;
    assert_eq!((registry.url(), pusher.digest_of("app", "1").await), (url, Some(digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication_refuses_strangers_and_admits_users() {
    both_generations!(options => {
        let registry = options.user("robot", "right").start().await;
        registry.pusher().push("app", "1", &Image::single(3, 1, 100)).await;
        let image = registry.image("app:1");
        let wrong = ToolLogin::to(&registry.host(), "robot", "wrong");
        assert!(!ToolLogin::anonymous().run("crane", &["digest", &image]).await.success);
        assert!(!wrong.run("crane", &["digest", &image]).await.success);
        registry.login().run("crane", &["digest", &image]).await.expect_success("crane with the right password");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens_open_what_they_grant_and_nothing_else() {
    let tokens = TokenServer::start("registry.test");
    tokens.set_user("robot", "right", &["repository:team/*:pull,push"]);
    both_generations!(options => {
        let registry = options.token_server(&tokens).start().await;
        let pusher = Pusher::new(&registry.url()).user("robot", "right");
        pusher.push("team/app", "1", &Image::single(4, 1, 100)).await;
        let (granted, other) = (registry.image("team/app:1"), registry.image("other/app:1"));
        let robot = ToolLogin::to(&registry.host(), "robot", "right");
        robot.run("crane", &["digest", &granted]).await.expect_success("crane with a token");
        assert!(!robot.run("crane", &["copy", &granted, &other]).await.success);
        assert!(!ToolLogin::anonymous().run("crane", &["digest", &granted]).await.success);
    });
    let asked = tokens.requests();
    let by_crane = asked.iter().find(|request| request.user_agent.starts_with("crane/")).expect("crane asked");
    assert_eq!(by_crane.user.as_deref(), Some("robot"));
    assert!(asked.iter().any(|request| request.user.is_none()), "a stranger asked, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens_end_when_their_lifetime_does() {
    let tokens = TokenServer::start("registry.test");
    tokens.set_anonymous(&["repository:app:pull,push"]);
    tokens.set_lifetime(Duration::from_secs(2));
    both_generations!(options => {
        let registry = options.token_server(&tokens).start().await;
        registry.pusher().push("app", "1", &Image::single(5, 1, 100)).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let question = format!("{}?service=registry.test&scope=repository:app:pull", tokens.realm());
        let answer: serde_json::Value = client.get(question).send().await.unwrap().json().await.unwrap();
        let tags = format!("{}/v2/app/tags/list", registry.url());
        let status = async || {
            let get = client.request(Method::GET, &tags).bearer_auth(answer["token"].as_str().unwrap());
            get.send().await.unwrap().status().as_u16()
        };
        assert_eq!(status().await, 200);
        eventually(SOON, "the token is refused", async || status().await == 401).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_with_the_authority_and_not_without() {
    both_generations!(options => {
        let registry = options.tls().start().await;
        registry.pusher().push("app", "1", &Image::single(6, 1, 100)).await;
        let image = registry.image("app:1");
        let login = ToolLogin::anonymous();
        login.run("crane", &["digest", &image]).await.expect_success("crane with the authority");
        let mut distrusting = login.command("crane", &["digest", &image]);
        distrusting.env("SSL_CERT_FILE", TestAuthority::new("Another authority").file());
        assert!(!crate::support::tools::run(distrusting).await.success);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_registries_push_their_events_with_the_headers_asked_for() {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel::<(HeaderMap, String)>();
    let listen = move |headers: HeaderMap, body: String| async move {
        let _ = sender.send((headers, body));
    };
    let router = axum::Router::new().fallback(listen);
    let receiver = BackgroundServer::start("event-receiver", move |listener| async move {
        axum::serve(listener, router).await.unwrap();
    });
    let url = format!("http://{}/events", receiver.address());
    both_generations!(options => {
        let registry = options.notify(&url, &[("Authorization", "Bearer secret")]).start().await;
        let digest = registry.pusher().push("team/app", "1", &Image::single(8, 1, 100)).await;
        let notified = async {
            loop {
                let (headers, body) = events.recv().await.unwrap();
                assert_eq!(headers["authorization"], "Bearer secret");
                if body.contains(&digest) && body.contains(r#""action": "push""#) && body.contains(r#""tag": "1""#) {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, notified).await.expect("the registry notifies of the push");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fault_proxy_passes_holds_cuts_and_refuses() {
    let registry = TestRegistry::distribution("behind-a-proxy").start().await;
    let proxy = FaultProxy::start(registry.address());
    let blob = Blob::layer(7, 100_000);
    registry.pusher().push_blob("app", &blob).await;
    let url = format!("http://{}/v2/app/blobs/{}", proxy.host(), blob.digest);
    let fetch = async || {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build().unwrap();
        client.get(&url).send().await?.bytes().await
    };
    assert_eq!(fetch().await.unwrap(), blob.bytes);
    eventually(SOON, "the proxy has counted the answer", async || proxy.bytes_to_client() > 100_000).await;
    proxy.set(LineFault::CutAfter(50_000));
    assert!(!fetch().await.unwrap_err().is_timeout());
    proxy.set(LineFault::Refuse);
    assert!(!fetch().await.unwrap_err().is_timeout());
    proxy.set(LineFault::Hold);
    assert!(fetch().await.unwrap_err().is_timeout());
    proxy.set(LineFault::Delay { to_upstream: Duration::from_millis(100), to_client: Duration::ZERO });
    assert_eq!(fetch().await.unwrap(), blob.bytes);
    assert_eq!(proxy.connections(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_registry_that_is_dropped() {
    let registry = TestRegistry::distribution("dropped").start().await;
    let (id, data) = (registry.process_id().unwrap(), registry.data_folder());
    assert!(is_running(id));
    drop(registry);
    assert!(!is_running(id) && !data.parent().unwrap().exists());
}

/// The environment of a second run of this binary, which the test below starts.
const LEAVE_WORD_IN: &str = "TRANSSHIP_TEST_LEAVE_WORD_IN";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_run_that_is_killed() {
    if let Some(word) = std::env::var_os(LEAVE_WORD_IN) {
        let registry = TestRegistry::distribution("orphan").start().await;
        let known = format!("{} {}", registry.process_id().unwrap(), run_folder().display());
        std::fs::write(PathBuf::from(&word).with_extension("new"), known).unwrap();
        std::fs::rename(PathBuf::from(&word).with_extension("new"), &word).unwrap();
        std::future::pending::<()>().await;
    }
    let word = new_folder("second-run").join("word");
    let mut second = Command::new(std::env::current_exe().unwrap());
    second.args(["--exact", "ground::nothing_is_left_of_a_run_that_is_killed"]).env(LEAVE_WORD_IN, &word);
    second.env_remove("TRANSSHIP_TEST_KEEP").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut second = spawn_bound(second).unwrap();
    let known =
        eventually(SOON, "the second run has started a registry", async || std::fs::read_to_string(&word)).await;
    let (id, folder) = known.split_once(' ').unwrap();
    assert!(is_running(id.parse().unwrap()) && PathBuf::from(folder).exists());
    second.kill().unwrap();
    second.wait().unwrap();
    eventually(SOON, "the registry and the folder are gone", async || {
        !is_running(id.parse().unwrap()) && !PathBuf::from(folder).exists()
    })
    .await;
}
