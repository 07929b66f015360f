//! Times and lengths as Go reads and prints them; a layout shows how the reference time would look.
//!
//! See <https://pkg.go.dev/time#pkg-constants>.

use std::fmt::{self, Display, Formatter};

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};

/// Names of months.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Names of days, Sunday first.
pub(super) const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time in a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment(Zoned);

/// Go's zero time: the first second of year 1.
const ZERO_SECONDS: i64 = -62_135_596_800;

impl Moment {
    /// A time, in nanoseconds since 1970, in UTC. Beyond years -9999 and 9999 it is the nearest that can be told.
    pub fn from_nanos(nanos: i128) -> Self {
        Self::of(nanos, TimeZone::UTC)
    }

    /// A time, in milliseconds since 1970, in UTC.
    pub fn from_millis(millis: i64) -> Self {
        Self::from_nanos(i128::from(millis) * 1_000_000)
    }

    /// The time that Go takes for none.
    pub fn zero() -> Self {
        Self::from_nanos(i128::from(ZERO_SECONDS) * 1_000_000_000)
    }

    fn of(nanos: i128, zone: TimeZone) -> Self {
        let (least, most) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
        let time = Timestamp::from_nanosecond(nanos.clamp(least, most)).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(time.to_zoned(zone))
    }

    pub(super) fn nanos(&self) -> i128 {
        self.0.timestamp().as_nanosecond()
    }

    pub(super) fn fields(&self) -> DateTime {
        self.0.datetime()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.nanos() == i128::from(ZERO_SECONDS) * 1_000_000_000
    }

    pub(super) fn utc(&self) -> Self {
        Self::from_nanos(self.nanos())
    }

    pub(super) fn plus(&self, nanos: i64) -> Self {
        Self::of(self.nanos() + i128::from(nanos), self.0.time_zone().clone())
    }

    pub(super) fn plus_date(&self, years: i64, months: i64, days: i64) -> Result<Self, String> {
        let span = jiff::Span::new().try_years(years).and_then(|span| span.try_months(months));
        let span = span.and_then(|span| span.try_days(days)).map_err(|error| error.to_string())?;
        self.0.checked_add(span).map(Self).map_err(|error| error.to_string())
    }

    /// Rounded down, or to the nearest, multiple of a length since Go's zero time.
    pub(super) fn rounded(&self, unit: i64, nearest: bool) -> Self {
        if unit <= 0 {
            return self.clone();
        }
        let zero = i128::from(ZERO_SECONDS) * 1_000_000_000;
        let (since, unit) = (self.nanos() - zero, i128::from(unit));
        let rest = since.rem_euclid(unit);
        let up = nearest && rest * 2 >= unit;
        Self::of(zero + since - rest + if up { unit } else { 0 }, self.0.time_zone().clone())
    }

    /// The same time in a zone of the IANA data base.
    pub(super) fn in_zone(&self, name: &str) -> Result<Self, String> {
        let zone = match name {
            "" | "UTC" => TimeZone::UTC,
            "Local" => TimeZone::system(),
            _ => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
        };
        Ok(Self(self.0.with_time_zone(zone)))
    }

