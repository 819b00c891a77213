//! The lanes that copy Jobs serve, their workers, and the bounds over all of these.

use std::time::{Duration, Instant};

/// The work that one copy Job serves: tenants never share a process, and each blob crosses once to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The namespace of the configurations.
    pub namespace: String,
    /// The uid of the source Registry.
    pub source: String,
    /// The uid of the destination Registry.
    pub destination: String,
    /// The execution class.
    pub class: String,
}

/// A lane with images that wait for a worker.
#[derive(Clone, Debug)]
pub struct WaitingLane {
    /// The lane.
    pub lane: Lane,
    /// True if an urgent image is among them.
    pub is_urgent: bool,
    /// The highest priority of its images.
    pub priority: i32,
    /// The time since which the oldest image waits.
    pub since: Instant,
    /// The earliest time of the next Job, after the last worker was lost.
    pub hold_until: Option<Instant>,
}

/// The state of one worker, as last heard.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// The name of its Job.
    pub job: String,
    /// The lane that it serves.
    pub lane: Lane,
    /// The images that it takes.
    pub duty: WorkerDuty,
    /// True if it copies an urgent image, or one waits for it.
    pub is_urgent: bool,
    /// The time at which its Job was created, or adopted after a restart.
    pub made: Instant,
    /// The time of its last request; `None` before the first one.
    pub seen: Option<Instant>,
    /// The time since which it has no work; `None` while it has some.
    pub idle_since: Option<Instant>,
    /// The number of images that were assigned to it.
    pub given: usize,
    /// The bytes that it has transferred.
    pub moved: u64,
    /// Its phase.
    pub phase: WorkerPhase,
    /// True if it was adopted after a restart of the operator, and has not been heard since.
    pub adopted: bool,
    /// The time at which Kubernetes ends its Job.
    pub ends_at: Instant,
    /// True if it moved at least [`super::MIN_THROUGHPUT`] in the last minute.
    pub is_getting_on: bool,
}

/// The images of its lane that a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerDuty {
    /// All of them.
    AllImages,
    /// Urgent ones: its Job is one of those that are reserved.
    UrgentImages,
}

/// The phase of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// It takes images.
    Serving,
    /// It takes no more images, and ends once it has none.
    Leaving,
    /// Its pod has ended, or its Job is gone.
    Ended,
}

/// Bounds over all workers.
#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// The largest number of Jobs. Default: 20.
    pub jobs: usize,
    /// The number of Jobs among them for namespaces without a Job, and for one with urgent images of each namespace.
    /// Default: 5.
    pub reserved: usize,
    /// The largest number of Jobs that write to one destination. Default: 4.
    pub jobs_per_destination: usize,
    /// The number of images after which a Job is assigned no more. Default: 500.
    pub images_per_job: usize,
    /// The number of transferred bytes after which a Job is assigned no more images. Default: 20 GiB.
    pub bytes_per_job: u64,
    /// The time that a worker without work waits for more. Default: 30 s.
    pub linger: Duration,
    /// The age after which a Job is assigned no more images. Default: 30 minutes.
    pub max_age: Duration,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            jobs: 20,
            reserved: 5,
            jobs_per_destination: 4,
            images_per_job: 500,
            bytes_per_job: 20 << 30,
            linger: Duration::from_secs(30),
            max_age: Duration::from_secs(1_800),
        }
    }
}
