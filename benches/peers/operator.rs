//! The operator under measurement: it copies InProcess, under an API server that is started once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::watcher::{Config, Event, watcher};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use transship::api::{REPLICATE_REQUESTED_AT, Registry, ReplicationConfiguration, ReplicationStatus};

use crate::measure::{Usage, peak_memory, processor_time};
use crate::support::control_plane::{ControlPlane, TestNamespace};
use crate::support::kube_users::claim_operator;
use crate::support::process::{ChildProcess, Port};
use crate::support::run_folder::new_folder;
use crate::support::tls::client_builder;

/// The API server of all measurements.
pub struct Cluster {
    plane: &'static ControlPlane,
    user: String,
}

/// An operator that is ready, and a namespace for what it is to do.
pub struct BenchOperator<'a> {
    cluster: &'a Cluster,
    pub namespace: TestNamespace,
    process: ChildProcess,
    folder: PathBuf,
    /// Given back after the process has ended.
    _ports: [Port; 2],
}

/// The resources that one piece of work took.
#[derive(Debug, Clone)]
pub struct OperatorWork {
    /// Of the operator; the time is that from the first request of the user to the last status.
    pub usage: Usage,
    pub api: ApiServer,
}

/// The load of the API server.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ApiServer {
    /// Requests of the operator that changed something.
    pub writes: usize,
    /// Seconds of processor time of the API server and etcd.
    pub cpu: f64,
}

impl Cluster {
    /// Starts the API server and waits until it has little to do.
    pub async fn start() -> Self {
        let cluster = Self { plane: ControlPlane::shared().await, user: claim_operator() };
        let began = Instant::now();
        loop {
            let before = cluster.processor_time();
            tokio::time::sleep(SETTLING).await;
            let busy = (cluster.processor_time() - before) / SETTLING.as_secs_f64();
            if busy < IDLE || began.elapsed() > MAX_SETTLING {
                eprintln!("the API server takes {:.1} % of a core when it is idle", 100.0 * busy);
                return cluster;
            }
        }
    }

    /// Starts an operator for registries at `hosts`.
    ///
    /// # Errors
    /// If it is not ready in time.
    pub async fn operator(&self, hosts: &[String]) -> Result<BenchOperator<'_>, String> {
        let namespace = self.plane.namespace("bench").await;
        let ports = [Port::claim(), Port::claim()];
        let [admin, notify] = [0, 1].map(|port: usize| format!("127.0.0.1:{}", ports[port].number()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
        command.arg("operator").env("KUBECONFIG", self.plane.kubeconfig_of(&self.user));
        command.args(["--default-execution", "InProcess", "--watch-namespace", &namespace.name]);
        command.args(["--admin-address", &admin, "--notify-address", &notify]);
        for host in hosts {
            command.args(["--egress-allow", host]);
        }
        let folder = new_folder("operator");
        let process = ChildProcess::start("operator", command, &folder.join("log"));
        let mut operator = BenchOperator { cluster: self, namespace, process, folder, _ports: ports };
        operator.is_ready(&format!("http://{admin}/readyz")).await?;
        Ok(operator)
    }

    fn processor_time(&self) -> f64 {
        self.plane.process_ids().map(processor_time).sum()
    }
}

impl BenchOperator<'_> {
    async fn is_ready(&mut self, url: &str) -> Result<(), String> {
        let client = client_builder().build().map_err(|error| error.to_string())?;
        let began = Instant::now();
        while began.elapsed() < START && self.process.ended().is_none() {
            if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("the operator is not ready; {}", self.process.log_tail()))
    }

