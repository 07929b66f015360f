//! The clock and what steers it. <https://man7.org/linux/man-pages/man2/adjtimex.2.html>

use std::time::{SystemTime, UNIX_EPOCH};

use counts::page::{Number, Page};

use crate::{
    machine::Work,
    source::{Failure, text},
};

/// What the kernel says of its clock, in its own units. Asking it takes a system call without a safe form, so that whoever asks
/// for the page brings it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Whether something keeps it right.
    pub synchronized: bool,
    /// Whether offset and jitter are nanoseconds instead of microseconds.
    pub nanoseconds: bool,
    /// Bits.
    pub status: i32,
    /// Difference to what it is steered by.
    pub offset: i64,
    /// How much faster it runs: millionths, times 65,536; so are all frequencies here.
    pub frequency: i64,
    /// Microseconds.
    pub largest_error: i64,
    /// Microseconds.
    pub estimated_error: i64,
    /// Of the steering loop.
    pub constant: i64,
    /// Microseconds.
    pub tick: i64,
    /// Of a pulse a second.
    pub pulse_frequency: i64,
    /// Of the pulse.
    pub jitter: i64,
    /// Interval of the pulse.
    pub shift: i32,
    /// Of the pulse.
    pub stability: i64,
    /// How often jitter was too large.
    pub jitter_exceeded: i64,
    /// By the pulse.
    pub calibrations: i64,
    /// Failed ones.
    pub calibration_errors: i64,
    /// How often stability was too bad.
    pub stability_exceeded: i64,
    /// Seconds.
    pub tai: i32,
}

/// Frequencies are millionths in 16.16 bits.
const FREQUENCY: f64 = 65_536.0 * 1e6;

pub(crate) fn steering(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let clock = work.clock.ok_or(Failure::NoData)?;
    let fine = if clock.nanoseconds { 1e9 } else { 1e6 };
    let gauges: [(&'static str, f64); 13] = [
        ("node_timex_sync_status", f64::from(u8::from(clock.synchronized))),
        ("node_timex_offset_seconds", clock.offset as f64 / fine),
        ("node_timex_frequency_adjustment_ratio", 1.0 + clock.frequency as f64 / FREQUENCY),
        ("node_timex_maxerror_seconds", clock.largest_error as f64 / 1e6),
        ("node_timex_estimated_error_seconds", clock.estimated_error as f64 / 1e6),
        ("node_timex_status", f64::from(clock.status)),
        ("node_timex_loop_time_constant", clock.constant as f64),
        ("node_timex_tick_seconds", clock.tick as f64 / 1e6),
        ("node_timex_pps_frequency_hertz", clock.pulse_frequency as f64 / FREQUENCY),
        ("node_timex_pps_jitter_seconds", clock.jitter as f64 / fine),
        ("node_timex_pps_shift_seconds", f64::from(clock.shift)),
        ("node_timex_pps_stability_hertz", clock.stability as f64 / FREQUENCY),
        ("node_timex_tai_offset_seconds", f64::from(clock.tai)),
    ];
    for (name, value) in gauges {
        page.gauge(name, &[], Number(value));
    }
    let counters: [(&'static str, i64); 4] = [
        ("node_timex_pps_jitter_total", clock.jitter_exceeded),
        ("node_timex_pps_calibration_total", clock.calibrations),
        ("node_timex_pps_error_total", clock.calibration_errors),
        ("node_timex_pps_stability_exceeded_total", clock.stability_exceeded),
    ];
    for (name, value) in counters {
        page.counter(name, &[], value);
    }
    Ok(())
}

pub(crate) fn time(work: &Work<'_>, page: &mut Page) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    page.gauge("node_time_seconds", &[], Number(now.as_secs_f64()));
    // Madang keeps universal time in all that it does, whatever zone the machine's users prefer.
    page.gauge("node_time_zone_offset_seconds", &[("time_zone", "UTC")], 0);
    let mut devices = work.source.sys_entries("devices/system/clocksource").unwrap_or_default();
    devices.retain(|device| device.name.starts_with("clocksource"));
    for (index, device) in devices.iter().enumerate() {
        let index = index.to_string();
        let available = text(&device.path.join("available_clocksource")).unwrap_or_default();
        for source in available.split_whitespace() {
            page.gauge("node_time_clocksource_available_info", &[("clocksource", source), ("device", &index)], 1);
        }
        if let Some(source) = text(&device.path.join("current_clocksource")) {
            page.gauge("node_time_clocksource_current_info", &[("clocksource", &source), ("device", &index)], 1);
        }
    }
    Ok(())
}
