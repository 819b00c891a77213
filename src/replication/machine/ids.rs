//! The numbers by which events and effects name comparisons, copies and pairs.

/// Numbers the comparisons of a process.
pub(crate) type ComparisonId = u64;

/// Numbers the copies of a configuration.
pub(crate) type CopyId = u64;

/// Numbers the pairs of a configuration; never used twice.
pub(crate) type PairId = u64;
