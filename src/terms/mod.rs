//! The vocabulary that every room shares: plain values without Kubernetes, clocks or I/O.

mod action;
mod failure_code;
mod platform_index;
mod referrers_mode;
mod side;

pub use action::Action;
pub use failure_code::FailureCode;
pub use platform_index::PlatformIndex;
pub use referrers_mode::ReferrersMode;
pub use side::Side;
