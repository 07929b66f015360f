//! Recurring times: at such hours, on such days, in such months and years, in a zone.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#time_interval-0>.

use jiff::{Timestamp, tz::TimeZone};

use crate::yaml::{Fields, Node, Print, Problems, Record, Stop, Value};

/// Times that fulfil all that is said; what says nothing is fulfilled always.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// Hours of the day.
    pub times: Vec<Hours>,
    /// Days of the week.
    pub weekdays: Vec<Span<Weekdays>>,
    /// Days of the month; negative ones from its end.
    pub days_of_month: Vec<Span<Days>>,
    /// Months.
    pub months: Vec<Span<Months>>,
    /// Years.
    pub years: Vec<Span<Years>>,
    /// The zone; UTC if none.
    pub location: Location,
}

/// From a minute of the day up to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hours {
    start: String,
    end: String,
    minutes: (i32, i32),
}

/// A zone of the IANA data base.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Location(Option<(String, TimeZone)>);

/// What a span is of.
pub trait Unit: Default + Clone + PartialEq {
    /// A member from its name or number.
    fn read(text: &str) -> Result<i32, String>;
    /// A member as it is printed.
    fn print(member: i32) -> String;
    /// What is wrong with a span, which was written so.
    fn check(from: i32, to: i32, text: &str) -> Result<(), String>;
}

/// From a member to another, both included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span<U> {
    from: i32,
    to: i32,
    unit: std::marker::PhantomData<U>,
}

/// Days of the week.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weekdays;

/// Days of the month.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Days;

/// Months.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Months;

/// Years.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Years;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn number(text: &str) -> Result<i32, String> {
    let quote = tsdb::labels::quote;
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", quote(text)))
}

fn position(names: &[&str], text: &str) -> Option<i32> {
    names.iter().position(|name| *name == text).map(|at| at as i32)
}

impl Unit for Weekdays {
    fn read(text: &str) -> Result<i32, String> {
        position(&WEEKDAYS, text).ok_or_else(|| format!("{text} is not a valid weekday"))
    }

    fn print(member: i32) -> String {
        WEEKDAYS.get(member as usize).copied().unwrap_or_default().to_owned()
    }

    fn check(from: i32, to: i32, _: &str) -> Result<(), String> {
        if from > to { Err("start day cannot be before end day".to_owned()) } else { Ok(()) }
    }
}

impl Unit for Days {
    fn read(text: &str) -> Result<i32, String> {
        number(text)
    }

    fn print(member: i32) -> String {
        member.to_string()
    }

    fn check(from: i32, to: i32, _: &str) -> Result<(), String> {
        for day in [from, to] {
            if day == 0 || !(-31..=31).contains(&day) {
                return Err(format!("{day} is not a valid day of the month: out of range"));
            }
        }
        if from < 0 && to > 0 {
            return Err("end day must be negative if start day is negative".to_owned());
        }
        // The shortest month decides.
        let early = |day: i32| if day < 0 { 28 + day } else { day };
        if early(from) > early(to) {
            return Err(format!("end day {to} is always before start day {from}"));
        }
        Ok(())
    }
}

impl Unit for Months {
    fn read(text: &str) -> Result<i32, String> {
        let named = position(&MONTHS, text).map(|at| at + 1);
        let month = named.or_else(|| text.parse().ok());
        month.ok_or_else(|| format!("{text} is not a valid month"))
    }

    fn print(member: i32) -> String {
        member.to_string()
    }

    fn check(from: i32, to: i32, _: &str) -> Result<(), String> {
        if from <= to {
            return Ok(());
        }
        let name =
            |month: i32| usize::try_from(month - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default();
        Err(format!("end month {} is before start month {}", name(to), name(from)))
    }
}

impl Unit for Years {
    fn read(text: &str) -> Result<i32, String> {
        number(text)
    }

    fn print(member: i32) -> String {
        member.to_string()
    }

    fn check(from: i32, to: i32, _: &str) -> Result<(), String> {
        if from > to { Err(format!("end year {to} is before start year {from}")) } else { Ok(()) }
    }
}

impl<U: Unit> Span<U> {
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_lowercase();
        let parts: Vec<&str> = lower.split(':').collect();
        let (from, to) = match parts.as_slice() {
            [only] => (U::read(only)?, U::read(only)?),
            [from, to] => (U::read(from)?, U::read(to)?),
            _ => return Err(format!("couldn't parse range {lower}, invalid format")),
        };
        U::check(from, to, text)?;
        Ok(Self { from, to, unit: std::marker::PhantomData })
    }

