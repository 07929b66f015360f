//! Text, a line at a time: Prometheus' own and OpenMetrics.
//!
//! ```text
//! name{label="value",...} value time # {label="value"} value time
//! └───── series ────────┘└ rest ────────────────────────────────┘
//! ```
//!
//! The two differ in blanks (OpenMetrics wants exactly one), times (milliseconds, or seconds as a float), types, units,
//! exemplars and the mark at the end. A name that is not plain stands in quotes as the first thing within the braces.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use tsdb::{labels::Builder, sample::Exemplar};

use super::{Kind, canonical, number};

/// Bytes of a line at most.
pub const LONGEST: usize = 1 << 20;

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// Nothing: it is empty or a comment.
    Nothing,
    /// What a metric family is.
    Kind(&'a str, Kind),
    /// What a metric family is about.
    Help(&'a str, Cow<'a, str>),
    /// In what a metric family is measured.
    Unit(&'a str, &'a str),
    /// A sample: the text of its series, and the rest.
    Sample(&'a str, Rest<'a>),
    /// OpenMetrics' end.
    End,
}

/// What follows the series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest<'a> {
    /// The value.
    pub value: f64,
    /// Milliseconds since 1970, if it says so.
    pub time: Option<i64>,
    /// The text of an exemplar, from its brace on.
    pub exemplar: Option<&'a str>,
}

/// Reads lines; knows which form they have and what the last type was.
#[derive(Clone, Debug)]
pub struct Lines {
    open: bool,
    kind: Kind,
    ended: bool,
}

/// Why a line is wrong; the words are Prometheus'.
pub type Error = String;

fn plain_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b':'
}

fn plain(byte: u8) -> bool {
    plain_start(byte) || byte.is_ascii_digit()
}

/// Text for messages, not too long.
fn show(bytes: &[u8]) -> String {
    tsdb::labels::quote(&String::from_utf8_lossy(&bytes[..bytes.len().min(256)]))
}

/// Where a quoted string ends that begins at `at`: behind its last quote.
fn quoted(line: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        let found = i + memchr2(b'"', b'\\', line.get(i..)?)?;
        if line.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        i = found + 2;
    }
}

