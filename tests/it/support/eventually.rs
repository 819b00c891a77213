//! Waiting for something that becomes true after a while.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The result of one look: a value, or the reason why there is none yet.
pub trait Look {
    /// The value that `eventually` returns.
    type Value;

    /// Returns the value, or a sentence about what was seen instead.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Look for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it was false".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "there was nothing".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Returns `within`, or up to four times as much while more than four tasks a core want to run: deadlines are for a
/// machine that gets to every task, and a busy one makes no program wrong.
pub fn patience(within: Duration) -> Duration {
    const TASKS: f64 = 4.0;
    const MOST: f64 = 4.0;
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| f64::from(cores.get() as u32));
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = averages.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default();
    within.mul_f64((load / (TASKS * cores)).clamp(1.0, MOST))
}

/// Looks again and again until the look gives a value, and panics with the sentence and the last thing seen when
/// `within` has passed, or longer on a busy machine.
///
/// A look may be a `bool`, an `Option`, or a `Result` whose error says what was seen instead.
pub async fn eventually<L: Look>(within: Duration, sentence: &str, mut look: impl AsyncFnMut() -> L) -> L::Value {
    let within = patience(within);
    let started = Instant::now();
    let mut seen = "not one look was finished".to_owned();
    let mut looks = 0_u32;
    loop {
        let left = within.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, look()).await.map(Look::outcome) {
            Ok(Ok(value)) => return value,
            Ok(Err(instead)) => seen = instead,
            Err(_) => panic!("not within {within:?}: {sentence}; finished looks: {looks}; the last one saw: {seen}"),
        }
        looks += 1;
        assert!(
            started.elapsed() < within,
            "not within {within:?}: {sentence}; looks: {looks}; the last one saw: {seen}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks again and again for the whole of `during`, and panics with the sentence as soon as a look fails.
pub async fn throughout<L: Look<Value: Debug>>(during: Duration, sentence: &str, mut look: impl AsyncFnMut() -> L) {
    let started = Instant::now();
    while started.elapsed() < during {
        if let Err(instead) = look().await.outcome() {
            panic!("after {:?} no longer: {sentence}; seen: {instead}", started.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
