//! Ages as kubectl shows them: `5s`, `2m10s`, `3h`, `4d`.

use jiff::Timestamp;

/// A duration in seconds, with two or three significant figures.
pub fn human(seconds: i64) -> String {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let pair = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / HOUR);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(hours / 24, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => pair(seconds / YEAR, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The time since a point in time; `<unknown>` if there is none.
pub fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Err(_) => "<unknown>".to_owned(),
        Ok(time) => human(seconds_between(time, now)),
    }
}

/// Whole seconds from one point in time to another, rounded towards zero.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from((to.as_nanosecond() - from.as_nanosecond()) / 1_000_000_000).unwrap_or(0)
}
