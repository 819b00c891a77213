//! The operator of a story: a process beside the tests, or, on a node, the chart installed with helm, whose Jobs do the
//! copying.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::eventually::eventually;
use crate::support::kube_users::claim_operator;
use crate::support::process::{ChildProcess, Port};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::run_folder::{new_folder, repository};
use crate::support::stage;
use crate::support::tls::client_builder;
use crate::support::tools::{Output, go_tool, run};

/// The operator of one story.
pub enum Operator {
    ChildProcess(ProcessOperator),
    Chart(ChartOperator),
}

impl Operator {
    /// Returns an operator that does not run yet.
    pub async fn new(plane: &'static ControlPlane, story: &str) -> Self {
        if stage::node().is_some() {
            return Self::Chart(ChartOperator::new(plane, story).await);
        }
        let (user, admin, notify) = (claim_operator(), Port::claim(), Port::claim());
        Self::ChildProcess(ProcessOperator {
            plane,
            user,
            admin,
            notify,
            running: None,
            proxy: None,
            api_url: None,
            arguments: Vec::new(),
        })
    }

    /// Returns its name in the audit log.
    pub fn user(&self) -> String {
        match self {
            Self::ChildProcess(process) => process.user.clone(),
            Self::Chart(chart) => format!("system:serviceaccount:{}:transship", chart.namespace),
        }
    }

