//! Pending is not running: an obstacle to the pods of copy Jobs is reported in its own words, and images arrive once it
//! is resolved.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::node::{SOON, Story, story};
use crate::support::eventually::eventually;
use crate::support::run_folder::new_folder;

/// An obstacle that keeps a lane's pods from running, its remedy, and the words of the condition.
struct Pending {
    name: &'static str,
    value: &'static str,
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_is_not_running_and_says_why() {
    let mut story = story("pending").await;
    story.scene.start_operator().await;
    let cases = [
        Pending { name: "no image", value: "image", says: "localhost/none:never" },
        Pending { name: "no node", value: "node", says: "Unschedulable" },
        Pending { name: "no quota", value: "quota", says: "exceeded quota" },
        Pending { name: "no admission", value: "admission", says: "maximum memory usage per Container is 16Mi" },
        Pending { name: "no security", value: "security", says: "violates PodSecurity \"restricted:latest\"" },
        Pending { name: "wrong authority", value: "authority", says: "OperatorUnreachable" },
    ];
    for (seed, case) in cases.iter().enumerate() {
        story.break_workers(case.value).await;
        let tag = format!("v{seed}");
        story.push_small("app", &tag, 40 + seed as u64).await;
        let began = Instant::now();
        let (namespace, scene) = (story.namespace.clone(), &story.scene);
        let message = eventually(SOON, &format!("{} is reported", case.name), async || {
            let message = scene
                .condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "False", "WorkerPending", SOON)
                .await;
            if message.contains(case.says) { Ok(message) } else { Err(message) }
        })
        .await;
        println!("{}: reported after {:?}: {message}", case.name, began.elapsed());
        let image = &scene.images().await[&format!("destination/app:{tag}")];
        assert_eq!(image.status, ReplicationState::Pending, "{}", case.name);
        story.let_workers_run(case.value).await;
        let resolved = Instant::now();
        story.complete(&format!("app:{tag}")).await;
        println!("{}: arrived {:?} after it was resolved", case.name, resolved.elapsed());
        story.end_workers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_obstacle_that_ends_beside_an_invalid_spec_is_not_shown_any_more() {
    let mut story = story("obstacle").await;
    story.scene.start_operator().await;
    story.break_workers("quota").await;
    story.push_small("app", "v1", 70).await;
    story.is_ready("False", "WorkerPending").await;
    story.set_tag_filter(r#"[{"filter": "v[", "filterType": "REGEX_MATCH"}]"#).await;
    story.is_ready("False", "InvalidSpec").await;
    story.let_workers_run("quota").await;
    story.end_workers().await;
    // The end of the obstacle is passed on within 5 s, to those who have a valid spec.
    tokio::time::sleep(Duration::from_secs(10)).await;
    story.set_tag_filter(r#"[{"filter": "v*", "filterType": "GLOB_MATCH"}]"#).await;
    story.complete("app:v1").await;
    story.is_ready("True", "Replicated").await;
}

impl Story {
    async fn is_ready(&self, status: &str, reason: &str) {
        let scene = &self.scene;
        scene.condition::<ReplicationConfiguration>(&self.namespace, "all", "Ready", status, reason, SOON).await;
    }

    async fn set_tag_filter(&self, filters: &str) {
        let patch = format!(r#"[{{"op": "add", "path": "/spec/rules/0/tagFilters", "value": {filters}}}]"#);
        let patch = ["-n", &self.namespace, "patch", "replicationconfiguration", "all", "--type", "json", "-p", &patch];
        self.scene.plane.kubectl(&patch).await.expect_success("kubectl");
    }

    async fn set_worker(&mut self, variable: &str) {
        self.kubectl(&["set", "env", "deployment/transship", variable]).await;
        self.kubectl(&["rollout", "status", "deployment/transship", "--timeout=60s"]).await;
    }

    async fn break_workers(&mut self, how: &str) {
        match how {
            "image" => self.set_worker("TRANSSHIP_WORKER_IMAGE=localhost/none:never").await,
            "node" => drop(self.kubectl(&["cordon", "node-1"]).await),
            "quota" => drop(self.kubectl(&["create", "quota", "none", "--hard=count/pods=0,pods=1"]).await),
            "admission" => {
                let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "none"},
                    "spec": {"limits": [{"type": "Container", "max": {"memory": "16Mi"}}]}});
                self.create(&[range]).await;
            }
            // Our pods satisfy Pod Security `restricted`. A foreign webhook or policy may change them so that they do
            // not.
            "security" => {
                let (name, objects) = self.injector();
                self.create(&objects).await;
                let probe =
                    ["run", "probe", "--image=none", "--labels=app.kubernetes.io/component=worker", "--dry-run=server"];
                let namespace = self.scene.operator.chart().namespace.clone();
                eventually(SOON, &format!("{name} is in force"), async || {
                    let mut all = vec!["-n", namespace.as_str()];
                    all.extend(probe);
                    let said = self.scene.plane.kubectl(&all).await.stderr;
                    if said.contains("host namespaces") { Ok(()) } else { Err(said) }
                })
                .await;
            }
            _ => self.set_worker("TRANSSHIP_CHANNEL_URL=https://kubernetes.default.svc").await,
        }
    }

    async fn let_workers_run(&mut self, how: &str) {
        let chart = self.scene.operator.chart().namespace.clone();
        match how {
            "image" => self.set_worker("TRANSSHIP_WORKER_IMAGE=localhost/transship:test").await,
            "node" => drop(self.kubectl(&["uncordon", "node-1"]).await),
            "quota" => drop(self.kubectl(&["delete", "quota", "none"]).await),
            "admission" => drop(self.kubectl(&["delete", "limitrange", "none"]).await),
            "security" => {
                let (name, _) = self.injector();
                let kinds = "mutatingadmissionpolicies,mutatingadmissionpolicybindings";
                self.kubectl(&["delete", kinds, &name]).await;
            }
            _ => self.set_worker(&format!("TRANSSHIP_CHANNEL_URL=https://transship-channel.{chart}.svc:8443")).await,
        }
    }
    /// Returns a policy that puts the pods of this story's workers into the network of their node.
    fn injector(&mut self) -> (String, Vec<Value>) {
        let namespace = self.scene.operator.chart().namespace.clone();
        let name = format!("{namespace}-injector");
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "objectSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                    "expression": "Object{spec: Object.spec{hostNetwork: true}}"}}]}});
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name}});
        (name, vec![policy, binding])
    }

    async fn create(&mut self, objects: &[Value]) {
        for object in objects {
            let file = new_folder("object").join("object.json");
            std::fs::write(&file, object.to_string()).unwrap();
            self.kubectl(&["create", "-f", &file.display().to_string()]).await;
        }
    }
}