    fn has(&self, member: i32) -> bool {
        (self.from..=self.to).contains(&member)
    }
}

impl<U: Unit> Value for Span<U> {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let mut text = String::new();
        let before = problems.count();
        text.read(node, problems)?;
        if problems.count() == before {
            *self = Self::parse(&text).map_err(Stop)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        false
    }

    fn print(&mut self) -> Print {
        Print::Text(match self.from == self.to {
            true => U::print(self.from),
            false => format!("{}:{}", U::print(self.from), U::print(self.to)),
        })
    }
}

impl Value for Location {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let mut name = String::new();
        name.read(node, problems)?;
        let zone = match name.as_str() {
            "" | "UTC" => Ok(TimeZone::UTC),
            "Local" => Ok(TimeZone::system()),
            name => TimeZone::get(name).map_err(|_| Stop(format!("unknown time zone {name}"))),
        };
        self.0 = Some((name, zone?));
        Ok(())
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn print(&mut self) -> Print {
        Print::Text(self.0.as_ref().map_or(String::new(), |zone| zone.0.clone()))
    }
}

/// Minutes of the day from `HH:MM`, up to `24:00`.
fn minutes(text: &str) -> Result<i32, String> {
    let wrong = || format!("couldn't parse timestamp {text}, invalid format");
    let digits = text.len() == 5
        && text.bytes().enumerate().all(|(i, byte)| (i == 2) == (byte == b':') && (i == 2 || byte.is_ascii_digit()));
    if !digits {
        return Err(wrong());
    }
    let part = |at: usize| text[at..at + 2].parse::<i32>().map_err(|_| wrong());
    let (hours, minutes) = (part(0)?, part(3)?);
    if minutes > 59 || hours > 24 || hours == 24 && minutes > 0 {
        return Err(wrong());
    }
    Ok(hours * 60 + minutes)
}

impl Record for Hours {
    const TYPE: &'static str = "timeinterval.yamlTimeRange";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("start_time", &mut self.start);
        fields.always("end_time", &mut self.end);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.start.is_empty() || self.end.is_empty() {
            return Err("both start and end times must be provided".to_owned());
        }
        self.minutes = (minutes(&self.start)?, minutes(&self.end)?);
        if self.minutes.0 >= self.minutes.1 {
            return Err("start time cannot be equal or greater than end time".to_owned());
        }
        Ok(())
    }
}

impl Record for Interval {
    const TYPE: &'static str = "timeinterval.TimeInterval";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("times", &mut self.times);
        fields.field("weekdays", &mut self.weekdays);
        fields.field("days_of_month", &mut self.days_of_month);
        fields.field("months", &mut self.months);
        fields.field("years", &mut self.years);
        fields.field("location", &mut self.location);
    }
}

impl Interval {
    /// Whether a time (milliseconds since 1970) is within.
    pub fn contains(&self, time: i64) -> bool {
        let zone = self.location.0.as_ref().map_or(TimeZone::UTC, |zone| zone.1.clone());
        let time = Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
        let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
        let length = i32::from(time.days_in_month());
        let day = i32::from(time.day());
        let of_month = |span: &Span<Days>| {
            let from_end = |day: i32| if day < 0 { length + day + 1 } else { day };
            let from = from_end(span.from);
            from <= length && (from.clamp(-length, length)..=from_end(span.to).clamp(-length, length)).contains(&day)
        };
        let weekday = i32::from(time.weekday().to_sunday_zero_offset());
        fn any<T>(all: &[T], of: impl Fn(&T) -> bool) -> bool {
            all.is_empty() || all.iter().any(of)
        }
        any(&self.times, |hours| (hours.minutes.0..hours.minutes.1).contains(&minute))
            && any(&self.days_of_month, of_month)
            && any(&self.months, |span| span.has(i32::from(time.month())))
            && any(&self.weekdays, |span| span.has(weekday))
            && any(&self.years, |span| span.has(i32::from(time.year())))
    }
}
