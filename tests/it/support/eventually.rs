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

/// Looks again and again until the look gives a value, and panics with the sentence and the last thing seen when
/// `within` has passed.
///
/// A look may be a `bool`, an `Option`, or a `Result` whose error says what was seen instead.
pub async fn eventually<L: Look>(within: Duration, sentence: &str, mut look: impl AsyncFnMut() -> L) -> L::Value {
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
