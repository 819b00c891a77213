//! The brake of a first fill: once at least half of the first images failed, those that were not tried yet wait.

use super::ledger::Counts;

/// Returns true if a destination with these `counts` gets no further image for the first time: at least [`JUDGED_FROM`]
/// were tried since the counts `since`, and at least half of them failed. Failures that later succeed release it.
pub fn is_backfill_stopped(counts: &Counts, since: &Counts) -> bool {
    let more = |count: fn(&Counts) -> u64| count(counts).saturating_sub(count(since));
    let failed = more(|counts| counts.failed);
    let tried = failed + more(|counts| counts.complete) + more(|counts| counts.skipped);
    tried >= JUDGED_FROM && 2 * failed >= tried
}

/// The number of images from which on a first fill is judged.
const JUDGED_FROM: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(complete: u64, failed: u64, skipped: u64, pending: u64) -> Counts {
        let images = complete + failed + skipped + pending;
        Counts { images, complete, failed, skipped, pending, ..Counts::default() }
    }

    #[test]
    fn a_first_fill_stops_when_half_of_a_hundred_images_failed() {
        let none = Counts::default();
        // complete, failed, skipped, pending; the counts at the last request; whether it stops
        let table = [
            (counts(0, 99, 0, 900), none, false),
            (counts(0, 100, 0, 900), none, true),
            (counts(50, 50, 0, 900), none, true),
            (counts(51, 49, 0, 900), none, false),
            (counts(0, 50, 50, 900), none, true),
            (counts(0, 49, 51, 900), none, false),
            (counts(10_000, 500, 0, 0), none, false),
            (counts(400, 399, 0, 900), none, false),
            (counts(60, 50, 0, 900), none, false),
            // It goes on at request, and is judged by the next hundred.
            (counts(0, 100, 0, 900), counts(0, 100, 0, 900), false),
            (counts(0, 199, 0, 801), counts(0, 100, 0, 900), false),
            (counts(0, 200, 0, 800), counts(0, 100, 0, 900), true),
            (counts(100, 150, 0, 750), counts(0, 100, 0, 900), false),
            (counts(100, 0, 0, 900), counts(0, 100, 0, 900), false),
        ];
        for (counts, since, expected) in table {
            assert_eq!(is_backfill_stopped(&counts, &since), expected, "{counts:?} since {since:?}");
        }
    }
}
