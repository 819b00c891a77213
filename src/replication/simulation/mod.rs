//! A simulator of the replication core: state machines, registries and a store through random schedules from a seed.
//!
//! [`World`] is a model of everything around the state machine of `machine`. A schedule pushes, moves and deletes tags,
//! edits specs, and lets requests, writes, publications and processes fail; then faults stop. Oracles judge every step
//! (`oracles`) and the end (`judgement`). `TRANSSHIP_SEED=7` replays one seed and prints what happens;
//! `TRANSSHIP_SCHEDULES` sets how many seeds run.

mod authority_oracles;
mod changes;
mod cluster;
mod copying;
mod deleting;
mod deletion_oracles;
mod destination;
mod judgement;
mod names;
mod observer;
mod oracles;
mod process;
mod schedule;
mod sights;
mod source;
mod store;
mod trace;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::oracles::Violation;
use self::world::World;

#[test]
fn random_schedules_keep_the_invariants() {
    if let Some(seed) = number("TRANSSHIP_SEED") {
        let (result, trace) = World::new(seed, true).run();
        trace.iter().for_each(|line| println!("{line}"));
        return assert_eq!(result, Ok(()), "seed {seed}");
    }
    let (first, count) = (number("TRANSSHIP_FIRST").unwrap_or(0), number("TRANSSHIP_SCHEDULES").unwrap_or(2_000));
    let Some((seed, violation)) = first_failure(first, count) else { return };
    let (_, trace) = World::new(seed, true).run();
    let tail = trace[trace.len().saturating_sub(TAIL)..].join("\n");
    panic!("{}: {}\nseed {seed}; replay it with TRANSSHIP_SEED={seed}\n{tail}", violation.oracle, violation.what);
}

#[test]
fn a_seed_replays() {
    for seed in 0..20 {
        let (first, second) = (World::new(seed, true).run(), World::new(seed, true).run());
        assert!(first == second, "seed {seed}");
    }
}

/// Runs so many seeds, on every processor; returns the lowest that fails.
fn first_failure(first: u64, count: u64) -> Option<(u64, Violation)> {
    let (next, end) = (AtomicU64::new(first), AtomicU64::new(first + count));
    let failure: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return;
            }
            if let (Err(violation), _) = World::new(seed, false).run() {
                end.fetch_min(seed, Ordering::Relaxed);
                let mut failure = failure.lock().expect("no thread panics while it has the lock");
                if failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                    *failure = Some((seed, violation));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    failure.into_inner().expect("no thread panicked")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Lines of a trace that a failure shows.
const TAIL: usize = 120;
