//! Runs one program and measures it. A process of its own stands between, since the peak memory of a child counts from
//! what the process had that it was forked from.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::support::process::ChildProcess;
use crate::support::run_folder::new_folder;

/// The resources that a program took, with all its children.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usage {
    /// From before its start until its end, in seconds.
    pub wall: f64,
    /// Seconds of user and system time.
    pub cpu: f64,
    /// The largest of its processes, in bytes.
    pub memory: u64,
    /// 0 is success; a program that was killed has none.
    pub exit_code: Option<i32>,
}

/// A program that is being measured; dropping it kills it with all its children.
pub struct Measured {
    process: ChildProcess,
    report: PathBuf,
    log: PathBuf,
    since: Instant,
}

impl Measured {
    /// Starts a program.
    pub fn start(name: &str, program: Command) -> Self {
        let folder = new_folder("measure");
        let (report, log) = (folder.join("usage.json"), folder.join("log"));
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.arg("measure").arg(&report).arg("--").arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let since = Instant::now();
        Self { process: ChildProcess::start(name, command, &log), report, log, since }
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns true while it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A sentence if it has not ended `within` that time, or failed.
    pub async fn finish(mut self, within: Duration) -> Result<Usage, String> {
        if self.process.wait(within).await.is_none() {
            return Err(format!("it did not end within {within:?}; {}", self.tail()));
        }
        let report = std::fs::read(&self.report).map_err(|error| format!("no report: {error}; {}", self.tail()))?;
        let usage: Usage = serde_json::from_slice(&report).map_err(|error| format!("the report is broken: {error}"))?;
        match usage.exit_code {
            Some(0) => Ok(usage),
            code => Err(format!("it ended with {code:?}; {}", self.tail())),
        }
    }

    /// Returns the last of what it wrote.
    fn tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ").chars().take(600).collect()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(folder) = self.log.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// The process between: runs the program, and writes what it took to `report`.
///
/// # Errors
/// If the program does not start, or the report cannot be written.
pub fn measure(report: &Path, program: &str, arguments: &[String]) -> io::Result<()> {
    let began = Instant::now();
    let child = Command::new(program).args(arguments).spawn()?;
    let (status, usage) = wait(child.id())?;
    let wall = began.elapsed().as_secs_f64();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let usage = Usage {
        wall,
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        exit_code: status.code(),
    };
    std::fs::write(report, serde_json::to_vec(&usage)?)
}

#[expect(unsafe_code, reason = "neither the standard library nor rustix has the usage of a single child")]
fn wait(child: u32) -> io::Result<(ExitStatus, libc::rusage)> {
    let id = libc::pid_t::try_from(child).map_err(io::Error::other)?;
    // SAFETY: an all-zero rusage is a valid one.
    let (mut status, mut usage) = (0, unsafe { std::mem::zeroed::<libc::rusage>() });
    loop {
        // SAFETY: both pointers are to variables of this function, and only this process may wait for the child.
        match unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok((ExitStatus::from_raw(status), usage)),
        }
    }
}

/// Seconds of processor time that a running process has had.
pub fn processor_time(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time are fields 14 and 15 of the line; the third is the first after the name.
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// Returns the most memory that a running process has had, in bytes.
pub fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