    /// Applies `objects`, and waits until so many images are COMPLETE.
    ///
    /// # Errors
    /// A sentence if they are not `within` that time.
    pub async fn replicate(&self, objects: &[Value], images: usize, within: Duration) -> Result<OperatorWork, String> {
        let statuses: Api<ReplicationStatus> = Api::namespaced(self.namespace.client.clone(), &self.namespace.name);
        // An event for each pair that comes to rest, and none for what is under way.
        let mut events = pin!(watcher(statuses, Config::default().fields("status.summary.status=COMPLETE")));
        let watching = async {
            while !matches!(events.try_next().await.map_err(|error| error.to_string())?, Some(Event::InitDone)) {}
            Ok::<_, String>(())
        };
        watching.await?;
        let mut complete: BTreeMap<String, u64> = BTreeMap::new();
        let work = async {
            for object in objects {
                self.create(object).await?;
            }
            while complete.values().sum::<u64>() < images as u64 {
                match events.try_next().await.map_err(|error| error.to_string())? {
                    Some(Event::Apply(status) | Event::InitApply(status)) => {
                        let counted = status.status.as_ref().map_or(0, |status| status.summary.complete);
                        complete.insert(status.name_any(), counted);
                    }
                    Some(Event::Delete(status)) => drop(complete.remove(&status.name_any())),
                    Some(Event::Init | Event::InitDone) => {}
                    None => return Err("the watch of the statuses has ended".to_owned()),
                }
            }
            Ok(())
        };
        let measured = self.measured(within, work).await;
        measured
            .map_err(|error| format!("{error}; {} of {images} images were COMPLETE", complete.values().sum::<u64>()))
    }

    /// Has the configuration `name` compare everything again, and waits until that is done.
    ///
    /// # Errors
    /// A sentence if it is not `within` that time.
    pub async fn compare(&self, name: &str, within: Duration) -> Result<OperatorWork, String> {
        let configurations: Api<ReplicationConfiguration> =
            Api::namespaced(self.namespace.client.clone(), &self.namespace.name);
        let request = format!("{:?}", Instant::now());
        let annotation = json!({"metadata": {"annotations": {REPLICATE_REQUESTED_AT: request}}});
        let work = async {
            let patch = Patch::Merge(&annotation);
            configurations.patch(name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())?;
            loop {
                let found = configurations.get(name).await.map_err(|error| error.to_string())?;
                let handled = found.status.and_then(|status| status.last_handled_replicate_request);
                if handled.as_ref() == Some(&request) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        self.measured(within, work).await
    }

    /// Returns the resources that `work` takes.
    async fn measured(
        &self,
        within: Duration,
        work: impl Future<Output = Result<(), String>>,
    ) -> Result<OperatorWork, String> {
        let position = self.cluster.plane.audit_position();
        let (cpu, api_cpu) = (processor_time(self.process.id()), self.cluster.processor_time());
        let began = Instant::now();
        match tokio::time::timeout(within, work).await {
            Ok(done) => done?,
            Err(_) => return Err(format!("not within {within:?}; {}", self.process.log_tail())),
        }
        let wall = began.elapsed().as_secs_f64();
        let cpu = processor_time(self.process.id()) - cpu;
        let api_cpu = self.cluster.processor_time() - api_cpu;
        let events = self.cluster.plane.audit_log_of(&self.cluster.user, position);
        let writes = events.iter().filter(|event| !matches!(event.verb.as_str(), "get" | "list" | "watch")).count();
        let usage = Usage { wall, cpu, memory: peak_memory(self.process.id()), exit_code: Some(0) };
        Ok(OperatorWork { usage, api: ApiServer { writes, cpu: api_cpu } })
    }

    async fn create(&self, object: &Value) -> Result<(), String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        let kind = object.types.as_ref().ok_or("an object has no kind")?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(kind).map_err(|error| error.to_string())?);
        let api: Api<DynamicObject> = Api::namespaced_with(self.namespace.client.clone(), &self.namespace.name, &kind);
        api.create(&PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
    }

    /// Ends the operator, and deletes what was applied: the next one does not read it.
    pub async fn end(self) {
        let Self { namespace, process, folder, .. } = self;
        process.terminate(START).await;
        let (client, name) = (&namespace.client, &namespace.name);
        let all = (&DeleteParams::default(), &ListParams::default());
        let configurations: Api<ReplicationConfiguration> = Api::namespaced(client.clone(), name);
        let statuses: Api<ReplicationStatus> = Api::namespaced(client.clone(), name);
        let registries: Api<Registry> = Api::namespaced(client.clone(), name);
        configurations.delete_collection(all.0, all.1).await.expect("configurations are deleted");
        statuses.delete_collection(all.0, all.1).await.expect("statuses are deleted");
        registries.delete_collection(all.0, all.1).await.expect("registries are deleted");
        let _ = std::fs::remove_dir_all(folder);
    }
}

const START: Duration = Duration::from_secs(60);
const SETTLING: Duration = Duration::from_secs(2);
const MAX_SETTLING: Duration = Duration::from_secs(60);
/// Of a core.
const IDLE: f64 = 0.06;
