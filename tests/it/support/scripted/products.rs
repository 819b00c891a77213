//! The registries that there are, as far as a client meets their differences.
