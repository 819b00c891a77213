//! Metrics of the process itself, with the names that Prometheus gives them; read from `/proc`.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The gauges of the process.
#[derive(Debug, Default)]
pub(super) struct ProcessFigures {
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
}

impl ProcessFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("process_cpu_seconds", "CPU time of the process", self.cpu_seconds.clone());
        registry.register("process_max_fds", "Files and sockets that may be open", self.max_files.clone());
        registry.register("process_open_fds", "Files and sockets that are open", self.open_files.clone());
        registry.register("process_resident_memory_bytes", "Memory of the process", self.resident_bytes.clone());
        registry.register("process_threads", "Threads of the process", self.threads.clone());
    }

    /// Reads the present values. What cannot be read stays as it was.
    pub(super) fn refresh(&self) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        if let Some(usage) = usage(&read("stat")) {
            self.cpu_seconds.inner().store(usage.cpu_seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
            self.resident_bytes.set(usage.resident_bytes);
            self.threads.set(usage.threads);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(open.count() as i64);
        }
        let limits = read("limits");
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        if let Some(limit) = limit.and_then(|limit| limit.split_whitespace().next()?.parse().ok()) {
            self.max_files.set(limit);
        }
    }
}

#[derive(Debug, PartialEq)]
struct ProcessUsage {
    cpu_seconds: f64,
    resident_bytes: i64,
    threads: i64,
}

/// Parses `/proc/self/stat`; the fields are counted after the name of the program, which may contain spaces.
fn usage(stat: &str) -> Option<ProcessUsage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
    Some(ProcessUsage {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        resident_bytes: field(24)? * PAGE_BYTES,
        threads: field(20)?,
    })
}

/// The unit of times in `/proc` on every architecture that Linux supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// The size of a page on x86-64 and, as usually set up, on ARM64.
const PAGE_BYTES: i64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_behind_any_name_of_a_program() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 100 1000000 256 18446744073709551615 1";
        assert_eq!(usage(stat), Some(ProcessUsage { cpu_seconds: 2.0, resident_bytes: 256 * 4096, threads: 9 }));
        assert_eq!(usage(""), None);
    }
}
