//! The Kubernetes API server of the test run: etcd and kube-apiserver, started once, with every request in an audit
//! log.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::KeyPair;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::kube_users::{ADMIN, kubeconfig, token_file};
use super::process::{ChildProcess, Port};
use super::run_folder::{new_folder, repository};
use super::stage;
use super::tls::{TestAuthority, client_builder, install_crypto_provider};
use super::tools::{Output, go_tool, run};

/// More than the API server needs to start on a busy machine.
const START: Duration = Duration::from_secs(90);

/// Every request, once, when its answer is there (or, for a watch, begins).
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}]}"#;

/// A running API server. It ends, and its data goes, with the test run.
pub struct ControlPlane {
    folder: PathBuf,
    server: String,
    /// Ended in this order, and before the ports are given back.
    _processes: Vec<ChildProcess>,
    _ports: Vec<Port>,
}

/// A namespace for one test, and a client for it. It stays until the server ends.
pub struct TestNamespace {
    pub name: String,
    pub client: kube::Client,
}

/// One line of the audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    pub stage: String,
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub user: AuditUser,
    #[serde(default)]
    pub user_agent: String,
    /// Missing for requests that are not about a resource, such as `/version`.
    #[serde(default)]
    pub object_ref: ObjectRef,
    #[serde(default)]
    pub response_status: ResponseStatus,
    /// When it reached that stage.
    pub stage_timestamp: Timestamp,
}

/// The user of the request.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    /// Empty where no user was recognised.
    #[serde(default)]
    pub username: String,
}

/// The object of a request; parts that it did not have are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    pub api_group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    pub code: u16,
}

/// Returns the parts of a control plane: a binary of each under `KUBEBUILDER_ASSETS`, or all of them in our own binary.
fn component(name: &str) -> Command {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        let path = Path::new(&assets).join(name);
        assert!(
            path.is_file(),
            "KUBEBUILDER_ASSETS is set, but {} is missing: unset it, or install it",
            path.display()
        );
        return Command::new(path);
    }
    let mut command = Command::new(go_tool("control-plane"));
    command.arg(name);
    command
}

