//! The entry points on changed examples, always the same ones.

use std::time::Instant;

use super::TARGETS;

const CASES: usize = 2_000;

/// Text that breaks parsers: delimiters, ends of numbers, escapes, characters that are longer than one byte or
/// invisible.
const FRAGMENTS: &[&str] = &[
    "\"",
    "\\",
    ",",
    "=",
    "<",
    ">",
    ";",
    "/",
    "..",
    "%2e",
    "?a=b",
    "#",
    "@",
    ":",
    "://",
    "[",
    "{\"a\":",
    "*",
    "-",
    "0",
    "9",
    "A",
    "18446744073709551616",
    "1e400",
    "NaN",
    " ",
    "\t",
    "\n",
    "\0",
    "\u{7f}",
    "\u{202e}",
    "\u{fffd}",
    "é",
    "null",
    "\"manifests\":[],",
    "\"layers\":[],",
    "\"mediaType\":\"\",",
    "bytes",
    "rel=next",
    "Basic ",
    "http://",
    "https://",
    "localhost",
    "xn--",
    "\\u0000",
];

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[&str]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1);
        match self.below(7) {
            0 => drop(input.drain(at..end)),
            1 => input.extend_from_within(at..end),
            2 => drop(input.splice(at..at, FRAGMENTS[self.below(FRAGMENTS.len())].bytes())),
            3 => drop(input.splice(at..end, FRAGMENTS[self.below(FRAGMENTS.len())].bytes())),
            4 => {
                let other = seeds[self.below(seeds.len())].as_bytes();
                drop(input.splice(at.., other[self.below(other.len())..].iter().copied()));
            }
            5 => input.insert(at, self.below(256) as u8),
            _ => input.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << self.below(8)),
        }
    }
}

#[test]
fn what_parsers_promise_holds_for_thousands_of_changed_inputs() {
    let mut wrong = Vec::new();
    for target in TARGETS {
        let (mut chance, mut taken) = (Chance(7), 0);
        for seed in target.seeds {
            assert!((target.run)(seed.as_bytes()), "{}: {seed} is well-formed", target.name);
        }
        for case in 0..CASES {
            let mut input = target.seeds[case % target.seeds.len()].as_bytes().to_vec();
            for _ in 0..=chance.below(4) {
                chance.change(&mut input, target.seeds);
            }
            input.truncate(4096);
            match std::panic::catch_unwind(|| (target.run)(&input)) {
                Ok(is_taken) => taken += usize::from(is_taken),
                Err(_) => wrong.push(format!("{}: {:?}", target.name, String::from_utf8_lossy(&input))),
            }
        }
        if !(CASES / 200..CASES).contains(&taken) {
            wrong.push(format!("{}: {taken} of {CASES} were taken", target.name));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}

#[test]
fn long_inputs_take_no_longer_than_they_are() {
    const LENGTH: usize = 64 * 1024;
    for target in TARGETS {
        for repeated in target.seeds.iter().chain(&FRAGMENTS[..12]) {
            let repeats = repeated.repeat(LENGTH / repeated.len() + 1);
            let began = Instant::now();
            for input in
                [repeats.clone(), format!("{}{repeats}", target.seeds[0]), format!("{repeats}{}", target.seeds[0])]
            {
                (target.run)(input.as_bytes());
            }
            assert!(began.elapsed().as_millis() < 1500, "{}: {repeated:?} took {:?}", target.name, began.elapsed());
        }
    }
}
