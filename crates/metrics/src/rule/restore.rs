//! Since when an alert was active before a restart.
//!
//! `ALERTS_FOR_STATE` tells when it became active; its last sample tells when evaluation stopped. The time in between
//! counts for `for`, the time that nobody looked does not; an alert does not fire before a grace period is over.

/// What is known of an alert from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// When it was seen last, in milliseconds since 1970.
    pub seen_at: i64,
    /// When it became active, in seconds since 1970.
    pub active_at: i64,
}

/// Since when it is to be taken for active, in milliseconds since 1970. `hold` and `grace` are in milliseconds.
pub fn active_since(before: Before, now: i64, hold: i64, grace: i64) -> i64 {
    let seen = before.seen_at.div_euclid(1000) * 1000;
    let active = before.active_at.saturating_mul(1000);
    let remaining = hold - (seen - active);
    if remaining <= 0 {
        active
    } else if remaining < grace {
        now + grace - hold
    } else {
        active + (now - seen)
    }
}
