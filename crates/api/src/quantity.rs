//! Amounts of CPU, memory and the like: `500m`, `1.5Gi`, `1e3`, with exact arithmetic.
//!
//! A [`Quantity`] is a whole number of billionths in 128 bits, so every amount that upstream can hold between 10⁻⁹ and about
//! 1.7·10²⁹ is exact; what is larger saturates, what is smaller is rounded away from zero. It remembers in which family of
//! suffixes it was written and is shown again in that family in canonical form: no fraction, the largest suffix that keeps
//! every digit (`1.5Gi` is `1536Mi`, `0.5` is `500m`, `1000m` is `1`).
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

#[cfg(test)]
mod tests;

/// Family of suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `m`, `k`, `M`: powers of ten.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`: powers of 1024.
    BinarySi,
    /// `e3`: a power of ten written out.
    DecimalExponent,
}

/// An exact amount.
#[derive(Debug, Clone, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// As it was written, where that counts as canonical although it has a plus sign or leading zeros.
    text: Option<Box<str>>,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Powers of ten that a number of billionths can have.
const LARGEST_POWER: u32 = 38;

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi, text: None };

    /// That many whole units.
    pub fn new(units: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(units) * NANO, format, text: None }
    }

    /// That many thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format, text: None }
    }

    /// Reads one, exactly as upstream does: no spaces, at most one sign, a suffix without a space.
    pub fn parse(text: &str) -> Result<Quantity, Error> {
        if text.is_empty() {
            return Err(Error::Format);
        }
        let parts = split(text)?;
        let (scale, format) = interpret(parts.suffix)?;
        if !parts.fraction.is_empty() && parts.fraction.contains('.') {
            return Err(Error::Number);
        }
        let digits = || parts.whole.bytes().chain(parts.fraction.bytes());
        let zero = digits().all(|digit| digit == b'0');
        if zero {
            let format = if text == "0" { Format::DecimalSi } else { format };
            return Ok(Quantity { nanos: 0, format, text: None });
        }
        let mut nanos = match scale {
            Scale::Ten(power) => scaled(digits(), i64::from(power) + 9 - parts.fraction.len() as i64),
            Scale::Two(power) => binary(digits(), parts.fraction.len(), power),
        };
        let mut format = format;
        if format == Format::BinarySi {
            nanos = nanos.min(i128::from(i64::MAX) * NANO);
            if nanos < NANO {
                format = Format::DecimalSi;
            }
        }
        if parts.negative {
            nanos = -nanos;
        }
        Ok(Quantity { nanos, format, text: parts.kept(text, scale) })
    }

    /// Reads one from JSON, where a bare number is allowed too.
    pub fn from_value(value: &Value) -> Result<Quantity, Error> {
        match value {
            Value::String(text) => Quantity::parse(text.trim()),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            Value::Null => Ok(Quantity::ZERO),
            _ => Err(Error::Format),
        }
    }

    /// Reads one from JSON; what cannot be read is nothing.
    pub fn of(value: &Value) -> Quantity {
        Quantity::from_value(value).unwrap_or_default()
    }

    /// Family of suffixes in which it is shown.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The same amount in another family of suffixes.
    pub fn with_format(mut self, format: Format) -> Quantity {
        self.format = format;
        self.text = None;
        self
    }

    /// Whole units, a fraction rounded away from zero. Memory: bytes.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO))
    }

    /// Thousandths, a smaller fraction rounded away from zero. CPU: millicores.
    pub fn milli(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO / 1000))
    }

    /// [`Quantity::value`] as bytes; a negative amount is none.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.value()).unwrap_or(0)
    }

    /// As a floating point number, which may lose digits.
    pub fn approximate(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Adds. Nothing plus something is shown as the something is.
    pub fn add(&mut self, other: &Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.text = None;
    }

    /// Subtracts. Nothing minus something is shown as the something is.
    pub fn sub(&mut self, other: &Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_sub(other.nanos);
        self.text = None;
    }

    /// Multiplies.
    pub fn mul(&mut self, factor: i64) {
        self.nanos = self.nanos.saturating_mul(i128::from(factor));
        self.text = None;
    }

    /// Rounds away from zero to thousandths.
    pub fn round_up_to_milli(&mut self) {
        let unit = NANO / 1000;
        let rounded = divide_up(self.nanos, unit).saturating_mul(unit);
        if rounded != self.nanos {
            self.nanos = rounded;
            self.text = None;
        }
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && (exponent_form || exponent < 18) {
            number /= 1000;
            exponent += 3;
        }
        if exponent_form {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        write!(f, "{number}{}", suffix[((exponent + 9) / 3) as usize])
    }
}

impl fmt::Display for Quantity {
    /// In canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::DecimalExponent => self.write_decimal(f, true),
            Format::BinarySi if self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0 => {
                let (mut number, mut power) = (self.nanos / NANO, 0);
                while number % 1024 == 0 && power < 6 {
                    number /= 1024;
                    power += 1;
                }
                write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
            }
            _ => self.write_decimal(f, false),
        }
    }
}

impl PartialEq for Quantity {
    /// Amounts are equal, however written.
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    /// Compares amounts, however written.
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(Ord::cmp(self, other))
    }
}