    /// As RFC 3339 writes it, with fractions where there are any.
    pub fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }

    /// As a layout shows it.
    pub fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        while !rest.is_empty() {
            if let Some((element, length)) = element(rest) {
                self.write(element, &rest[..length], &mut out);
                rest = &rest[length..];
            } else {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
        out
    }

    fn write(&self, element: Element, text: &str, out: &mut String) {
        let fields = self.0.datetime();
        let hour12 = match fields.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let month = MONTHS[fields.month() as usize - 1];
        let day = WEEKDAYS[fields.weekday().to_sunday_zero_offset() as usize];
        let written = match element {
            Element::LongMonth => month.to_owned(),
            Element::Month => month[..3].to_owned(),
            Element::NumMonth => fields.month().to_string(),
            Element::ZeroMonth => format!("{:02}", fields.month()),
            Element::LongWeekday => day.to_owned(),
            Element::Weekday => day[..3].to_owned(),
            Element::Day => fields.day().to_string(),
            Element::UnderDay => format!("{:2}", fields.day()),
            Element::ZeroDay => format!("{:02}", fields.day()),
            Element::UnderYearDay => format!("{:3}", fields.day_of_year()),
            Element::ZeroYearDay => format!("{:03}", fields.day_of_year()),
            Element::Hour => format!("{:02}", fields.hour()),
            Element::Hour12 => hour12.to_string(),
            Element::ZeroHour12 => format!("{hour12:02}"),
            Element::Minute => fields.minute().to_string(),
            Element::ZeroMinute => format!("{:02}", fields.minute()),
            Element::Second => fields.second().to_string(),
            Element::ZeroSecond => format!("{:02}", fields.second()),
            Element::LongYear => format!("{:04}", fields.year()),
            Element::Year => format!("{:02}", fields.year().rem_euclid(100)),
            Element::UpperHalf => if fields.hour() >= 12 { "PM" } else { "AM" }.to_owned(),
            Element::LowerHalf => if fields.hour() >= 12 { "pm" } else { "am" }.to_owned(),
            Element::Zone => self.zone_name(),
            Element::Offset => self.offset(text),
            Element::Fraction => {
                let digits = format!("{:09}", fields.subsec_nanosecond());
                format!("{}{}", &text[..1], &digits[..(text.len() - 1).min(9)])
            }
            Element::TrimmedFraction => {
                let digits = format!("{:09}", fields.subsec_nanosecond());
                let digits = digits[..(text.len() - 1).min(9)].trim_end_matches('0');
                if digits.is_empty() { String::new() } else { format!("{}{digits}", &text[..1]) }
            }
        };
        out.push_str(&written);
    }

    fn zone_name(&self) -> String {
        let name = self.0.time_zone().to_offset_info(self.0.timestamp()).abbreviation().to_owned();
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return name;
        }
        let minutes = self.0.offset().seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        match minutes.abs() % 60 {
            0 => format!("{sign}{:02}", minutes.abs() / 60),
            rest => format!("{sign}{:02}{rest:02}", minutes.abs() / 60),
        }
    }

    fn offset(&self, layout: &str) -> String {
        let seconds = self.0.offset().seconds();
        if seconds == 0 && layout.starts_with('Z') {
            return "Z".to_owned();
        }
        let sign = if seconds < 0 { '-' } else { '+' };
        let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
        match &layout[1..] {
            "07" => format!("{sign}{hours:02}"),
            "0700" => format!("{sign}{hours:02}{minutes:02}"),
            "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
            "070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
        }
    }

    /// Reads a time as a layout shows it; without a zone it is UTC.
    pub(super) fn parse(layout: &str, text: &str) -> Result<Self, String> {
        let wrong = || {
            let quote = super::format::quote;
            format!("parsing time {} as {}: cannot parse", quote(text), quote(layout))
        };
        let mut read = Read::default();
        let (mut rest, mut layout_rest) = (text, layout);
        while !layout_rest.is_empty() {
            let Some((element, length)) = element(layout_rest) else {
                let c = layout_rest.chars().next().unwrap_or_default();
                if c == ' ' {
                    rest = rest.trim_start_matches(' ');
                } else {
                    rest = rest.strip_prefix(c).ok_or_else(wrong)?;
                }
                layout_rest = &layout_rest[c.len_utf8()..];
                continue;
            };
            let written = &layout_rest[..length];
            rest = read.element(element, written, rest).ok_or_else(wrong)?;
            layout_rest = &layout_rest[length..];
            // A fraction of seconds may stand behind them unannounced.
            let seconds = matches!(element, Element::Second | Element::ZeroSecond);
            let announced =
                matches!(self::element(layout_rest), Some((Element::Fraction | Element::TrimmedFraction, _)));
            if seconds && !announced && rest.starts_with(['.', ',']) {
                rest = read.fraction(rest, usize::MAX).ok_or_else(wrong)?;
            }
        }
        if rest.is_empty() { read.moment().ok_or_else(wrong) } else { Err(wrong()) }
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// What was read of a time.
#[derive(Default)]
struct Read {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    afternoon: Option<bool>,
    offset: i32,
}

impl Read {
    fn element<'a>(&mut self, element: Element, layout: &str, rest: &'a str) -> Option<&'a str> {
        let digits = |least: usize, most: usize| {
            let end = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
            (end >= least).then(|| Some((rest[..end].parse::<i16>().ok()?, &rest[end..]))).flatten()
        };
        let name = |names: &[&str], short: bool| {
            names.iter().enumerate().find_map(|(i, name)| {
                let name = if short { &name[..3] } else { name };
                let head = rest.get(..name.len())?;
                head.eq_ignore_ascii_case(name).then(|| (i as i8, &rest[name.len()..]))
            })
        };
        let small = |least, most| digits(least, most).map(|(value, rest)| (value as i8, rest));
        let left;
        match element {
            Element::LongMonth => (self.month, left) = name(&MONTHS, false).map(|(i, rest)| (i + 1, rest))?,
            Element::Month => (self.month, left) = name(&MONTHS, true).map(|(i, rest)| (i + 1, rest))?,
            Element::NumMonth => (self.month, left) = small(1, 2)?,
            Element::ZeroMonth => (self.month, left) = small(2, 2)?,
            Element::LongWeekday => left = name(&WEEKDAYS, false)?.1,
            Element::Weekday => left = name(&WEEKDAYS, true)?.1,
            Element::UnderDay if rest.starts_with(' ') => return self.element(Element::Day, layout, &rest[1..]),
            Element::Day | Element::UnderDay => (self.day, left) = small(1, 2)?,
            Element::ZeroDay => (self.day, left) = small(2, 2)?,
            Element::UnderYearDay | Element::ZeroYearDay => left = digits(3, 3)?.1,
            Element::Hour => (self.hour, left) = small(2, 2)?,
            Element::Hour12 => (self.hour, left) = small(1, 2)?,
            Element::ZeroHour12 => (self.hour, left) = small(2, 2)?,
            Element::Minute => (self.minute, left) = small(1, 2)?,
            Element::ZeroMinute => (self.minute, left) = small(2, 2)?,
            Element::Second => (self.second, left) = small(1, 2)?,
            Element::ZeroSecond => (self.second, left) = small(2, 2)?,
            Element::LongYear => (self.year, left) = digits(4, 4)?,
            Element::Year => {
                let (year, rest) = digits(2, 2)?;
                (self.year, left) = (if year >= 69 { 1900 + year } else { 2000 + year }, rest);
            }
            Element::UpperHalf | Element::LowerHalf => {
                let afternoon = rest.get(..2)?.eq_ignore_ascii_case("pm");
                if !afternoon && !rest.get(..2)?.eq_ignore_ascii_case("am") {
                    return None;
                }
                self.afternoon = Some(afternoon);
                left = &rest[2..];
            }
            Element::Zone => {
                let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
                if !(1..=5).contains(&end) {
                    return None;
                }
                left = &rest[end..];
            }
            Element::Offset => {
                if layout.starts_with('Z') && rest.starts_with('Z') {
                    return Some(&rest[1..]);
                }
                let sign = match rest.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                let shape = &layout[1..];
                let written = rest.get(1..=shape.len())?;
                let mut parts = [0i32; 3];
                for (i, part) in written.replace(':', "").as_bytes().chunks(2).enumerate().take(3) {
                    parts[i] = std::str::from_utf8(part).ok()?.parse().ok()?;
                }
                self.offset = sign * (parts[0] * 3600 + parts[1] * 60 + parts[2]);
                left = &rest[1 + shape.len()..];
            }
            Element::Fraction => left = self.fraction(rest, layout.len() - 1)?,
            Element::TrimmedFraction if !rest.starts_with(['.', ',']) => left = rest,
            Element::TrimmedFraction => left = self.fraction(rest, usize::MAX)?,
        }
        Some(left)
    }

    fn fraction<'a>(&mut self, rest: &'a str, digits: usize) -> Option<&'a str> {
        let rest = rest.strip_prefix(['.', ','])?;
        let end = rest.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        if end == 0 {
            return None;
        }
        let nanos = format!("{:0<9}", &rest[..end.min(9)]);
        self.nanos = nanos.parse().ok()?;
        Some(&rest[end..])
    }

    fn moment(mut self) -> Option<Moment> {
        match self.afternoon {
            Some(true) if self.hour < 12 => self.hour += 12,
            Some(false) if self.hour == 12 => self.hour = 0,
            _ => {}
        }
        let (month, day) = (self.month.max(1), self.day.max(1));
        let time = DateTime::new(self.year, month, day, self.hour, self.minute, self.second, self.nanos).ok()?;
        let zone = if self.offset == 0 {
            TimeZone::UTC
        } else {
            TimeZone::fixed(jiff::tz::Offset::from_seconds(self.offset).ok()?)
        };
        time.to_zoned(zone).ok().map(Moment)
    }
}

