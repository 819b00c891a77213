//! The memory and the processor time of a process.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

/// Runs the program to its end, which has to come within two minutes. Answers what it wrote, and the most memory that
/// it ever had, with the libraries it shares, in kB.
pub async fn run_measured(mut command: Command) -> (Output, u64) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = peak(id).unwrap_or(0).max(most);
        assert!(began.elapsed() < Duration::from_secs(120), "it ends in time");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    (child.wait_with_output().await.unwrap(), most)
}

/// Returns the memory that a running process has now, in kB.
pub fn resident(id: u32) -> u64 {
    kilobytes(id, "VmRSS:").expect("a running process")
}

/// Returns the time of the processor that a process has used, in seconds.
pub fn processor_time(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a running process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time are fields 14 and 15 of the line; the third is the first after the name.
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("a number")).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// Nothing once it has ended.
fn peak(id: u32) -> Option<u64> {
    kilobytes(id, "VmHWM:")
}

fn kilobytes(id: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
