//! The numbers by which events and effects name comparisons, copies and pairs.

/// Numbers the comparisons of a process.
pub type ComparisonId = u64;

/// Numbers the copies of a configuration.
pub type CopyId = u64;

/// Numbers the pairs of a configuration; never used twice.
pub type PairId = u64;
