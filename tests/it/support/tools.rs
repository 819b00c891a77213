//! The command-line tools that `make tools` provides, and how tests run them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value, json};

use super::process::spawn_bound;
use super::run_folder::{new_folder, repository};
use super::tls::TestAuthority;

/// More than any tool needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The exit status and the output of a tool.
#[derive(Debug, Clone)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
}

impl Output {
    /// Returns the standard output without the line end; panics with all the tool wrote when it failed.
    #[track_caller]
    pub fn expect_success(self, what: &str) -> String {
        assert!(self.success, "{what}: failed\n{}\n{}", self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }
}

/// Returns a binary that `make go-tools` builds.
pub fn go_tool(name: &str) -> PathBuf {
    let path = repository().join(".build/bin").join(name);
    assert!(path.is_file(), "{} is missing: run `make tools`", path.display());
    path
}

/// Returns a program of a Debian package that `make debian` installs.
pub fn debian_tool(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make debian`"))
}

/// Runs a command to its end; it is killed, and the test fails, when that takes too long.
pub async fn run(mut command: Command) -> Output {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn_bound(command).unwrap_or_else(|error| panic!("{line} does not start: {error}"));
    let id = Pid::from_child(&child);
    let mut ending = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = match tokio::time::timeout(PATIENCE, &mut ending).await {
        Ok(ended) => ended,
        Err(_) => {
            let _ = kill_process_group(id, Signal::KILL);
            panic!("{line} did not end within {PATIENCE:?}");
        }
    };
    let output = ended.expect("the waiting task does not panic").expect("the child can be waited for");
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        success: output.status.success(),
    }
}

/// The registry credentials and certificates that tools such as crane, oras, regctl, helm and skopeo work with.
pub struct ToolLogin {
    folder: PathBuf,
    auths: Map<String, Value>,
}

impl ToolLogin {
    /// No credentials at all, whatever the person who runs the tests has in their home folder.
    pub fn anonymous() -> Self {
        let login = Self { folder: new_folder("docker-config"), auths: Map::new() };
        login.write();
        login
    }

    /// Returns the credentials for one registry, given as `host:port`.
    pub fn to(host: &str, user: &str, password: &str) -> Self {
        Self::anonymous().and(host, user, password)
    }

    /// Returns the credentials for one more registry.
    #[must_use]
    pub fn and(mut self, host: &str, user: &str, password: &str) -> Self {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        self.auths.insert(host.to_owned(), json!({ "auth": auth }));
        self.write();
        self
    }

    /// Returns the folder to name in `DOCKER_CONFIG`; its `config.json` is also the content of a Kubernetes pull
    /// secret.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Returns the content of `config.json`.
    pub fn config_json(&self) -> String {
        json!({ "auths": self.auths }).to_string()
    }

    fn write(&self) {
        std::fs::write(self.folder.join("config.json"), self.config_json()).expect("a Docker configuration file");
    }

    /// Returns a Go tool with these credentials, a home folder of its own, and trust in the run's certificate authority
    /// alone.
    pub fn command(&self, tool: &str, arguments: &[&str]) -> Command {
        self.with_environment(Command::new(go_tool(tool)), arguments)
    }

    /// Returns the same for a tool from Debian.
    pub fn debian_command(&self, tool: &str, arguments: &[&str]) -> Command {
        self.with_environment(Command::new(debian_tool(tool)), arguments)
    }

    /// Runs a Go tool to its end.
    pub async fn run(&self, tool: &str, arguments: &[&str]) -> Output {
        run(self.command(tool, arguments)).await
    }

    fn with_environment(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env("DOCKER_CONFIG", &self.folder)
            .env("REGISTRY_AUTH_FILE", self.folder.join("config.json"))
            .env("HOME", &self.folder)
            .env("SSL_CERT_FILE", TestAuthority::shared().file());
        command
    }
}