/// The canonical form of a quantity in JSON, or `None` if it is none or already canonical. `milli` also rounds it up to
/// thousandths, as upstream does with resource lists.
pub fn canonical(value: &Value, milli: bool) -> Option<String> {
    let written: Cow<'_, str> = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    let mut quantity = Quantity::parse(written.trim()).ok()?;
    if milli {
        quantity.round_up_to_milli();
    }
    let shown = quantity.to_string();
    if value.as_str() == Some(shown.as_str()) { None } else { Some(shown) }
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; "0" if there are none.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl Parts<'_> {
    /// The text itself where upstream keeps it as it is although it may have a plus sign, leading zeros or an upper-case E.
    fn kept(&self, text: &str, scale: Scale) -> Option<Box<str>> {
        let length = self.whole.len() + self.fraction.len();
        let kept = match scale {
            Scale::Ten(power) => {
                let power = i64::from(power) - self.fraction.len() as i64;
                let ends_in_zeros =
                    self.fraction.ends_with("000") || format!("{}{}", self.whole, self.fraction).ends_with("000");
                length <= 18 && power >= -9 && power % 3 == 0 && !ends_in_zeros && !self.whole.starts_with('0')
            }
            Scale::Two(power) => {
                let digits = 15 - length as i64 - (power as f32 * 3.0 / 10.0) as i64 - 1;
                let odd = self.whole.parse::<u64>().is_ok_and(|value| value & 7 != 0);
                self.fraction.is_empty() && digits >= 0 && odd
            }
        };
        let unusual = text.starts_with(['+', '0']) || text.starts_with("-0") || text.contains(['.', 'e', 'E']);
        (kept && unusual).then(|| text.into())
    }
}

fn split(text: &str) -> Result<Parts<'_>, Error> {
    let bytes = text.as_bytes();
    let negative = bytes[0] == b'-';
    let mut position = usize::from(matches!(bytes[0], b'-' | b'+'));
    let digits_from = |from: usize| {
        let count = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        from + count
    };
    position += bytes[position..].iter().take_while(|byte| **byte == b'0').count();
    let end = digits_from(position);
    let whole = if end == position { "0" } else { &text[position..end] };
    let mut fraction = "";
    position = end;
    if bytes.get(position) == Some(&b'.') {
        let end = digits_from(position + 1);
        fraction = &text[position + 1..end];
        position = end;
    }
    let start = position;
    position += bytes[start..].iter().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    if position < bytes.len() && matches!(bytes[position], b'-' | b'+') {
        position += 1;
    }
    if digits_from(position) != bytes.len() {
        return Err(Error::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix: &text[start..] })
}

fn interpret(suffix: &str) -> Result<(Scale, Format), Error> {
    let decimal = |power| Ok((Scale::Ten(power), Format::DecimalSi));
    let binary = |power| Ok((Scale::Two(power), Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => match other.strip_prefix(['e', 'E']).map(str::parse::<i64>) {
            Some(Ok(power)) => {
                let power = power.clamp(-1_000_000, 1_000_000) as i32;
                Ok((Scale::Ten(power), Format::DecimalExponent))
            }
            _ => Err(Error::Suffix),
        },
    }
}

/// Digits times ten to the `power`, rounded up, saturated.
fn scaled(digits: impl Iterator<Item = u8> + Clone, power: i64) -> i128 {
    let length = digits.clone().count() as i64;
    let keep = if power < 0 { (length + power).max(0) } else { length };
    let (mut number, mut rest) = (0_i128, false);
    for (position, digit) in digits.enumerate() {
        if (position as i64) < keep {
            number = number.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        } else {
            rest |= digit != b'0';
        }
    }
    if power > 0 && number != 0 {
        let factor = if power > i64::from(LARGEST_POWER) { i128::MAX } else { 10_i128.pow(power as u32) };
        number = number.saturating_mul(factor);
    }
    number.saturating_add(i128::from(rest))
}

/// Digits with `places` of them behind the point, times two to the `power`, in billionths, rounded up, saturated.
fn binary(digits: impl Iterator<Item = u8> + Clone, places: usize, power: u32) -> i128 {
    // The fraction's digits past the 18th cannot matter: 2^-60 is about 10^-18, and what is left over rounds up.
    const PLACES: usize = 18;
    let whole_length = digits.clone().count() - places;
    let whole = scaled(digits.clone().take(whole_length), 0);
    let mut number = whole.saturating_mul(1_i128 << power).saturating_mul(NANO);
    let fraction: Vec<u8> = digits.skip(whole_length).collect();
    if fraction.iter().any(|digit| *digit != b'0') {
        let rest = fraction.iter().skip(PLACES).any(|digit| *digit != b'0');
        let kept = fraction.len().min(PLACES);
        let numerator = scaled(fraction[..kept].iter().copied(), 0) + i128::from(rest);
        // numerator * 2^power * 10^9 / 10^kept, in two steps so that nothing overflows.
        let denominator = 10_i128.pow(kept as u32);
        let shifted = numerator.saturating_mul(1_i128 << power);
        let (quotient, remainder) = (shifted / denominator, shifted % denominator);
        let low = divide_up(remainder.saturating_mul(NANO), denominator);
        number = number.saturating_add(quotient.saturating_mul(NANO)).saturating_add(low);
    }
    number
}

fn divide_up(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    if number % by == 0 { quotient } else { quotient + number.signum() }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}
