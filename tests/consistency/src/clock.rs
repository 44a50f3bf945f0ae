//! One clock for all processes of the machine: the monotonic one, in nanoseconds.
//!
//! Rejected: `Instant`, which is the same clock on Linux but cannot be written into a file, and the wall
//! clock, which steps.

use rustix::time::{ClockId, clock_gettime};

/// One second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The time, in nanoseconds since the machine began.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(time.tv_sec) * SECOND + part(time.tv_nsec)
}