/// A part of what stands in braces.
enum Part<'a> {
    Name(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

impl Lines {
    /// Of Prometheus' own form, or of OpenMetrics.
    pub fn new(open_metrics: bool) -> Self {
        Self { open: open_metrics, kind: Kind::Unknown, ended: false }
    }

    /// What the last type was.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether all that must come has come.
    pub fn finish(&self) -> Result<(), Error> {
        if self.open && !self.ended { Err("data does not end with # EOF".to_owned()) } else { Ok(()) }
    }

    /// Whether a line may be a sample of a known series, so that it is worth comparing.
    #[inline]
    pub fn may_be_sample(&self, line: &[u8]) -> bool {
        !self.ended && line.first().is_some_and(|byte| plain_start(*byte) || *byte == b'{')
    }

    fn wrong<T>(&self, expected: &str, line: &[u8], at: usize) -> Result<T, Error> {
        let end = line.len().min(at + 1);
        let got = show(line.get(at.min(end)..end).unwrap_or_default());
        let token = if at >= line.len() { "LINEBREAK" } else { "INVALID" };
        Err(format!("{expected}, got {got} (\"{token}\") while parsing: {}", show(&line[..end])))
    }

    fn blanks(&self, line: &[u8], mut at: usize) -> usize {
        if !self.open {
            while matches!(line.get(at), Some(b' ' | b'\t')) {
                at += 1;
            }
        }
        at
    }

    /// Reads a line, without its line break.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Result<Event<'a>, Error> {
        if self.ended {
            return Err("unexpected data after # EOF".to_owned());
        }
        if line.len() > LONGEST {
            return Err(format!("a line is longer than {LONGEST} bytes: {}", show(&line[..64])));
        }
        let start = self.blanks(line, 0);
        match line.get(start) {
            None if !self.open => Ok(Event::Nothing),
            Some(b'#') => self.meta(line, start),
            Some(byte) if plain_start(*byte) || *byte == b'{' => {
                let end = self.series(line, start)?;
                let text = std::str::from_utf8(&line[start..end])
                    .map_err(|_| format!("invalid UTF-8 label value: {}", show(&line[start..end])))?;
                Ok(Event::Sample(text, self.rest(line, end)?))
            }
            _ => self.wrong("expected a valid start token", line, start),
        }
    }

    fn meta<'a>(&mut self, line: &'a [u8], start: usize) -> Result<Event<'a>, Error> {
        let after = &line[start + 1..];
        let body = if self.open {
            match after.strip_prefix(b" ") {
                Some(b"EOF") => {
                    self.ended = true;
                    return Ok(Event::End);
                }
                Some(body) => body,
                None => return self.wrong("expected a valid start token", line, start),
            }
        } else {
            match after.first() {
                Some(b' ' | b'\t') => &line[self.blanks(line, start + 1)..],
                _ => return Ok(Event::Nothing),
            }
        };
        let words: &[&'static str] = if self.open { &["HELP", "TYPE", "UNIT"] } else { &["HELP", "TYPE"] };
        let follows = |byte: Option<&u8>| byte == Some(&b' ') || (!self.open && byte == Some(&b'\t'));
        let found = words.iter().find(|word| body.starts_with(word.as_bytes()) && follows(body.get(4)));
        let Some(word) = found else {
            return if self.open {
                self.wrong("expected a valid start token", line, start)
            } else {
                Ok(Event::Nothing)
            };
        };
        let at = self.blanks(line, line.len() - body.len() + 5);
        let expected = || format!("expected metric name after {word}");
        let (name, end) = match line.get(at) {
            Some(b'"') => match quoted(line, at) {
                Some(end) => (&line[at + 1..end - 1], end),
                None => return self.wrong(&expected(), line, at),
            },
            Some(byte) if plain_start(*byte) => {
                let end = at + line[at..].iter().take_while(|byte| plain(**byte)).count();
                (&line[at..end], end)
            }
            _ => return self.wrong(&expected(), line, at),
        };
        if self.open && line.get(end) != Some(&b' ') {
            return Err(format!("expected text in {word}"));
        }
        let name = std::str::from_utf8(name).map_err(|_| format!("invalid metric name {}", show(name)))?;
        let rest = line.get(end + 1..).unwrap_or_default();
        let text =
            std::str::from_utf8(rest).map_err(|_| format!("help text {} is not a valid utf8 string", show(rest)))?;
        match *word {
            "HELP" => Ok(Event::Help(name, unescape(text, self.open))),
            "UNIT" => {
                let suffix = name.strip_suffix(text).is_some_and(|before| before.ends_with('_'));
                if !text.is_empty() && !suffix {
                    let (unit, name) = (tsdb::labels::quote(text), tsdb::labels::quote(name));
                    return Err(format!("unit {unit} not a suffix of metric {name}"));
                }
                Ok(Event::Unit(name, text))
            }
            _ => {
                self.kind = match (text, self.open) {
                    ("counter", _) => Kind::Counter,
                    ("gauge", _) => Kind::Gauge,
                    ("histogram", _) => Kind::Histogram,
                    ("summary", _) => Kind::Summary,
                    ("untyped", false) | ("unknown", true) => Kind::Unknown,
                    ("gaugehistogram", true) => Kind::GaugeHistogram,
                    ("info", true) => Kind::Info,
                    ("stateset", true) => Kind::StateSet,
                    _ => return Err(format!("invalid metric type {}", tsdb::labels::quote(text))),
                };
                Ok(Event::Kind(name, self.kind))
            }
        }
    }

    /// Checks name and labels that begin at `start`; says where they end.
    fn series(&self, line: &[u8], start: usize) -> Result<usize, Error> {
        let mut end = start;
        let mut named = false;
        if line.get(start) != Some(&b'{') {
            end += line[start..].iter().take_while(|byte| plain(**byte)).count();
            named = true;
        }
        let brace = self.blanks(line, end);
        if line.get(brace) != Some(&b'{') {
            return Ok(end);
        }
        let mut twice = false;
        end = self.braces(line, brace + 1, false, &mut |part| {
            if let Part::Name(_) = part {
                twice |= named;
                named = true;
            }
        })?;
        if twice {
            return Err(format!("metric name already set while parsing: {}", show(&line[start..end])));
        }
        if !named {
            return Err(format!("metric name not set while parsing: {}", show(&line[start..end])));
        }
        Ok(end)
    }

    /// Reads what stands in braces from behind the first on; says where it ends, behind the last.
    fn braces<'a>(
        &self,
        line: &'a [u8],
        start: usize,
        exemplar: bool,
        each: &mut dyn FnMut(Part<'a>),
    ) -> Result<usize, Error> {
        let mut at = self.blanks(line, start);
        loop {
            let first = at;
            let (name, is_quoted) = match line.get(at) {
                Some(b'}') => return Ok(at + 1),
                Some(b'"') => match quoted(line, at) {
                    Some(end) => {
                        at = end;
                        (&line[first + 1..end - 1], true)
                    }
                    None => return self.wrong("expected label name", line, at),
                },
                Some(byte) if plain_start(*byte) && *byte != b':' => {
                    at += line[at..].iter().take_while(|byte| plain(**byte) && **byte != b':').count();
                    (&line[first..at], false)
                }
                _ => return self.wrong("expected label name", line, at),
            };
            at = self.blanks(line, at);
            match line.get(at) {
                Some(b',' | b'}') if is_quoted => {
                    if exemplar {
                        return self.wrong("expected label name", line, at);
                    }
                    each(Part::Name(name));
                    if line.get(at) == Some(&b'}') {
                        return Ok(at + 1);
                    }
                    at = self.blanks(line, at + 1);
                    continue;
                }
                Some(b'=') => at = self.blanks(line, at + 1),
                _ => return self.wrong("expected equal", line, at),
            }
            let end = if line.get(at) == Some(&b'"') { quoted(line, at) } else { None };
            let Some(end) = end else { return self.wrong("expected label value", line, at) };
            each(Part::Pair(name, &line[at + 1..end - 1]));
            at = self.blanks(line, end);
            match line.get(at) {
                Some(b',') => at = self.blanks(line, at + 1),
                Some(b'}') => {}
                _ if self.open => return self.wrong("expected comma or brace close", line, at),
                _ => {}
            }
        }
    }

    /// Reads what follows a series that ends at `at`.
    #[inline]
    pub fn rest<'a>(&self, line: &'a [u8], at: usize) -> Result<Rest<'a>, Error> {
        let rest = line.get(at..).unwrap_or_default();
        // The usual case: one blank, a number, the end.
        if let Some((b' ', value)) = rest.split_first()
            && value.len() < 32
            && let Some(value) = number::parse(value)
        {
            return Ok(Rest { value, time: None, exemplar: None });
        }
        if self.open { self.rest_open(line, at) } else { self.rest_text(line, at) }
    }

    fn rest_text<'a>(&self, line: &'a [u8], at: usize) -> Result<Rest<'a>, Error> {
        let start = self.blanks(line, at);
        let end = start + line[start..].iter().take_while(|byte| !matches!(byte, b' ' | b'\t' | b'{')).count();
        if start == end {
            return self.wrong("expected value after metric", line, start);
        }
        let value = self.float(line, start, end)?;
        let start = self.blanks(line, end);
        if start == line.len() {
            return Ok(Rest { value, time: None, exemplar: None });
        }
        let end = start + line[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if end == start {
            return self.wrong("expected timestamp or new record", line, start);
        }
        let digits = std::str::from_utf8(&line[start..end]).unwrap_or_default();
        let Ok(time) = digits.parse() else {
            return Err(format!(
                "strconv.ParseInt: parsing {}: value out of range while parsing: {}",
                show(&line[start..end]),
                show(&line[..end])
            ));
        };
        let after = self.blanks(line, end);
        if after < line.len() {
            return self.wrong("expected next entry after timestamp", line, after);
        }
        Ok(Rest { value, time: Some(time), exemplar: None })
    }

    fn rest_open<'a>(&self, line: &'a [u8], at: usize) -> Result<Rest<'a>, Error> {
        let word = |at: usize| at + memchr(b' ', &line[at..]).unwrap_or(line.len() - at);
        if line.get(at) != Some(&b' ') || word(at + 1) == at + 1 {
            return self.wrong("expected value after metric", line, at);
        }
        let mut end = word(at + 1);
        let value = self.float(line, at + 1, end)?;
        let mut time = None;
        if end < line.len() && !line[end..].starts_with(b" # {") {
            let start = end + 1;
            end = word(start);
            if end == start {
                return self.wrong("expected timestamp or new record", line, start);
            }
            time = Some(self.seconds(line, start, end, "invalid timestamp")?);
        }
        if end == line.len() {
            return Ok(Rest { value, time, exemplar: None });
        }
        if !line[end..].starts_with(b" # {") {
            return self.wrong("expected next entry after timestamp", line, end);
        }
        let start = end + 3;
        let end = self.braces(line, start + 1, true, &mut |_| ())?;
        let exemplar = std::str::from_utf8(&line[start..])
            .map_err(|_| format!("invalid UTF-8 label value: {}", show(&line[start..])))?;
        // Its value and time are checked now, so that a wrong one is told.
        self.exemplar_numbers(line, end)?;
        Ok(Rest { value, time, exemplar: Some(exemplar) })
    }

    fn exemplar_numbers(&self, line: &[u8], at: usize) -> Result<(f64, Option<i64>), Error> {
        let word = |at: usize| at + memchr(b' ', &line[at..]).unwrap_or(line.len() - at);
        if line.get(at) != Some(&b' ') || word(at + 1) == at + 1 {
            return self.wrong("expected value after exemplar labels", line, at);
        }
        let end = word(at + 1);
        let value = self.float(line, at + 1, end)?;
        if end == line.len() {
            return Ok((value, None));
        }
        let stop = word(end + 1);
        let time = self.seconds(line, end + 1, stop, "invalid exemplar timestamp")?;
        if stop < line.len() {
            return self.wrong("expected next entry after exemplar timestamp", line, stop);
        }
        Ok((value, Some(time)))
    }

    fn float(&self, line: &[u8], start: usize, end: usize) -> Result<f64, Error> {
        let text = &line[start..end];
        number::parse(text).ok_or_else(|| {
            let reason = if text.iter().any(|byte| b"pP_".contains(byte)) {
                "unsupported character in float".to_owned()
            } else {
                format!("strconv.ParseFloat: parsing {}: invalid syntax", show(text))
            };
            format!("{reason} while parsing: {}", show(&line[..end]))
        })
    }

    fn seconds(&self, line: &[u8], start: usize, end: usize, what: &str) -> Result<i64, Error> {
        let seconds = self.float(line, start, end)?;
        if !seconds.is_finite() {
            return Err(format!("{what} {seconds:.6}"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    /// The labels of a series that was read before, its name among them.
    pub fn labels(&self, series: &str) -> Builder {
        let bytes = series.as_bytes();
        let text = |part: &[u8]| unescape(std::str::from_utf8(part).unwrap_or_default(), true).into_owned();
        let mut builder = Builder::default();
        let brace = match bytes.first() {
            Some(b'{') => 0,
            _ => {
                let end = bytes.iter().take_while(|byte| plain(**byte)).count();
                builder.set(tsdb::labels::NAME, series.get(..end).unwrap_or_default());
                self.blanks(bytes, end)
            }
        };
        if bytes.get(brace) == Some(&b'{') {
            let kind = self.kind;
            // It was checked when it was read.
            let _ = self.braces(bytes, brace + 1, false, &mut |part| match part {
                Part::Name(name) => {
                    builder.set(tsdb::labels::NAME, &text(name));
                }
                Part::Pair(name, value) => {
                    let (name, value) = (text(name), text(value));
                    builder.set(&name, &canonical(kind, &name, &value));
                }
            });
        }
        builder
    }

    /// The exemplar of a sample that was read before.
    pub fn exemplar(&self, exemplar: &str) -> Option<Exemplar> {
        let line = exemplar.as_bytes();
        let mut builder = Builder::default();
        let end = self
            .braces(line, 1, true, &mut |part| {
                if let Part::Pair(name, value) = part {
                    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
                    builder.set(&text(name), &text(value));
                }
            })
            .ok()?;
        let (value, timestamp) = self.exemplar_numbers(line, end).ok()?;
        Some(Exemplar { labels: builder.labels(), value, timestamp })
    }
}

/// Undoes `\\`, `\n` and, where quotes are escaped, `\"`; anything else behind a backslash stays as it is.
fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (put, skip) = match after.bytes().next() {
            Some(b'n') => ('\n', 1),
            Some(b'\\') => ('\\', 1),
            Some(b'"') if quotes => ('"', 1),
            _ => ('\\', 0),
        };
        out.push(put);
        rest = &after[skip..];
    }
    out.push_str(rest);
    out.into()
}
