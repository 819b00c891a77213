//! The scenarios of the bench: sets of images, and the course of each.

use std::time::Duration;

use crate::support::fixtures::{
    Fixture, KIB, MIB, aliases, bulk, many_tags, multi_platform, plain_tar, shared_bases, signed, small_tags,
};
use crate::support::link::Link;
use crate::support::registry_config::Software;
use crate::tools::Tool;

/// One of the things that are measured.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub title: &'static str,
    /// The software of the registries.
    pub software: Software,
    /// Makes the images; sizes are divided by the argument.
    pub fixture: fn(usize) -> Fixture,
    pub course: Course,
    pub destinations: usize,
    /// The way to both registries, where they are far away.
    pub link: Option<Link>,
    /// Tags to copy begin like this.
    pub prefix: Option<&'static str>,
    /// In how many repetitions every tool takes part; after that only those that may be the fastest.
    pub all: usize,
    /// The number of repetitions, whatever is requested.
    pub times: Option<usize>,
    pub only: Option<&'static [Tool]>,
    pub without: &'static [Tool],
    /// True if the operator takes part.
    pub operator: bool,
}

/// The course of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// One copy.
    Cold,
    /// A copy, and another one when nothing is to be done.
    Warm,
    /// The same, and a third one after one tag was changed at the source (E).
    Changed,
    /// The tool is killed when half of the blobs are there, and run again.
    Killed,
    /// A copy during which the destination is asked all the time whether the tag is there.
    Watched,
}

/// Returns everything that can be measured, in order.
pub fn scenarios() -> Vec<Scenario> {
    use Course::{Changed, Killed, Warm, Watched};
    vec![
        Scenario {
            course: Changed,
            operator: true,
            ..base("A", "20 tags × 2 platforms × 5 layers of 1 MiB, 3 shared by a platform; E: one tag changed", a)
        },
        Scenario { course: Warm, operator: true, ..base("B", "50 tags × 4 layers of 256 KiB, 3 shared", b) },
        Scenario {
            course: Warm,
            operator: true,
            ..base("C", "10 repositories × 4 tags × 5 layers of 1 MiB, 3 shared by all", c)
        },
        Scenario { course: Changed, ..old("A-2.8", "A, between registries of version 2.8", a) },
        Scenario { course: Warm, ..old("B-2.8", "B, between registries of version 2.8", b) },
        Scenario { course: Warm, ..old("C-2.8", "C, between registries of version 2.8", c) },
        base("D1", "one layer of 512 MiB", |scale| bulk(1, 512 * MIB / scale)),
        base("D4", "four layers of 128 MiB", |scale| bulk(4, 128 * MIB / scale)),
        Scenario {
            course: Warm,
            all: 3,
            ..base("F", "A with a signature and a software bill of materials for each tag", |scale| signed(a(scale)))
        },
        Scenario {
            course: Warm,
            all: 2,
            ..base("G", "1,000 tags of 30 images", |scale| aliases((1_000 / scale).max(30), 30, 16 * KIB))
        },
        Scenario {
            prefix: Some("wanted-"),
            all: 2,
            ..base("H", "10 of 2,000 tags", |scale| many_tags((2_000 / scale).max(30), 16 * KIB))
        },
        Scenario {
            all: 3,
            ..base("I", "10 tags × 3 layers of 1 MiB that are not compressed", |scale| plain_tar(10, MIB / scale))
        },
        Scenario {
            destinations: 2,
            ..base("J", "B with 1 MiB layers, to two destinations", |scale| small_tags(50, MIB / scale))
        },
        Scenario {
            course: Killed,
            all: 3,
            without: &[Tool::Floor, Tool::FloorReadBack],
            ..base("K", "16 layers of 16 MiB, killed at half and run again", |scale| bulk(16, 16 * MIB / scale))
        },
        Scenario {
            all: 2,
            operator: true,
            ..base("fleet", "40 repositories × 5 tags on 3 bases of 30 MiB", |scale| {
                shared_bases(40, 5, 3, 10 * MIB / scale, 64 * KIB / scale)
            })
        },
        Scenario {
            link: Some(far(20)),
            all: 3,
            ..base("wan20", "6 tags × 2 platforms × 5 layers of 256 KiB, 20 ms and 16 MiB/s a connection away", wan)
        },
        Scenario { link: Some(far(80)), all: 3, ..base("wan80", "the same, 80 ms away", wan) },
        Scenario {
            course: Watched,
            link: Some(Link { bandwidth: 1 << 30, ..far(80) }),
            all: 3,
            ..base("single", "one image of one layer of 10 KiB, 80 ms away", |_| bulk(1, 10 * KIB))
        },
        Scenario {
            times: Some(20),
            only: Some(&[Tool::Transship]),
            ..old("B20", "B between registries of version 2.8, 20 times: how often it fails", b)
        },
    ]
}

fn base(name: &'static str, title: &'static str, fixture: fn(usize) -> Fixture) -> Scenario {
    Scenario {
        name,
        title,
        software: Software::Distribution3,
        fixture,
        course: Course::Cold,
        destinations: 1,
        link: None,
        prefix: None,
        all: 5,
        times: None,
        only: None,
        without: &[],
        operator: false,
    }
}

fn old(name: &'static str, title: &'static str, fixture: fn(usize) -> Fixture) -> Scenario {
    Scenario { software: Software::Docker28, ..base(name, title, fixture) }
}

fn a(scale: usize) -> Fixture {
    multi_platform(20, MIB / scale)
}

fn b(scale: usize) -> Fixture {
    small_tags(50, 256 * KIB / scale)
}

fn c(scale: usize) -> Fixture {
    shared_bases(10, 4, 1, MIB / scale, MIB / scale)
}

fn wan(scale: usize) -> Fixture {
    multi_platform(6, 256 * KIB / scale)
}

const fn far(milliseconds: u64) -> Link {
    Link { round_trip: Duration::from_millis(milliseconds), bandwidth: 16 << 20 }
}

impl Scenario {
    /// Returns true if a tool takes part.
    pub fn has(&self, tool: Tool, repositories: usize) -> bool {
        // Several repositories at once is all that is tuned of skopeo.
        let is_the_same = tool == Tool::SkopeoTuned && repositories == 1;
        let is_absent = is_the_same || (tool == Tool::Operator && !self.operator);
        self.only.is_none_or(|only| only.contains(&tool)) && !self.without.contains(&tool) && !is_absent
    }

    /// Returns the number of repetitions where `asked` are wanted.
    pub fn repetitions(&self, asked: usize) -> usize {
        self.times.unwrap_or(asked)
    }
}
