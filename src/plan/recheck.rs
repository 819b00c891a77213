//! The intervals at which objects at rest are looked at again: the more there are, the more rarely, so that many idle ones
//! take little of a processor together.

use std::time::Duration;

/// Returns the interval at which a Registry that answered is asked if it still does, of `registries` in the cluster: at most
/// five minutes.
pub fn registry_interval(registries: usize) -> Duration {
    shared(REGISTRY_INTERVAL, registries, REGISTRY_PAUSE).min(LONGEST_REGISTRY_INTERVAL)
}

/// Returns the interval at which it is asked whether the Secrets and ConfigMaps of a Registry exist: at most a minute.
pub fn references_interval(registries: usize) -> Duration {
    shared(REFERENCES_INTERVAL, registries, REFERENCES_PAUSE).min(REGISTRY_INTERVAL)
}

/// Returns the interval at which a configuration is reconciled without an event, as watches can lose one.
pub fn configuration_interval(configurations: usize) -> Duration {
    shared(CONFIGURATION_INTERVAL, configurations, CONFIGURATION_PAUSE)
}

/// Returns `interval`, or more where `objects` would follow each other within less than `pause`.
fn shared(interval: Duration, objects: usize, pause: Duration) -> Duration {
    interval.max(pause.saturating_mul(u32::try_from(objects).unwrap_or(u32::MAX)))
}

const REGISTRY_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_REGISTRY_INTERVAL: Duration = Duration::from_secs(300);
const REGISTRY_PAUSE: Duration = Duration::from_millis(250);
const REFERENCES_INTERVAL: Duration = Duration::from_secs(4);
const REFERENCES_PAUSE: Duration = Duration::from_millis(50);
const CONFIGURATION_INTERVAL: Duration = Duration::from_secs(300);
const CONFIGURATION_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_objects_are_looked_at_more_rarely_and_few_are_not() {
        let seconds = Duration::from_secs;
        let table = [
            (registry_interval as fn(usize) -> Duration, [(0, 60), (240, 60), (1_000, 250), (10_000, 300)]),
            (references_interval, [(0, 4), (80, 4), (1_000, 50), (10_000, 60)]),
            (configuration_interval, [(0, 300), (1_200, 300), (5_000, 1_250), (10_000, 2_500)]),
        ];
        for (interval, expected) in table {
            for (objects, expected) in expected {
                assert_eq!(interval(objects), seconds(expected), "{objects} objects");
            }
        }
    }
}
