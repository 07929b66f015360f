//! When a schedule is due: five fields as in crontab, a name such as `@daily`, or `@every` and a duration.
//!
//! Days match as in crontab: where both the day of the month and the day of the week are restricted, either is enough.
//! Times that a change of the clock skips do not come; those that it repeats come twice. As github.com/robfig/cron, which
//! upstream reads schedules with.

use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, tz::TimeZone};

/// A schedule.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Minutes that match all fields.
    Fields {
        /// Matching minutes, hours, days of the month, months and days of the week as bits.
        bits: [u64; 5],
        /// Whether the days of the month, and those of the week, are not restricted.
        any: [bool; 2],
        /// Whose clock counts.
        zone: TimeZone,
    },
    /// Once after each such time.
    Every(SignedDuration),
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Least and greatest number and names for numbers of each field.
const FIELDS: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];
/// A schedule that is not due for so long never is.
const HORIZON: i16 = 5;

impl Schedule {
    /// Reads a schedule; `zone` is that of the CronJob, an older form has it in the text. `None` if it cannot be read.
    pub fn parse(text: &str, mut zone: TimeZone) -> Option<Self> {
        let mut text = text.trim();
        if let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            let (name, rest) = rest.split_once(' ')?;
            zone = TimeZone::get(name).ok()?;
            text = rest.trim();
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => match text.strip_prefix("@every ") {
                Some(duration) => return every(duration.trim()).map(Self::Every),
                None => text,
            },
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != FIELDS.len() {
            return None;
        }
        let mut bits = [0; 5];
        for ((word, field), bits) in words.iter().zip(FIELDS).zip(&mut bits) {
            for part in word.split(',').filter(|part| !part.is_empty()) {
                *bits |= range(part, field)?;
            }
        }
        let open = |word: &str| {
            word.split(',').any(|part| part.starts_with(['*', '?']) && !part.contains('/') || part == "*/1")
        };
        Some(Self::Fields { bits, any: [open(words[2]), open(words[4])], zone })
    }

    /// The first time after `after` at which it is due; `None` if that never comes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Self::Fields { bits, any, zone } => next(bits, any, zone, after),
        }
    }
}

fn next(bits: &[u64; 5], any: &[bool; 2], zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let set = |field: usize, number: i8| u32::try_from(number).is_ok_and(|number| bits[field] >> number & 1 == 1);
    let minute = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
    let mut time: Zoned = Timestamp::from_second(minute).ok()?.to_zoned(zone.clone());
    let last = time.year().saturating_add(HORIZON);
    while time.year() <= last {
        if !set(3, time.month()) {
            let first = time.date().first_of_month().checked_add(1.month()).ok()?;
            time = first.to_zoned(zone.clone()).ok()?;
            continue;
        }
        let days = (set(2, time.day()), set(4, time.weekday().to_sunday_zero_offset()));
        let fits = if any[0] || any[1] { days.0 && days.1 } else { days.0 || days.1 };
        if !fits {
            time = time.tomorrow().ok()?.start_of_day().ok()?;
            continue;
        }
        if !set(1, time.hour()) {
            let left = 60 - i64::from(time.minute());
            time = time.checked_add(left.minutes()).ok()?;
            continue;
        }
        if !set(0, time.minute()) {
            time = time.checked_add(1.minute()).ok()?;
            continue;
        }
        return Some(time.timestamp());
    }
    None
}

/// The bits of `*`, `A`, `A-B`, each with an optional `/STEP`.
fn range(text: &str, (least, most, names): (u32, u32, &[&str])) -> Option<u64> {
    let number = |text: &str| {
        let lower = text.to_lowercase();
        let named = names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok());
        named.map(|at| at + least).or_else(|| text.parse().ok())
    };
    let (bounds, step) = match text.split_once('/') {
        Some((bounds, step)) => (bounds, Some(step.parse::<usize>().ok().filter(|step| *step > 0)?)),
        None => (text, None),
    };
    let (first, last) = match bounds {
        "*" | "?" => (least, most),
        _ => match bounds.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let first = number(bounds)?;
                (first, if step.is_some() { most } else { first })
            }
        },
    };
    if first < least || last > most || first > last {
        return None;
    }
    Some((first..=last).step_by(step.unwrap_or(1)).fold(0, |bits, number| bits | 1 << number))
}

/// A duration as Go writes it, such as `1h30m`: whole seconds, one at least.
fn every(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut nanoseconds: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_text = &rest[digits..];
        let length = unit_text.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_text.len());
        let unit = match &unit_text[..length] {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanoseconds += (number * unit) as i128;
        rest = &unit_text[length..];
    }
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).ok()?.max(1);
    (!text.is_empty()).then_some(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_due_as_crontab_says() {
        let cases = [
            // schedule, zone, after, next
            ("*/1 * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
            ("0 9 * * mon-fri", "UTC", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"),
            ("30 4 1,15 * 5", "UTC", "2026-01-01T05:00:00Z", "2026-01-02T04:30:00Z"),
            ("30 4 13 * *", "UTC", "2026-01-31T00:00:00Z", "2026-02-13T04:30:00Z"),
            ("0 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("5/20 * * * ?", "UTC", "2026-01-01T00:26:00Z", "2026-01-01T00:45:00Z"),
            ("@daily", "Asia/Seoul", "2026-01-01T00:00:00Z", "2026-01-01T15:00:00Z"),
            ("CRON_TZ=Asia/Seoul 0 9 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("@every 1h30m", "UTC", "2026-01-01T00:00:10.5Z", "2026-01-01T01:30:10Z"),
            // 02:30 does not come on the day that skips it, and 01:30 comes twice on the day that repeats it.
            ("30 2 * * *", "America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T06:30:00Z"),
            ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"),
        ];
        for (text, zone, after, expected) in cases {
            let schedule = Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap();
            let next = schedule.next(after.parse().unwrap());
            assert_eq!(next, Some(expected.parse().unwrap()), "{text} {zone} {after}");
        }
    }

    #[test]
    fn what_never_comes_or_cannot_be_read_is_none() {
        let never = Schedule::parse("0 0 31 2 *", TimeZone::UTC).unwrap();
        assert_eq!(never.next(Timestamp::UNIX_EPOCH), None);
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "@every x",
            "@often",
            "TZ=X * * * * *",
        ] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_none(), "{text:?}");
        }
    }
}
