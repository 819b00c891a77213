//! Tests that count requests and round trips: `make test` runs them when no other test keeps the machine busy.

mod idle_registries;
pub mod limits;
mod newest_dates;
mod operator_requests;
mod refusals;
mod request_counts;
mod round_trips;
mod scale;
mod sweeps;
