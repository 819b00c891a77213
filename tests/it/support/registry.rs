//! Real registries, each a process with a port, a folder and an access log of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::process::{ChildProcess, Port, Signal};
use super::pusher::Pusher;
use super::registry_config::{Software, TestRegistryOptions};
use super::run_folder::new_folder;
use super::stage;
use super::tools::{ToolLogin, debian_tool, go_tool};

/// More than a registry needs to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running registry; dropping it ends the process and removes its data.
pub struct TestRegistry {
    options: TestRegistryOptions,
    /// `None` while it is stopped. Ended before the port below is given back.
    process: Option<ChildProcess>,
    port: Port,
    folder: PathBuf,
}

/// One line of a registry's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLine {
    pub method: String,
    /// With the query, as it was asked for.
    pub path: String,
    pub status: u16,
    /// The size of the answer's body.
    pub bytes: u64,
    pub user_agent: String,
}

impl TestRegistryOptions {
    /// Starts the registry and waits until it accepts connections.
    pub async fn start(self) -> TestRegistry {
        TestRegistry::start(self).await
    }
}

impl TestRegistry {
    /// Distribution v3.
    pub fn distribution(name: &str) -> TestRegistryOptions {
        TestRegistryOptions::new(name, Software::Distribution3)
    }

    /// docker-registry 2.8.
    pub fn docker_2_8(name: &str) -> TestRegistryOptions {
        TestRegistryOptions::new(name, Software::Docker28)
    }

    /// Starts a registry; once more on another port, should another program have taken the first.
    async fn start(options: TestRegistryOptions) -> Self {
        let folder = new_folder(&format!("registry-{}", options.name));
        let mut registry = Self { options, process: None, port: Port::claim(), folder };
        for _ in 0..3 {
            match registry.launch().await {
                Ok(()) => return registry,
                Err(reason) if reason.contains("address already in use") => registry.port = Port::claim(),
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("registry {}: three ports in a row were taken", registry.options.name);
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(stage::address(), self.port.number())
    }

    /// Returns its host and port, as image names begin with.
    pub fn host(&self) -> String {
        self.address().to_string()
    }

    /// Returns its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.options.authority.is_some() { "https" } else { "http" }, self.host())
    }

    /// Returns the name of an image in it.
    pub fn image(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.host())
    }

    /// Returns a client that is independent of the project's own, with the first user's credentials if there are users.
    pub fn pusher(&self) -> Pusher {
        let mut pusher = Pusher::new(&self.url());
        if let Some(authority) = self.options.authority {
            pusher = pusher.trusting(authority);
        }
        match self.options.users.first() {
            Some((user, password)) => pusher.user(user, password),
            None => pusher,
        }
    }

    /// Credentials of the first user for the command-line tools, or none if there are no users.
    pub fn login(&self) -> ToolLogin {
        match self.options.users.first() {
            Some((user, password)) => ToolLogin::to(&self.host(), user, password),
            None => ToolLogin::anonymous(),
        }
    }

    /// Returns the process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(ChildProcess::id)
    }

    /// Sends the process a signal, such as `Signal::STOP` to make it hang and `Signal::CONT` to let it go on.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("the registry runs").signal(signal);
    }

    /// Returns everything it has answered since it was first started. A line is written just *after* its answer, so it
    /// may be a moment late: ask again with `eventually` before concluding that a request is missing.
    pub fn access_log(&self) -> Vec<AccessLine> {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter_map(AccessLine::parse).collect()
    }

    /// Returns the path of every request of a method that it has answered well, and when, to the microsecond.
    pub fn answers(&self, method: &str) -> Vec<(String, Timestamp)> {
        let log = self.log();
        let answered = log.lines().filter(|line| line.contains("msg=\"response completed\""));
        let value = |line: &str, key: &str| {
            let rest = line.split(&format!("{key}=")).nth(1)?;
            let quoted = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
            quoted.or_else(|| rest.split(' ').next()).map(str::to_owned)
        };
        let of_method = answered.filter(|line| value(line, "http.request.method").as_deref() == Some(method));
        let found = of_method.filter_map(|line| Some((value(line, "http.request.uri")?, value(line, "time")?)));
        found.map(|(path, at)| (path, at.parse().expect("a time of the log"))).collect()
    }

    /// Returns all it wrote besides, for failure messages.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Returns the data folder of a registry that is not in memory.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Ends the process; its data and its port stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port and data, after ending it if it runs.
    pub async fn restart(&mut self) {
        self.stop();
        if let Err(reason) = self.launch().await {
            panic!("{reason}");
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    async fn launch(&mut self) -> Result<(), String> {
        let program = match self.options.software {
            Software::Distribution3 => go_tool("registry"),
            Software::Docker28 => debian_tool("docker-registry"),
        };
        let configuration = self.options.write(&self.folder, self.port.number());
        let mut command = Command::new(program);
        command.arg("serve").arg(configuration).env("OTEL_TRACES_EXPORTER", "none").current_dir(&self.folder);
        let mut process = ChildProcess::start(&self.options.name, command, &self.log_file());
        let started = Instant::now();
        loop {
            if process.ended().is_some() {
                return Err(format!("registry {} ended; {}", self.options.name, process.log_tail()));
            }
            // A connection is all: a request would be in the access log.
            if TcpStream::connect(self.address()).is_ok() {
                self.process = Some(process);
                return Ok(());
            }
            if started.elapsed() > START {
                return Err(format!("registry {} does not listen; {}", self.options.name, process.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.stop();
        if std::env::var_os("TRANSSHIP_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl AccessLine {
    /// Reads a line of the Combined Log Format: `peer - user [time] "request" status bytes "referer" "agent"`.
    fn parse(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let before = quoted.next()?;
        if !before.trim_end().ends_with(']') {
            return None;
        }
        let mut request = quoted.next()?.split(' ');
        let mut result = quoted.next()?.split_whitespace();
        let (_referer, _space, user_agent) = (quoted.next()?, quoted.next()?, quoted.next()?);
        Some(Self {
            method: request.next()?.to_owned(),
            path: request.next()?.to_owned(),
            status: result.next()?.parse().ok()?,
            bytes: result.next()?.parse().unwrap_or(0),
            user_agent: user_agent.to_owned(),
        })
    }
}
