//! The operator whose work is measured, and everything around it: an API server, registries and a namespace.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use transship::api::{REPLICATE_REQUESTED_AT, ReplicationConfiguration};

use crate::support::control_plane::{AuditEvent, ControlPlane, TestNamespace};
use crate::support::kube_users::claim_operator;
use crate::support::memory::processor_time;
use crate::support::process::{ChildProcess, Port, is_running};
use crate::support::run_folder::new_folder;
use crate::support::scripted::{Login, Personality, ScriptedRegistry};
use crate::support::tls::client_builder;

/// The token of notifications.
const TOKEN: &str = "a-token-of-the-notifications";

/// The ground of one course.
pub struct ScaleGround {
    plane: &'static ControlPlane,
    user: String,
    pub namespace: TestNamespace,
    pub source: ScriptedRegistry,
    pub destinations: Vec<ScriptedRegistry>,
    process: Option<ChildProcess>,
    folder: PathBuf,
    admin: Port,
    notify: Port,
    http: reqwest::Client,
}

/// The state of all counters at one moment.
pub struct Mark {
    at: Instant,
    cpu: f64,
    audit: u64,
    source: usize,
    destination: usize,
}

/// The resources that were taken since a [`Mark`].
#[derive(Debug, Clone)]
pub struct Taken {
    pub seconds: f64,
    /// Seconds of processor time of the operator.
    pub cpu: f64,
    /// Writes to the API server, without renewals of the Lease.
    pub writes: usize,
    /// The most of them in one second.
    pub peak_writes: usize,
    /// Requests to the source.
    pub source: usize,
    /// Requests to destinations, without checks of the Registries.
    pub destination: usize,
}

impl ScaleGround {
    pub async fn new(story: &str, destinations: usize) -> Self {
        let registry = || ScriptedRegistry::start(Personality { login: Login::Anonymous, ..Personality::plain() });
        let plane = ControlPlane::shared().await;
        Self {
            plane,
            user: claim_operator(),
            namespace: plane.namespace(story).await,
            source: registry(),
            destinations: (0..destinations).map(|_| registry()).collect(),
            process: None,
            folder: new_folder("scale"),
            admin: Port::claim(),
            notify: Port::claim(),
            http: client_builder().build().expect("a client"),
        }
    }

