//! Drives one run of a configuration, which ends once nothing is due.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Driver;
use crate::replication::machine::{Event, Machine, NextAttempt};

impl Driver {
    /// Runs until nothing is due, and returns the state that was reached. `compared` learns when the source has been
    /// compared.
    pub(crate) async fn run_once(mut self, compared: oneshot::Sender<()>) -> Machine {
        self.step(Event::Wake);
        let mut compared = Some(compared);
        while !self.machine.is_run_over() && !self.machine.is_done() {
            self.turn().await;
            if !self.machine.is_comparing() {
                compared.take();
            }
            self.announce_attempt();
        }
        drop(compared);
        self.step(Event::Interrupt);
        while !self.machine.is_done() {
            self.turn().await;
        }
        self.machine
    }

    /// Logs the next attempt, if nothing happens before; now and then.
    fn announce_attempt(&mut self) {
        let now = self.core.clock.now();
        if self.announced_at.is_some_and(|at| now < at + ANNOUNCE_EVERY) {
            return;
        }
        if let Some(NextAttempt { at, images, because }) = self.machine.next_attempt() {
            self.announced_at = Some(now);
            let seconds = at.duration_since(now).as_secs_f64().max(1.0);
            let waiting = if images == 0 { "the comparison".to_owned() } else { format!("images: {images}") };
            tracing::info!(target: "transship::waiting", "the next attempt is in {seconds:.0} s ({waiting}), as {because}");
        }
    }
}

const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