/// An element of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperHalf,
    LowerHalf,
    Zone,
    Offset,
    Fraction,
    TrimmedFraction,
}

/// Elements, the longer before those that begin them.
const ELEMENTS: [(&str, Element); 33] = [
    ("January", Element::LongMonth),
    ("Jan", Element::Month),
    ("Monday", Element::LongWeekday),
    ("Mon", Element::Weekday),
    ("MST", Element::Zone),
    ("002", Element::ZeroYearDay),
    ("01", Element::ZeroMonth),
    ("02", Element::ZeroDay),
    ("03", Element::ZeroHour12),
    ("04", Element::ZeroMinute),
    ("05", Element::ZeroSecond),
    ("06", Element::Year),
    ("15", Element::Hour),
    ("1", Element::NumMonth),
    ("2006", Element::LongYear),
    ("2", Element::Day),
    ("__2", Element::UnderYearDay),
    ("_2", Element::UnderDay),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
    ("PM", Element::UpperHalf),
    ("pm", Element::LowerHalf),
    ("-07:00:00", Element::Offset),
    ("-070000", Element::Offset),
    ("-07:00", Element::Offset),
    ("-0700", Element::Offset),
    ("-07", Element::Offset),
    ("Z07:00:00", Element::Offset),
    ("Z070000", Element::Offset),
    ("Z07:00", Element::Offset),
    ("Z0700", Element::Offset),
    ("Z07", Element::Offset),
];

