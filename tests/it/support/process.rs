//! Child processes that never outlive the test run, and ports for them to listen on.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::stage;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

/// Below the range from which the kernel takes the ports of outgoing connections, so that a port stays free during a
/// restart.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A command to start, and where the outcome goes.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a command in a process group of its own, as a child that the kernel kills when the test run dies, in whatever
/// way.
///
/// The kernel ties the child to the *thread* that started it: hence one thread, which lives as long as the run, starts
/// them all.
pub fn spawn_bound(mut command: Command) -> io::Result<Child> {
    static LAUNCHER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let launcher = LAUNCHER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                for (mut command, reply) in incoming {
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread to start processes from");
        Mutex::new(orders)
    });
    let run = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only plain system calls are made, and no memory is allocated.
    #[expect(unsafe_code, reason = "the standard library has no other way to say this to the kernel")]
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The run may have died before the line above.
            if rustix::process::getppid() == Some(run) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        });
    }
    let (reply, outcome) = mpsc::channel();
    launcher.lock().expect("no holder panics").send((command, reply)).expect("the launcher lives as long as the run");
    outcome.recv().expect("the launcher answers")
}

/// A long-running child with its output in a log file; dropping it kills its process group and waits for its end.
pub struct ChildProcess {
    name: String,
    child: Child,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts a command whose standard output and error are both appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let errors = output.try_clone().expect("a second handle on the log file");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = command.get_program().to_owned();
        let child = spawn_bound(command)
            .unwrap_or_else(|error| panic!("{name}: {} does not start: {error}", program.display()));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the last lines it has written, for failure messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the last lines of {}:\n{}", self.name, lines[lines.len().saturating_sub(25)..].join("\n"))
    }

    /// Returns the exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its state")
    }

    /// Sends one signal, such as `Signal::TERM`, `Signal::STOP` or `Signal::CONT`, to the process alone.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for its end; `None` when it is still running after `within`.
    pub async fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if started.elapsed() >= within {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks it to end with SIGTERM and waits; panics with its log when it has not ended `within` that time.
    pub async fn terminate(mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        match self.wait(within).await {
            Some(status) => status,
            None => panic!("{} did not end within {within:?} of SIGTERM; {}", self.name, self.log_tail()),
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // The group's id is the child's, and no other process gets it until the child has been waited for.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Returns true if a process with this id exists and is no zombie.
pub fn is_running(id: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z'))
}

/// A loopback port that no other test of this or another run on the machine is given while this value lives.
pub struct Port {
    number: u16,
    /// A name in the kernel's abstract namespace: it is gone with the run, and taken for every other run until then.
    _claim: UnixListener,
}

impl Port {
    /// Claims a port on which nothing listens.
    pub fn claim() -> Self {
        let span = u64::from(PORTS.end - PORTS.start);
        let start = RandomState::new().hash_one(std::process::id()) % span;
        (0..span)
            .map(|step| PORTS.start + u16::try_from((start + step) % span).expect("the span is one of ports"))
            .find_map(|number| {
                let name = UnixSocketAddr::from_abstract_name(format!("transship-test-port-{number}")).ok()?;
                let claim = UnixListener::bind_addr(&name).ok()?;
                TcpListener::bind((stage::address(), number)).ok()?;
                Some(Self { number, _claim: claim })
            })
            .expect("some loopback port is free")
    }

    /// Returns the port number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
