//! The kernel's clock and what keeps it right: one call of `adjtimex(2)` that changes nothing. It stands here since that call
//! has no safe form.
//! <https://man7.org/linux/man-pages/man2/adjtimex.2.html>

#![expect(unsafe_code, reason = "system call")]

use std::io;

/// Bits of [`Timex::status`]: offset and jitter are billionths of a second instead of millionths.
pub const NANO: i32 = 0x2000;

/// What the kernel says of its clock, in its own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timex {
    /// Whether something keeps the clock right.
    pub synchronized: bool,
    /// Bits, see the manual.
    pub status: i32,
    /// Difference to what it is steered by: microseconds, or nanoseconds where [`NANO`] is set.
    pub offset: i64,
    /// How much faster it is made to run: millionths, times 65,536.
    pub frequency: i64,
    /// Largest error, microseconds.
    pub largest_error: i64,
    /// Estimated error, microseconds.
    pub estimated_error: i64,
    /// Time constant of the steering loop.
    pub constant: i64,
    /// Microseconds between ticks.
    pub tick: i64,
    /// Frequency of a pulse a second: millionths, times 65,536.
    pub pulse_frequency: i64,
    /// Its jitter, in the offset's unit.
    pub jitter: i64,
    /// Its interval: a power of two, seconds.
    pub shift: i32,
    /// Its stability: millionths, times 65,536.
    pub stability: i64,
    /// How often its jitter was too large.
    pub jitter_exceeded: i64,
    /// Calibrations.
    pub calibrations: i64,
    /// Failed calibrations.
    pub calibration_errors: i64,
    /// How often its stability was too bad.
    pub stability_exceeded: i64,
    /// Seconds between atomic time and universal time.
    pub tai: i32,
}

/// Reads it.
///
/// # Errors
/// The kernel refuses, as some sandboxes do.
pub fn read() -> io::Result<Timex> {
    // SAFETY: all of its fields are integers, for which zero is a value; mode 0 changes nothing.
    let mut raw: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole structure that lives through the call.
    let state = unsafe { libc::adjtimex(&raw mut raw) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Timex {
        synchronized: state != libc::TIME_ERROR,
        status: raw.status,
        offset: raw.offset,
        frequency: raw.freq,
        largest_error: raw.maxerror,
        estimated_error: raw.esterror,
        constant: raw.constant,
        tick: raw.tick,
        pulse_frequency: raw.ppsfreq,
        jitter: raw.jitter,
        shift: raw.shift,
        stability: raw.stabil,
        jitter_exceeded: raw.jitcnt,
        calibrations: raw.calcnt,
        calibration_errors: raw.errcnt,
        stability_exceeded: raw.stbcnt,
        tai: raw.tai,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_ticks() {
        match super::read() {
            Ok(timex) => assert!((9_000..=11_000).contains(&timex.tick), "{timex:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
    }
}
