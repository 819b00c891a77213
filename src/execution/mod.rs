//! Carries out one image: in this process, or by a copy Job.

mod by_class;
mod copy_log;
mod dispatcher;
mod ends;
mod in_process;
mod job;
mod jobs;
mod outcome;
mod slots;

pub(crate) use by_class::ByClass;
pub(crate) use dispatcher::Dispatcher;
pub(crate) use in_process::{InProcess, Listener};
pub(crate) use jobs::{JobControl, adopt as adopt_jobs, run as run_jobs};
pub(crate) use slots::Slots;