    /// Returns the URL to which registries send their notifications.
    pub fn notify_url(&self) -> String {
        match self {
            Self::ChildProcess(process) => format!("http://127.0.0.1:{}", process.notify.number()),
            Self::Chart(chart) => format!("http://{}:8081", chart.notify_address),
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self, namespaces: &[String], hosts: &[String]) {
        match self {
            Self::ChildProcess(process) => process.start(namespaces, hosts).await,
            Self::Chart(chart) => chart.start(namespaces).await,
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        match self {
            Self::ChildProcess(process) => drop(process.running.take().expect("the operator runs")),
            Self::Chart(chart) => assert_eq!(chart.signal("operator", Signal::KILL), 1, "the operator runs"),
        }
    }

    /// Ends it as Kubernetes does.
    pub async fn end(&mut self) {
        match self {
            Self::ChildProcess(process) => {
                let running = process.running.take().expect("the operator runs");
                let status = running.terminate(Duration::from_secs(20)).await;
                assert!(status.success(), "the operator ends well: {status}");
            }
            Self::Chart(chart) => chart.scale(0).await,
        }
    }

    /// Returns everything that it has logged since it was started.
    pub async fn log(&self) -> String {
        match self {
            Self::ChildProcess(process) => process.running.as_ref().map(ChildProcess::log).unwrap_or_default(),
            Self::Chart(chart) => {
                let all =
                    ["logs", "-n", &chart.namespace, "-l", "app.kubernetes.io/name=transship", "--tail=-1", "--prefix"];
                chart.plane.kubectl(&all).await.stdout
            }
        }
    }

    /// Says, before it is started, that [`Operator::cut_off`] will be called.
    pub fn will_be_cut_off(&mut self) {
        if let Self::ChildProcess(process) = self {
            let server = process.plane.server().trim_start_matches("https://").parse().expect("an address");
            process.proxy = Some(FaultProxy::start(server));
        }
    }

    /// Holds everything between it and the API server, open connections included; no other client is held.
    pub async fn cut_off(&self) {
        match self {
            Self::ChildProcess(process) => process.proxy.as_ref().expect("it was said before").set(LineFault::Hold),
            Self::Chart(chart) => {
                let drop = "chain out { type filter hook output priority 0; ip daddr 10.96.0.1 drop; };";
                chart.in_network(&["nft", &format!("table ip cut {{ {drop} }}")]).await;
            }
        }
    }

    /// Resets every connection between it and the API server, until [`Operator::reconnect`].
    pub fn refuse_connections(&self) {
        match self {
            Self::ChildProcess(process) => process.proxy.as_ref().expect("it was said before").set(LineFault::Refuse),
            Self::Chart(_) => panic!("this story plays without a node"),
        }
    }

    /// Lets everything through again.
    pub async fn reconnect(&self) {
        match self {
            Self::ChildProcess(process) => process.proxy.as_ref().expect("it was said before").set(LineFault::None),
            Self::Chart(chart) => chart.in_network(&["nft", "delete table ip cut"]).await,
        }
    }

    /// Returns the metrics as text.
    pub async fn metrics(&self) -> String {
        self.ask("/metrics").await.1
    }

    /// Returns the status and the text of a path of its admin port.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let host = match self {
            Self::ChildProcess(process) => format!("127.0.0.1:{}", process.admin.number()),
            Self::Chart(chart) => {
                let pods = chart.pods("operator").await;
                format!("{}:8080", pods[0]["status"]["podIP"].as_str().expect("an address"))
            }
        };
        let client = client_builder().build().expect("a client");
        let answer = client.get(format!("http://{host}{path}")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Returns the value of one counter of its metrics; 0 if there is none.
    pub async fn counter(&self, name: &str) -> u64 {
        let (metrics, name) = (self.metrics().await, format!("{name} "));
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.and_then(|value| value.split(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Returns the process's side, for stories that play without a node only.
    pub fn process(&mut self) -> &mut ProcessOperator {
        match self {
            Self::ChildProcess(process) => process,
            Self::Chart(_) => panic!("this story plays without a node"),
        }
    }

    /// Returns the chart's side, for stories that play on a node only.
    pub fn chart(&mut self) -> &mut ChartOperator {
        match self {
            Self::ChildProcess(_) => panic!("this story plays on a node: run it with `make test-node`"),
            Self::Chart(chart) => chart,
        }
    }
}

/// A process of the binary under test.
pub struct ProcessOperator {
    plane: &'static ControlPlane,
    user: String,
    pub(super) admin: Port,
    notify: Port,
    running: Option<ChildProcess>,
    proxy: Option<FaultProxy>,
    /// The URL of the API server, if it is not that of the control plane.
    pub api_url: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl ProcessOperator {
    /// Returns the running process.
    pub fn running(&self) -> &ChildProcess {
        self.running.as_ref().expect("the operator runs")
    }

    /// Returns true if the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| running.ended().is_some())
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self, namespaces: &[String], hosts: &[String]) {
        let mut kubeconfig = self.plane.kubeconfig_of(&self.user);
        let proxied = self.proxy.as_ref().map(|proxy| format!("https://{}", proxy.host()));
        if let Some(server) = self.api_url.clone().or(proxied) {
            let text = std::fs::read_to_string(&kubeconfig).expect("a kubeconfig");
            kubeconfig = new_folder("kubeconfig").join("config");
            std::fs::write(&kubeconfig, text.replace(self.plane.server(), &server)).expect("a file");
        }
        // Figures of a release build are measured by the same tests.
        let program = std::env::var("TRANSSHIP_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_transship").to_owned());
        let mut command = Command::new(program);
        command.arg("operator").env("KUBECONFIG", kubeconfig).env("RUST_LOG", "info,transship=debug");
        command.arg("--admin-address").arg(format!("127.0.0.1:{}", self.admin.number()));
        command.arg("--notify-address").arg(format!("127.0.0.1:{}", self.notify.number()));
        command.arg("--default-execution").arg("InProcess");
        command.args(&self.arguments);
        for namespace in namespaces {
            command.arg("--watch-namespace").arg(namespace);
        }
        for host in hosts {
            command.arg("--egress-allow").arg(host);
        }
        let log = new_folder("operator").join("operator.log");
        self.running = Some(ChildProcess::start("operator", command, &log));
    }

    async fn start(&mut self, namespaces: &[String], hosts: &[String]) {
        self.spawn(namespaces, hosts);
        let url = format!("http://127.0.0.1:{}/readyz", self.admin.number());
        let client = client_builder().build().expect("a client");
        eventually(Duration::from_secs(60), "the operator is ready", async || {
            let answer = client.get(&url).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
        })
        .await;
    }
}

/// Returns a cluster IP that no Service has: of the lowest 256, which Kubernetes keeps for those that are chosen by
/// hand.
async fn free_address(plane: &ControlPlane) -> Ipv4Addr {
    static GIVEN: Mutex<BTreeSet<Ipv4Addr>> = Mutex::new(BTreeSet::new());
    let services = ["get", "services", "-A", "-o", "jsonpath={.items[*].spec.clusterIP}"];
    let taken = plane.kubectl(&services).await.expect_success("kubectl get services");
    let mut given = GIVEN.lock().unwrap();
    let mut addresses = (32..=254).map(|last| Ipv4Addr::new(10, 96, 0, last));
    let is_free = |address: &Ipv4Addr| {
        !given.contains(address) && !taken.split_whitespace().any(|other| other == address.to_string())
    };
    let address = addresses.find(is_free).expect("an address is free");
    given.insert(address);
    address
}

/// The chart in a namespace of its own, under Pod Security `restricted`, for the namespaces of one story.
pub struct ChartOperator {
    plane: &'static ControlPlane,
    /// The place in which the operator and its Jobs run.
    pub namespace: String,
    notify_address: Ipv4Addr,
    installed: bool,
    /// Further values of the chart.
    pub values: Vec<String>,
}

impl ChartOperator {
    async fn new(plane: &'static ControlPlane, story: &str) -> Self {
        let namespace = plane.namespace(&format!("{story}-system")).await.name;
        let label = ["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"];
        plane.kubectl(&label).await.expect_success("kubectl label");
        let notify_address = free_address(plane).await;
        Self { plane, namespace, notify_address, installed: false, values: Vec::new() }
    }

    async fn start(&mut self, namespaces: &[String]) {
        if self.installed {
            self.scale(1).await;
            return self.is_ready().await;
        }
        self.installed = true;
        self.helm("install", namespaces).await.expect_success("helm install");
    }

    /// Runs `helm install` or `helm upgrade` with the story's values, and waits until the operator is ready.
    pub async fn helm(&self, verb: &str, namespaces: &[String]) -> Output {
        let mut helm = Command::new(go_tool("helm"));
        helm.arg(verb).arg("transship").arg(repository().join("charts/transship"));
        helm.args(["--namespace", &self.namespace, "--wait", "--timeout", "90s"]);
        helm.args(["--set", "image.repository=localhost/transship,image.tag=test,crds.install=false"]);
        // A story that needs more than one replica says so.
        helm.args(["--set", "operator.replicas=1"]);
        // The releases of all stories share the one small node.
        let requests = "operator.resources.requests.cpu=5m,execution.classes.default.resources.requests.cpu=5m";
        helm.args(["--set", requests]);
        helm.args(["--set", r"operator.log=info\,transship=debug"]);
        helm.args(["--set", &format!("notifications.service.clusterIP={}", self.notify_address)]);
        helm.args(["--set", &format!("watchNamespaces={{{}}}", namespaces.join(","))]);
        for value in &self.values {
            helm.args(["--set", value]);
        }
        helm.env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", new_folder("helm"));
        run(helm).await
    }

    /// Runs `helm uninstall`.
    pub async fn uninstall(&self) -> Output {
        let mut helm = Command::new(go_tool("helm"));
        helm.args(["uninstall", "transship", "--namespace", &self.namespace, "--wait", "--timeout", "60s"]);
        helm.env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", new_folder("helm"));
        run(helm).await
    }

    /// Has so many operators run, and waits until that is so.
    pub async fn scale(&self, replicas: u8) {
        let scale = ["scale", "-n", &self.namespace, "deployment/transship", &format!("--replicas={replicas}")];
        self.plane.kubectl(&scale).await.expect_success("kubectl scale");
        if replicas == 0 {
            eventually(Duration::from_secs(60), "the operator has ended", async || {
                let pods = self.pods("operator").await;
                if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) }
            })
            .await;
        }
    }

    /// Runs a command in the network of the operator's pod.
    async fn in_network(&self, command: &[&str]) {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net=/proc/{}/ns/net", self.processes("operator")[0].as_raw_nonzero())).args(command);
        run(enter).await.expect_success("nsenter");
    }

    /// Waits until the operator that Kubernetes starts again is ready.
    pub async fn is_ready(&self) {
        eventually(Duration::from_secs(90), "the operator is ready", async || {
            let pods = self.pods("operator").await;
            let is_ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == json!(true);
            // One that was killed just now still counts as ready: its process has to be there.
            let runs = pods.iter().any(is_ready) && !self.processes("operator").is_empty();
            if runs { Ok(()) } else { Err(format!("{:?}", pods.first().map(|pod| pod["status"].clone()))) }
        })
        .await;
    }

    /// Returns the pods of a component: `operator` or `worker`.
    pub async fn pods(&self, component: &str) -> Vec<Value> {
        self.objects("pods", component).await
    }

    /// Objects of a component in the operator's namespace.
    pub async fn objects(&self, kind: &str, component: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/name=transship,app.kubernetes.io/component={component}");
        let get = ["get", kind, "-n", &self.namespace, "-l", &selector, "-o", "json"];
        let answer = self.plane.kubectl(&get).await.expect_success("kubectl get");
        let list: Value = serde_json::from_str(&answer).expect("a list");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Sends a signal to every process of a component; answers how many there were.
    pub fn signal(&self, component: &str, signal: Signal) -> usize {
        let processes = self.processes(component);
        processes.iter().filter(|process| kill_process(**process, signal).is_ok()).count()
    }

    /// Returns the processes of a component of this story: pods are processes of this machine.
    pub fn processes(&self, component: &str) -> Vec<Pid> {
        let is_ours = |folder: &PathBuf| {
            let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
            let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
            let marker = format!("TRANSSHIP_NAMESPACE={}", self.namespace);
            line.starts_with(format!("/usr/local/bin/transship\0{component}\0").as_bytes())
                && environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
        let ours = entries.filter(is_ours).filter_map(|folder| folder.file_name()?.to_str()?.parse().ok());
        ours.filter_map(Pid::from_raw).collect()
    }
}

/// Operators that stayed would retry, start Jobs and take the node from the stories after them.
impl Drop for ChartOperator {
    fn drop(&mut self) {
        if self.installed {
            self.plane.end_pods(&self.namespace);
        }
    }
}
