//! An operator at size: what backfills, comparisons, restarts and many configurations cost it.
//!
//! `make scale` prints the figures of a release build; small sizes are tests that count requests and writes.

mod courses;
mod operator;

#[allow(unused_imports, reason = "a program that only prints figures does not name their type")]
pub use courses::CourseFigure;
pub use courses::{configurations, images};

/// A number of repositories with so many tags each, to so many destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageCourse {
    pub repositories: usize,
    pub tags: usize,
    pub destinations: usize,
}

/// So many configurations of one repository each, with so many Registries as destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigurationCourse {
    pub configurations: usize,
    pub registries: usize,
}

impl ImageCourse {
    /// Returns the number of images at all destinations.
    pub fn images(&self) -> usize {
        self.repositories * self.tags * self.destinations
    }
}
