//! The types of conditions, the one place where they are spelled.

/// The object does what its spec says.
pub const READY: &str = "Ready";
/// Work towards the spec is under way, or is tried again by itself. Present only while true.
pub const RECONCILING: &str = "Reconciling";
/// A user must change something. Present only while true.
pub const STALLED: &str = "Stalled";
/// `spec.suspend` is true: `Ready` is as it was before. Present only while true.
pub const SUSPENDED: &str = "Suspended";
/// An image waits for longer than `spec.lagObjective`. Present only while true.
pub const LAG_OBJECTIVE_MISSED: &str = "LagObjectiveMissed";
/// A sweep of known tags takes longer than `spec.lagObjective`. Present only while true.
pub const SWEEP_EXCEEDS_OBJECTIVE: &str = "SweepExceedsLagObjective";
/// The lists of the source hold names that are not valid, which are not replicated. Present only while true.
pub const NAMES_SKIPPED: &str = "NamesSkipped";
/// Too many of the first images at a destination failed: the others are not tried. Present only while true.
pub const BACKFILL_STOPPED: &str = "BackfillStopped";
/// Images that the source has deleted wait to be deleted at a destination. Present only while true.
pub const DELETIONS_HELD: &str = "DeletionsHeld";
/// The configuration has more pairs, or larger statuses, than the administrator lets be written. Present only while true.
pub const ENVELOPE_EXCEEDED: &str = "EnvelopeExceeded";
/// Every image of the pair is at its destination, read back and verified.
pub const REPLICATED: &str = "Replicated";
/// The destination's owner permits the replication; the message names the deciding statement.
pub const PERMITTED: &str = "Permitted";
