//! Times of a spec: a cron expression in a time zone, and windows that open at such times.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::interval::parse_duration;
use super::rule::{ValidationRule, ValidationRules, checked_by};

/// The times at which the source is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The times as a cron expression of five fields (minute, hour, day of month, month, day of week), such as
    /// `0 2 * * 1-5`, or `@hourly`, `@daily`, `@weekly`, `@monthly`.
    #[schemars(length(min = 1, max = MAX_CRON), regex(pattern = CRON))]
    pub cron: String,
    /// The time zone of `cron`, by its name in the IANA database, such as `Europe/Zurich`. A time that a change of
    /// clocks leaves out comes right after the gap. Default: UTC.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = MAX_TIME_ZONE), regex(pattern = TIME_ZONE))]
    pub time_zone: String,
}

/// A window during which copies may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedWindow {
    /// The times at which the window opens, as a cron expression of five fields, such as `0 22 * * *`.
    #[schemars(length(min = 1, max = MAX_CRON), regex(pattern = CRON))]
    pub cron: String,
    /// The time for which it stays open, from 1m to 168h, such as `8h` or `1h30m`.
    #[schemars(length(max = 16), regex(pattern = "^([0-9]{1,6}(s|m|h))+$"), transform = checked_by(&WINDOW_RULES))]
    pub duration: String,
    /// The time zone of `cron`, by its name in the IANA database, such as `Europe/Zurich`. Default: UTC.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = MAX_TIME_ZONE), regex(pattern = TIME_ZONE))]
    pub time_zone: String,
}

/// Returns the length of a window, if it is from 1 minute to 168 hours.
pub fn parse_window_duration(text: &str) -> Option<Duration> {
    parse_duration(text, 60..=168 * 3600)
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// The rules for the `duration` of a window.
pub static WINDOW_RULES: ValidationRules<str> = ValidationRules::new(|| {
    vec![ValidationRule::new(
        "duration(self) >= duration('1m') && duration(self) <= duration('168h')",
        "duration of a window must be from 1m to 168h",
        |duration| parse_window_duration(duration).is_some(),
    )]
});

/// The largest number of windows of a configuration.
pub const MAX_WINDOWS: usize = 10;
/// The largest length of a cron expression, in characters.
pub const MAX_CRON: usize = 100;
/// The largest length of the name of a time zone, in characters.
pub const MAX_TIME_ZONE: usize = 64;
const CRON: &str = "^(@[a-z]+|[0-9A-Za-z*,/#?-]+( +[0-9A-Za-z*,/#?-]+){4})$";
const TIME_ZONE: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";