    /// Starts an operator; it is not ready yet.
    pub fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
        command.arg("operator").env("KUBECONFIG", self.plane.kubeconfig_of(&self.user)).env("RUST_LOG", "warn");
        command.args(["--default-execution", "InProcess", "--watch-namespace", &self.namespace.name]);
        command.args(["--lease", "transship", "--identity", "scale", "--namespace", &self.namespace.name]);
        command.args(["--admin-address", &format!("127.0.0.1:{}", self.admin.number())]);
        command.args(["--notify-address", &format!("127.0.0.1:{}", self.notify.number())]);
        for registry in std::iter::once(&self.source).chain(&self.destinations) {
            command.args(["--egress-allow", &registry.host()]);
        }
        self.process = Some(ChildProcess::start("operator", command, &self.folder.join("log")));
    }

    /// Waits until it is ready.
    pub async fn is_ready(&self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.admin.number());
        self.until("it is ready", async || {
            self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Kills it.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Looks every 20 ms until something is so; fails with the log of the operator after the longest time of a course.
    pub async fn until(&self, sentence: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            let tail = || self.process.as_ref().map(ChildProcess::log_tail).unwrap_or_default();
            assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {sentence}; {}", tail());
            let runs = self.process.as_ref().is_none_or(|process| is_running(process.id()));
            assert!(runs, "the operator has ended by itself before {sentence}; {}", tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing is asked of a destination or written to the API server for three seconds. A source may be swept
    /// meanwhile: that takes hours at size.
    pub async fn is_quiet(&self) {
        let mut since = self.mark();
        self.until("it is quiet", async || {
            if since.at.elapsed() < QUIET {
                return false;
            }
            let taken = self.since(&since);
            since = self.mark();
            taken.writes + taken.destination == 0
        })
        .await;
    }

    pub fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            cpu: self.process.as_ref().map_or(0.0, |process| processor_time(process.id())),
            audit: self.plane.audit_position(),
            source: asked(&self.source),
            destination: self.destinations.iter().map(asked).sum(),
        }
    }

    pub fn since(&self, mark: &Mark) -> Taken {
        let seconds = mark.at.elapsed().as_secs_f64();
        let writes = self.writes(mark);
        let mut by_second = std::collections::BTreeMap::new();
        writes.iter().for_each(|write| *by_second.entry(write.stage_timestamp.as_second()).or_insert(0) += 1);
        Taken {
            seconds,
            cpu: self.process.as_ref().map_or(0.0, |process| processor_time(process.id())) - mark.cpu,
            writes: writes.len(),
            peak_writes: by_second.into_values().max().unwrap_or(0),
            source: asked(&self.source) - mark.source,
            destination: self.destinations.iter().map(asked).sum::<usize>() - mark.destination,
        }
    }

    /// Returns the requests since a mark that changed something at the API server.
    pub fn writes(&self, mark: &Mark) -> Vec<AuditEvent> {
        let mut events = self.plane.audit_log_of(&self.user, mark.audit);
        let is_lease = |event: &AuditEvent| event.request_uri.contains("/leases");
        events.retain(|event| !matches!(event.verb.as_str(), "get" | "list" | "watch") && !is_lease(event));
        events
    }

    /// Returns the resident memory of the operator, now and at its peak, in MiB.
    pub fn memory(&self) -> (f64, f64) {
        let id = self.process.as_ref().expect("the operator runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Applies objects, some at a time.
    pub async fn create(&self, objects: &[Value]) {
        for objects in objects.chunks(AT_ONCE) {
            join_all(objects.iter().map(async |object| {
                let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
                let kind = object.types.as_ref().expect("a kind");
                let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(kind).expect("a kind"));
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.namespace.client.clone(), &self.namespace.name, &kind);
                api.create(&PostParams::default(), &object).await.expect("an object is created");
            }))
            .await;
        }
    }

    pub fn configurations(&self) -> Api<ReplicationConfiguration> {
        Api::namespaced(self.namespace.client.clone(), &self.namespace.name)
    }

    /// Has a configuration compare everything again, and waits until that is done.
    pub async fn compare(&self, name: &str) {
        let request = format!("{:?}", Instant::now());
        let annotation = json!({"metadata": {"annotations": {REPLICATE_REQUESTED_AT: request}}});
        let configurations = self.configurations();
        configurations.patch(name, &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("a request");
        self.until("the comparison has ended", async || {
            let found = configurations.get(name).await.ok().and_then(|found| found.status);
            found.and_then(|status| status.last_handled_replicate_request).as_ref() == Some(&request)
        })
        .await;
    }

    /// Has a configuration compare by an interval of 30 s, and returns what a minute takes: two comparisons, which list the
    /// source and look for new tags, and the sweep of known tags.
    pub async fn compare_by_interval(&self, name: &str) -> Taken {
        let set = async |interval: &str| {
            let interval = Patch::Merge(json!({"spec": {"interval": interval}}));
            self.configurations().patch(name, &PatchParams::default(), &interval).await.expect("an interval");
        };
        set("30s").await;
        tokio::time::sleep(MINUTE / 2).await;
        let mark = self.mark();
        tokio::time::sleep(MINUTE).await;
        let taken = self.since(&mark);
        set("24h").await;
        taken
    }

    /// Notifies of a push, again and again until the notification is taken.
    pub async fn notify(&self, registry: &str, repository: &str, tag: &str, digest: &str) {
        let url = format!("http://127.0.0.1:{}/v1/notify/{}/{registry}", self.notify.number(), self.namespace.name);
        let target = json!({"repository": repository, "tag": tag, "digest": digest});
        let event = json!({"events": [{"action": "push", "target": target}]}).to_string();
        self.until("the notification is taken", async || {
            let request = self.http.post(&url).bearer_auth(TOKEN).body(event.clone());
            request.send().await.is_ok_and(|answer| answer.status().as_u16() == 202)
        })
        .await;
    }

    /// Returns the objects of a Registry that notifies, and of its Secret.
    pub fn notifying(&self, name: &str) -> [Value; 2] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notify"},
            "stringData": {"token": TOKEN}});
        let auth = json!({"type": "Bearer", "secretRef": {"name": "notify"}});
        let mut registry = registry_object(name, &self.source.url());
        registry["spec"]["notifications"] = json!({"type": "Distribution", "auth": auth});
        [secret, registry]
    }
}

/// Returns a Registry object.
pub fn registry_object(name: &str, url: &str) -> Value {
    json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
        "spec": {"url": url, "allowHTTP": true}})
}

/// Returns a configuration object with one rule.
pub fn configuration_object(name: &str, filter: (&str, &str), destinations: &[String]) -> Value {
    let destinations: Vec<Value> = destinations.iter().map(|name| json!({"registryRef": {"name": name}})).collect();
    let filters = json!([{"filter": filter.0, "filterType": filter.1}]);
    let rule = json!({"name": "all", "repositoryFilters": filters, "destinations": destinations});
    json!({"apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": name},
        "spec": {"source": {"registryRef": {"name": "source"}}, "rules": [rule], "interval": "24h"}})
}

fn asked(registry: &ScriptedRegistry) -> usize {
    registry.requests()
}

const MINUTE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(1_800);
const AT_ONCE: usize = 50;
