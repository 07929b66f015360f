//! When a group is evaluated: all are spread over their interval, each always at the same place of it.

use std::time::Duration;

/// Where in its interval a group is evaluated, as a number that it always has: FNV-1a of its file and name.
pub fn place(file: &str, name: &str) -> u64 {
    let bytes = file.bytes().chain([0xff]).chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The last time, not after `now`, at which a group was due; nanoseconds since 1970.
pub fn slot(place: u64, interval: Duration, now: i64) -> i64 {
    let interval = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
    let offset = (place % interval.unsigned_abs()) as i64;
    let since = now - offset;
    since - since.rem_euclid(interval) + offset
}

/// The next time after an evaluation that was due at `last`, and how many were missed before it.
pub fn next(last: i64, interval: Duration, now: i64) -> (i64, u64) {
    let interval = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
    let missed = ((now - last) / interval - 1).max(0);
    (last + (missed + 1) * interval, missed as u64)
}
