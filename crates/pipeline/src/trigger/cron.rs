//! Times as Jenkins writes them: five fields of cron, with `H` for a value that is drawn from the pipeline's name, aliases, and `TZ=` on the
//! first line (<https://www.jenkins.io/doc/book/pipeline/syntax/#cron-syntax>).
//!
//! Unlike in cron, a day of the month and one of the week must both fit. Nothing is asked every minute: [`Schedule::next`] says when to wake.

use jiff::{
    Timestamp, ToSpan, Zoned,
    tz::{Offset, TimeZone},
};
use ring::digest::{SHA256, digest};

/// Lines of one text.
const MOST_LINES: usize = 100;
/// Bytes of one text.
const LONGEST: usize = 8192;
/// Years to look ahead: eight lie between two leap years around 2100.
const HORIZON: i16 = 9;

/// A field: its name, its least and greatest value, the greatest that `H` takes by itself.
const FIELDS: [(&str, u32, u32, u32); 5] = [
    ("minute", 0, 59, 59),
    ("hour", 0, 23, 23),
    ("day of month", 1, 31, 28),
    ("month", 1, 12, 12),
    ("day of week", 0, 7, 6),
];

const ALIASES: [(&str, &str); 7] = [
    ("@yearly", "H H H H *"),
    ("@annually", "H H H H *"),
    ("@monthly", "H H H * *"),
    ("@weekly", "H H * * H"),
    ("@daily", "H H * * *"),
    ("@midnight", "H H(0-2) * * *"),
    ("@hourly", "H * * * *"),
];

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    lines: Vec<[u64; 5]>,
    zone: TimeZone,
}

/// Draws values for `H`: the same ones for the same name, others for others.
struct Draw<'a> {
    seed: &'a str,
    count: u32,
}

impl Draw<'_> {
    fn next(&mut self, bound: u32) -> u32 {
        self.count += 1;
        let hash = digest(&SHA256, format!("{}\n{}", self.seed, self.count).as_bytes());
        let number = hash.as_ref().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        u32::try_from(number % u64::from(bound.max(1))).unwrap_or(0)
    }
}

impl Schedule {
    /// Reads a text of several lines. `seed` is what `H` is drawn from.
    ///
    /// # Errors
    /// A line says what is none.
    pub fn read(text: &str, seed: &str) -> Result<Self, String> {
        if text.len() > LONGEST || text.lines().count() > MOST_LINES {
            return Err(format!("more than {MOST_LINES} lines or {LONGEST} bytes of times"));
        }
        // Times are the server's own, which is where people read them.
        let mut zone = TimeZone::system();
        let (mut lines, mut draw) = (Vec::new(), Draw { seed, count: 0 });
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if index == 0
                && let Some(name) = line.strip_prefix("TZ=")
            {
                zone = named_zone(name.trim()).ok_or_else(|| format!("{name:?} is no time zone"))?;
                continue;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let read = fields(line, &mut draw).map_err(|error| format!("invalid time {line:?}: {error}"))?;
            lines.push(read);
        }
        Ok(Self { lines, zone })
    }

    /// The first time after `after` at which something is due; none where that never comes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.lines.iter().filter_map(|line| next(line, &self.zone, after)).min()
    }
}

fn named_zone(name: &str) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::get(name) {
        return Some(zone);
    }
    // Java's `GMT+2`, `GMT-03:30`.
    let rest = name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC"))?;
    let (sign, rest) = match rest.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let fits = (0..24).contains(&hours) && (0..60).contains(&minutes);
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().filter(|_| fits)?;
    Some(TimeZone::fixed(offset))
}

fn fields(line: &str, draw: &mut Draw<'_>) -> Result<[u64; 5], String> {
    let line = match line.strip_prefix('@') {
        Some(_) => ALIASES.iter().find(|(name, _)| *name == line).map(|(_, text)| *text).ok_or("no such alias")?,
        None => line,
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() != 5 {
        return Err(format!(
            "5 fields are wanted: minute, hour, day of month, month, day of week; there are {}",
            words.len()
        ));
    }
    let mut bits = [0; 5];
    for ((bits, word), field) in bits.iter_mut().zip(words).zip(FIELDS) {
        for term in word.split(',') {
            *bits |= self::term(term, field, draw).map_err(|error| format!("{}: {error}", field.0))?;
        }
    }
    // Both are Sunday.
    if bits[4] >> 7 & 1 == 1 {
        bits[4] |= 1;
    }
    Ok(bits)
}

/// `*`, `A`, `A-B`, `H`, `H(A-B)`, each but `A` with an optional `/STEP`.
fn term(text: &str, (_, least, most, drawn): (&str, u32, u32, u32), draw: &mut Draw<'_>) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        let number: u32 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        match (least..=most).contains(&number) {
            true => Ok(number),
            false => Err(format!("{number} is not between {least} and {most}")),
        }
    };
    let range = |text: &str| -> Result<(u32, u32), String> {
        let (first, last) = text.split_once('-').ok_or_else(|| format!("{text:?} is no range"))?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{first}-{last} ends before it begins"));
        }
        Ok((first, last))
    };
    let (base, step) = match text.split_once('/') {
        Some((base, step)) => {
            let step: u32 = step.parse().map_err(|_| format!("{step:?} is no number"))?;
            if step == 0 {
                return Err("a step of 0 goes nowhere".into());
            }
            (base, Some(step))
        }
        None => (text, None),
    };
    if let Some(rest) = base.strip_prefix('H') {
        let (first, last) = match rest {
            "" => (least, drawn),
            _ => {
                let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
                range(inner.ok_or_else(|| format!("{base:?} is no H(A-B)"))?)?
            }
        };
        return match step {
            Some(step) if step > last - first + 1 => Err(format!("a step of {step} is more than {first}-{last} has")),
            // Where it begins is drawn, and then it goes by steps.
            Some(step) => Ok(every(first + draw.next(step), last, step)),
            None => Ok(1 << (first + draw.next(last - first + 1))),
        };
    }
    let (first, last) = match base {
        "*" => (least, most),
        _ if base.contains('-') => range(base)?,
        _ if step.is_some() => return Err(format!("{text:?}: a step needs a range, * or H")),
        _ => {
            let number = number(base)?;
            (number, number)
        }
    };
    Ok(every(first, last, step.unwrap_or(1)))
}

fn every(first: u32, last: u32, step: u32) -> u64 {
    (first..=last).step_by(step as usize).fold(0, |bits, number| bits | 1 << number)
}

/// The first minute after a time that fits: months, days and hours that do not are passed over at once.
fn next(bits: &[u64; 5], zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let set = |field: usize, number: i8| u32::try_from(number).is_ok_and(|number| bits[field] >> number & 1 == 1);
    let minute = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
    let mut time: Zoned = Timestamp::from_second(minute).ok()?.to_zoned(zone.clone());
    let last = time.year().saturating_add(HORIZON);
    while time.year() <= last {
        if !set(3, time.month()) {
            time = time.date().first_of_month().checked_add(1.month()).ok()?.to_zoned(zone.clone()).ok()?;
        } else if !set(2, time.day()) || !set(4, time.weekday().to_sunday_zero_offset()) {
            time = time.tomorrow().ok()?.start_of_day().ok()?;
        } else if !set(1, time.hour()) {
            time = time.checked_add((60 - i64::from(time.minute())).minutes()).ok()?;
        } else if !set(0, time.minute()) {
            time = time.checked_add(1.minute()).ok()?;
        } else {
            return Some(time.timestamp());
        }
    }
    None
}

#[cfg(test)]
mod tests;
