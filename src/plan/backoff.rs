//! When something that failed is tried again.

use std::time::Duration;

use crate::terms::FailureCode;

/// Draws from `0.0..1.0`, so that many retries do not fall together; an argument, since decisions draw nothing themselves.
pub type Jitter = f64;

/// The delay before attempt `attempts + 1`, after `attempts` failures (1 or more).
///
/// What mends by itself (an unavailable registry) is retried after 2 s, doubling to 5 minutes. What a person mends without
/// the operator being told of it is looked at every 15 to 20 s. A time that the registry asked for is kept, up to an hour.
pub fn retry_delay(code: FailureCode, attempts: u32, retry_after: Option<Duration>, jitter: Jitter) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let longest = if mended_by_people(code) { LONGEST_UNTOLD } else { LONGEST_DELAY };
    let delay = doubled.min(longest).mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
    delay.max(retry_after.unwrap_or_default().min(LONGEST_ASKED))
}

fn mended_by_people(code: FailureCode) -> bool {
    matches!(
        code,
        FailureCode::DestinationDenied
            | FailureCode::RegistryNotReady
            | FailureCode::PolicyRevoked
            | FailureCode::RegistryPermissionDenied
            | FailureCode::RepositoryNotFound
            | FailureCode::SourceDenied
    )
}

const FIRST_DELAY: Duration = Duration::from_secs(2);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
const LONGEST_UNTOLD: Duration = Duration::from_secs(20);
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_grow_and_are_capped(attempts in 1_u32..1000, jitter in 0.0..1.0) {
            let delay = retry_delay(FailureCode::DestinationUnavailable, attempts, None, jitter);
            let next = retry_delay(FailureCode::DestinationUnavailable, attempts + 1, None, jitter);
            prop_assert!(delay <= next && next <= LONGEST_DELAY && delay >= FIRST_DELAY.mul_f64(0.75));
            prop_assert!(retry_delay(FailureCode::SourceDenied, attempts, None, jitter) <= LONGEST_UNTOLD);
        }
    }

    #[test]
    fn the_time_that_a_registry_asks_for_is_kept() {
        let asked = Some(Duration::from_secs(90));
        assert_eq!(retry_delay(FailureCode::SourceUnavailable, 1, asked, 0.0), Duration::from_secs(90));
        let absurd = Some(Duration::from_secs(1 << 40));
        assert_eq!(retry_delay(FailureCode::SourceUnavailable, 1, absurd, 0.0), LONGEST_ASKED);
    }
}
