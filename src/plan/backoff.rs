//! The delay before a failed copy is tried again.

use std::time::Duration;

use crate::terms::FailureCode;

/// A random number from `0.0..1.0` that spreads retries; an argument, since decisions draw no random numbers.
pub type Jitter = f64;

/// Returns the delay before attempt `attempts + 1`, after `attempts` failures (1 or more).
///
/// A failure that resolves itself (an unavailable registry) is retried after 2 s, doubling to 5 minutes. A failure that
/// a user resolves without notice to the operator is retried every 15 to 20 s. A delay that the registry asks for is
/// kept, up to an hour. A tag that the destination keeps is looked at again every hour. A signature that is missing is
/// looked for as often as an unavailable registry: images are signed after their push.
pub fn retry_delay(code: FailureCode, attempts: u32, retry_after: Option<Duration>, jitter: Jitter) -> Duration {
    if code.is_skip() && code != FailureCode::SignatureMissing {
        return LOOK_AGAIN.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
    }
    let doubled = FIRST_DELAY.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let max = if is_resolved_by_users(code) { MAX_POLL_DELAY } else { MAX_DELAY };
    let delay = doubled.min(max).mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
    delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Returns true if a failure with `code` may pass without any change by people, within minutes.
pub fn passes_by_itself(code: FailureCode) -> bool {
    matches!(code, FailureCode::DestinationUnavailable | FailureCode::SourceUnavailable | FailureCode::WorkerFailed)
}

fn is_resolved_by_users(code: FailureCode) -> bool {
    matches!(
        code,
        FailureCode::DestinationConflict
            | FailureCode::DestinationDenied
            | FailureCode::DestinationNotReady
            | FailureCode::SourceNotReady
            | FailureCode::PolicyRevoked
            | FailureCode::RegistryPermissionDenied
            | FailureCode::RepositoryNotFound
            | FailureCode::SourceDenied
    )
}

/// The time after which a tag that the destination keeps is looked at again: its owner may have removed it.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
const FIRST_DELAY: Duration = Duration::from_secs(2);
const MAX_DELAY: Duration = Duration::from_secs(300);
const MAX_POLL_DELAY: Duration = Duration::from_secs(20);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_grow_and_are_capped(attempts in 1_u32..1000, jitter in 0.0..1.0) {
            let delay = retry_delay(FailureCode::DestinationUnavailable, attempts, None, jitter);
            let next = retry_delay(FailureCode::DestinationUnavailable, attempts + 1, None, jitter);
            prop_assert!(delay <= next && next <= MAX_DELAY && delay >= FIRST_DELAY.mul_f64(0.75));
            prop_assert!(retry_delay(FailureCode::SourceDenied, attempts, None, jitter) <= MAX_POLL_DELAY);
        }
    }

    #[test]
    fn the_time_that_a_registry_asks_for_is_kept() {
        let asked = Some(Duration::from_secs(90));
        assert_eq!(retry_delay(FailureCode::SourceUnavailable, 1, asked, 0.0), Duration::from_secs(90));
        let absurd = Some(Duration::from_secs(1 << 40));
        assert_eq!(retry_delay(FailureCode::SourceUnavailable, 1, absurd, 0.0), MAX_RETRY_AFTER);
    }
}