/// The element with which a layout begins, and its length.
fn element(layout: &str) -> Option<(Element, usize)> {
    if layout.starts_with("_2006") {
        return None;
    }
    if let Some((text, element)) = ELEMENTS.iter().find(|known| layout.starts_with(known.0)) {
        let lower = layout[text.len()..].starts_with(|c: char| c.is_ascii_lowercase());
        // A short name is none where the word goes on.
        if matches!(element, Element::Month) && lower {
            return None;
        }
        return Some((*element, text.len()));
    }
    if layout.starts_with(['.', ',']) {
        let digit = layout[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
        let count = layout[1..].chars().take_while(|c| *c == digit).count();
        if layout[1 + count..].starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let element = if digit == '0' { Element::Fraction } else { Element::TrimmedFraction };
        return Some((element, 1 + count));
    }
    None
}

/// A length as Go prints it: `1h0m0s`, `1.5s`, `300ms`.
pub(crate) fn print_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let rest = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, part) = (value / unit, value % unit);
        if part == 0 {
            return whole.to_string();
        }
        let width = unit.ilog10() as usize;
        format!("{whole}.{}", format!("{part:0width$}").trim_end_matches('0'))
    };
    match rest {
        0..1000 => format!("{sign}{rest}ns"),
        1000..1_000_000 => format!("{sign}{}µs", fraction(rest, 1000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", fraction(rest, 1_000_000)),
        _ => {
            let minutes = rest / 60_000_000_000;
            let seconds = fraction(rest % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}