impl ControlPlane {
    /// Returns the one server of this run: the node's, or one which the first call starts. Should it not start, every
    /// call fails with the same reason.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        SHARED.get_or_init(Self::try_start).await.as_ref().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Starts a server of its own, for tests that break it.
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|reason| panic!("{reason}"))
    }

    async fn try_start() -> Result<Self, String> {
        let mut attempts = 0;
        let plane = loop {
            attempts += 1;
            match Self::launch().await {
                Err(reason) if reason.contains("address already in use") && attempts < 3 => {}
                done => break done?,
            }
        };
        plane.install_definitions().await?;
        Ok(plane)
    }

    async fn launch() -> Result<Self, String> {
        let folder = new_folder("control-plane");
        if let Some(node) = stage::node() {
            let path = node.join(format!("kubeconfig-{ADMIN}"));
            std::fs::copy(node.join("kubeconfig"), path).expect("the kubeconfig of the cluster");
            let server = "https://10.250.0.1:6443".to_owned();
            return Ok(Self { folder: node, server, _processes: Vec::new(), _ports: Vec::new() });
        }
        let ports = vec![Port::claim(), Port::claim(), Port::claim()];
        let [clients, peers, secure] = [ports[0].number(), ports[1].number(), ports[2].number()];
        let server = format!("https://127.0.0.1:{secure}");
        let etcd = start_etcd(&folder, clients, peers);
        let api_server = start_api_server(&folder, clients, secure);
        let mut plane = Self { folder, server, _processes: vec![api_server, etcd], _ports: ports };
        plane.write_kubeconfig(ADMIN);
        plane.wait_until_ready().await?;
        Ok(plane)
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let client = client_builder().build().expect("a client");
        let started = Instant::now();
        loop {
            if let Some(dead) = self._processes.iter_mut().find_map(|one| one.ended().map(|_| one.log_tail())) {
                return Err(format!("the control plane ended; {dead}"));
            }
            let ready = client.get(format!("{}/readyz", self.server)).timeout(Duration::from_secs(5)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > START {
                return Err(format!("the API server is not ready within {START:?}; {}", self._processes[0].log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Applies the custom resource definitions of the repository and waits until they are served.
    async fn install_definitions(&self) -> Result<(), String> {
        let folder = repository().join("crds");
        if !folder.is_dir() {
            return Err(format!("{} is missing: run `make generate`", folder.display()));
        }
        let folder = folder.display().to_string();
        let apply = ["apply", "--server-side", "-f", &folder];
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &folder];
        for arguments in [&apply[..], &wait[..]] {
            let done = self.kubectl(arguments).await;
            if !done.success {
                return Err(format!("kubectl {}: {}{}", arguments.join(" "), done.stdout, done.stderr));
            }
        }
        Ok(())
    }

    /// Returns the URL of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the ids of its processes; none of a node's.
    pub fn process_ids(&self) -> impl Iterator<Item = u32> {
        self._processes.iter().map(ChildProcess::id)
    }

    /// Returns a kubeconfig that may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(ADMIN)
    }

    /// Returns a kubeconfig for one user, such as `kube_users::claim_operator` gives.
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        let path = self.folder.join(format!("kubeconfig-{user}"));
        if path.exists() { path } else { self.write_kubeconfig(user) }
    }

    fn write_kubeconfig(&self, user: &str) -> PathBuf {
        let path = self.folder.join(format!("kubeconfig-{user}"));
        let authority = STANDARD.encode(TestAuthority::shared().pem());
        std::fs::write(&path, kubeconfig(&self.server, &authority, user)).expect("a kubeconfig");
        path
    }

    /// Returns a client that may do everything. Made anew for every call: a client belongs to the runtime of the test
    /// that made it.
    pub async fn client(&self) -> kube::Client {
        self.client_of(ADMIN).await
    }

    /// Returns a client for one user.
    pub async fn client_of(&self, user: &str) -> kube::Client {
        install_crypto_provider();
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig_of(user)).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        kube::Client::try_from(config.expect("a configuration")).expect("a client")
    }

    /// Creates a namespace whose name begins with `story` and is no other test's.
    pub async fn namespace(&self, story: &str) -> TestNamespace {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Several runs may play in one cluster, one after the other.
        let run = if stage::node().is_some() { format!("-{}", std::process::id()) } else { String::new() };
        let name = format!("{story}{run}-{number}");
        let client = self.client().await;
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
        created.expect("a namespace is created");
        TestNamespace { name, client }
    }

    /// Runs kubectl as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_as(ADMIN, arguments).await
    }

    /// Runs kubectl as some user.
    pub async fn kubectl_as(&self, user: &str, arguments: &[&str]) -> Output {
        run(self.kubectl_command(user, arguments)).await
    }

    /// Deletes what runs in a namespace, without waiting for it: for the end of a story, also of one that has failed.
    pub fn end_pods(&self, namespace: &str) {
        let delete = ["delete", "deployments,jobs", "--all", "-n", namespace, "--wait=false", "--request-timeout=20s"];
        let mut kubectl = self.kubectl_command(ADMIN, &delete);
        match kubectl.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("{namespace} goes on: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("{namespace} goes on: {error}"),
        }
    }

    fn kubectl_command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = component("kubectl");
        command.args(arguments).env("KUBECONFIG", self.kubeconfig_of(user)).env("HOME", &self.folder);
        command
    }

    /// Returns the present length of the audit log, for a later call of `audit_log_since`.
    pub fn audit_position(&self) -> u64 {
        std::fs::metadata(self.audit_file()).map_or(0, |metadata| metadata.len())
    }

    /// Returns every request since the server's start. An entry is written before its answer is sent.
    pub fn audit_log(&self) -> Vec<AuditEvent> {
        self.audit_log_since(0)
    }

    /// Returns every request since a position.
    pub fn audit_log_since(&self, position: u64) -> Vec<AuditEvent> {
        let log = std::fs::read(self.audit_file()).unwrap_or_default();
        let tail = &log[usize::try_from(position).expect("a position in memory")..];
        // The last line may still be in the making.
        let complete = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = tail[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a line of the audit log")).collect()
    }

    /// Returns the requests of one user since a position.
    pub fn audit_log_of(&self, user: &str, position: u64) -> Vec<AuditEvent> {
        let mut events = self.audit_log_since(position);
        events.retain(|event| event.user.username == user);
        events
    }

    fn audit_file(&self) -> PathBuf {
        self.folder.join("audit.log")
    }
}

fn start_etcd(folder: &Path, clients: u16, peers: u16) -> ChildProcess {
    let (client_url, peer_url) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut etcd = component("etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd")).arg("--unsafe-no-fsync").arg("--log-level=warn");
    etcd.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    etcd.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    etcd.args(["--initial-cluster", &format!("default={peer_url}")]);
    ChildProcess::start("etcd", etcd, &folder.join("etcd.log"))
}

fn start_api_server(folder: &Path, etcd: u16, port: u16) -> ChildProcess {
    let write = |name: &str, content: String| {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("a file of the API server");
        path.display().to_string()
    };
    let certificate = TestAuthority::shared().certificate(&["127.0.0.1", "localhost", "kubernetes.default.svc"]);
    let accounts = KeyPair::generate().expect("a key");
    let signing_key = write("accounts.key", accounts.serialize_pem());
    let mut server = component("kube-apiserver");
    server.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", folder.display()),
        format!("--tls-cert-file={}", write("server.crt", certificate.pem)),
        format!("--tls-private-key-file={}", write("server.key", certificate.key_pem)),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", write("accounts.pub", accounts.public_key_pem())),
        format!("--service-account-signing-key-file={signing_key}"),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        format!("--token-auth-file={}", write("tokens.csv", token_file())),
        // No controller makes the service accounts that pods would have to wait for.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--audit-policy-file={}", write("audit-policy.yaml", AUDIT_POLICY.to_owned())),
        format!("--audit-log-path={}", folder.join("audit.log").display()),
        "--audit-log-maxsize=100000".to_owned(),
    ]);
    ChildProcess::start("kube-apiserver", server, &folder.join("kube-apiserver.log"))
}
