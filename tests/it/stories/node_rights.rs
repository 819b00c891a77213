//! The power of a thief who has the credentials of the operator or of a worker.

use std::path::PathBuf;

use rustix::process::Pid;

use super::node::{Story, story};
use super::scene::PASSWORD;

#[tokio::test(flavor = "multi_thread")]
async fn stolen_credentials_of_the_operator_or_of_a_worker_open_nothing_else() {
    let mut story = story("stolen").await;
    story.scene.start_operator().await;
    let (system, tenant) = (story.scene.operator.chart().namespace.clone(), story.namespace.clone());
    let plane = story.scene.plane;
    let may = async |account: &str, namespace: &str, verb: &str, resource: &str| {
        let user = format!("--as=system:serviceaccount:{system}:{account}");
        plane.kubectl(&["auth", "can-i", verb, resource, "-n", namespace, &user]).await.stdout.trim() == "yes"
    };
    for account in ["transship", "transship-worker"] {
        for (namespace, verb, resource) in [
            (&tenant, "list", "secrets"),
            (&tenant, "watch", "secrets"),
            (&tenant, "create", "pods"),
            (&tenant, "create", "jobs.batch"),
            (&tenant, "update", "registrypermissionpolicies.transship.dev"),
            (&tenant, "create", "registries.transship.dev"),
            (&system, "list", "secrets"),
            (&system, "create", "pods"),
            (&system, "create", "pods/exec"),
            (&system, "create", "rolebindings.rbac.authorization.k8s.io"),
        ] {
            assert!(!may(account, namespace, verb, resource).await, "{account} may {verb} {resource} in {namespace}");
        }
    }
    assert!(!may("transship-worker", &tenant, "get", "secrets").await);
    // A tenant with every right in its namespace writes no status, whatever roles say.
    story.push_small("app", "v1", 80).await;
    story.complete("app:v1").await;
    let name = story.scene.statuses().await[0].metadata.name.clone().unwrap();
    let patch = [
        "-n",
        &tenant,
        "patch",
        "replicationstatus",
        &name,
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"source":"forged"}}"#,
        "--as=stranger",
        "--as-group=system:masters",
    ];
    let refused = plane.kubectl(&patch).await;
    assert!(!refused.success && refused.stderr.contains("only the Transship operator"), "{}", refused.stderr);
    story.drill(&tenant, &system).await;
}

impl Story {
    /// With the token that the operator's pod really has; a worker's has none.
    async fn drill(&mut self, tenant: &str, system: &str) {
        let plane = self.scene.plane;
        let other = plane.namespace("stolen-other").await.name;
        self.scene.secret(&other, "theirs", "registry.example.com", "writer", PASSWORD).await;
        let operator = self.scene.operator.chart().processes("operator")[0];
        let token = std::fs::read_to_string(in_pod(operator, ACCOUNT).join("token")).expect("the operator's own token");
        let as_operator = async |namespace: &str, arguments: &[&str]| {
            let token = format!("--token={}", token.trim());
            let mut all = vec!["-n", namespace, &token];
            all.extend(arguments);
            plane.kubectl(&all).await
        };
        // The Secret of a Registry that it watches: this is how far the stolen token goes.
        as_operator(tenant, &["get", "secret", "destination"]).await.expect_success("kubectl get");
        for (namespace, arguments) in [
            (other.as_str(), &["get", "secret", "theirs"][..]),
            ("kube-system", &["get", "secret", "bootstrap-token"]),
            (system, &["get", "secret", "sh.helm.release.v1.transship.v1"]),
            (tenant, &["get", "secrets"]),
            (&other, &["patch", "replicationstatus", "any", "--subresource=status", "--type=merge", "-p", "{}"]),
            (&other, &["delete", "replicationstatus", "any"]),
            (&other, &["patch", "registry", "any", "--subresource=status", "--type=merge", "-p", "{}"]),
            (tenant, &["run", "mine", "--image=localhost/transship:test"]),
            (system, &["run", "mine", "--image=localhost/transship:test"]),
            (&other, &["create", "job", "mine", "--image=localhost/transship:test"]),
        ] {
            let refused = as_operator(namespace, arguments).await;
            let is_refused = !refused.success && refused.stderr.to_lowercase().contains("forbidden");
            assert!(is_refused, "{arguments:?} in {namespace}: {}{}", refused.stdout, refused.stderr);
        }
        let worker = self.scene.operator.chart().processes("worker")[0];
        assert!(in_pod(worker, "/etc/transship/channel/token").exists(), "this is how a worker's pod looks");
        assert!(!in_pod(worker, ACCOUNT).exists(), "a worker has no token of Kubernetes");
    }
}

fn in_pod(process: Pid, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", process.as_raw_nonzero()))
}

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
