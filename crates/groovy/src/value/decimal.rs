//! Numbers with decimals, as `BigDecimal` has them: digits and a scale. Digits are bounded by 128 bits.

use std::{cmp::Ordering, fmt};

/// A number: digits divided by ten to the scale.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: i128,
    scale: u32,
}

/// Decimals that a division which does not end is carried to.
const PRECISION: u32 = 10;
const SCALE: u32 = 34;

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self { digits: value.into(), scale: 0 }
    }
}

impl Decimal {
    /// From text such as `-1.50` or `2e3`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (sign, number) = match number.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{part}");
        if digits.is_empty() || digits.len() > 38 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let value = Self { digits: sign * digits.parse::<i128>().ok()?, scale: part.len() as u32 };
        match exponent {
            0 => Some(value),
            1.. => {
                let scale = value.scale.saturating_sub(exponent as u32);
                let more = (exponent as u32).saturating_sub(value.scale);
                Some(Self { digits: value.digits.checked_mul(10i128.checked_pow(more)?)?, scale })
            }
            _ => Some(Self {
                scale: value.scale.checked_add(exponent.unsigned_abs()).filter(|scale| *scale <= SCALE)?,
                ..value
            }),
        }
    }

    /// From a binary number, by its shortest text.
    pub fn from_f64(value: f64) -> Option<Self> {
        Self::parse(&format!("{value}"))
    }

    /// As a binary number.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// The whole part.
    pub fn whole(self) -> i128 {
        10i128.checked_pow(self.scale).map_or(0, |unit| self.digits / unit)
    }

    /// How many decimals it is written with.
    pub fn scale(self) -> u32 {
        self.scale
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// Both with the same scale.
    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        let digits = |value: Self| value.digits.checked_mul(10i128.checked_pow(scale - value.scale)?);
        Some((digits(self)?, digits(other)?, scale))
    }

    /// Sum; none where it is out of range, as with the others.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (one, other, scale) = self.aligned(other)?;
        Some(Self { digits: one.checked_add(other)?, scale })
    }

    /// Difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negate()?)
    }

    /// Product.
    pub fn multiply(self, other: Self) -> Option<Self> {
        let scale = self.scale + other.scale;
        Self { digits: self.digits.checked_mul(other.digits)?, scale }.shortened(SCALE)
    }

    /// Quotient, exact where it ends, else with ten decimals more than the operands, rounded half up.
    pub fn divide(self, other: Self) -> Option<Self> {
        if other.digits == 0 {
            return None;
        }
        let least = self.scale.saturating_sub(other.scale);
        let wanted = self.scale.max(other.scale) + PRECISION;
        let mut digits = self.digits;
        let mut scale = i64::from(self.scale) - i64::from(other.scale);
        while (digits % other.digits != 0 || scale < 0) && scale <= i64::from(wanted) {
            digits = digits.checked_mul(10)?;
            scale += 1;
        }
        let mut value = Self { digits: digits / other.digits, scale: scale as u32 };
        if digits % other.digits != 0 {
            value = value.rounded(wanted)?;
        }
        value.strip(least);
        Some(value)
    }

    /// What is left of a division.
    pub fn remainder(self, other: Self) -> Option<Self> {
        let (one, other, scale) = self.aligned(other)?;
        Some(Self { digits: one.checked_rem(other)?, scale })
    }

    /// The opposite.
    pub fn negate(self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_neg()?, scale: self.scale })
    }

    /// With so many decimals at most, rounded half away from zero.
    pub fn rounded(self, scale: u32) -> Option<Self> {
        if self.scale <= scale {
            return Some(self);
        }
        let unit = 10i128.checked_pow(self.scale - scale)?;
        let half = unit / 2 * self.digits.signum();
        Some(Self { digits: self.digits.checked_add(half)? / unit, scale })
    }

    /// With exactly so many decimals.
    pub fn with_scale(self, scale: u32) -> Option<Self> {
        let value = self.rounded(scale)?;
        let digits = value.digits.checked_mul(10i128.checked_pow(scale - value.scale)?)?;
        Some(Self { digits, scale })
    }

    fn shortened(mut self, scale: u32) -> Option<Self> {
        self = self.rounded(scale)?;
        Some(self)
    }

    fn strip(&mut self, least: u32) {
        while self.scale > least && self.digits % 10 == 0 {
            self.digits /= 10;
            self.scale -= 1;
        }
    }

    /// Order by value.
    pub fn compare(self, other: Self) -> Ordering {
        match self.aligned(other) {
            Some((one, other, _)) => one.cmp(&other),
            None => self.to_f64().total_cmp(&other.to_f64()),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.digits < 0 { "-" } else { "" };
        let digits = self.digits.unsigned_abs().to_string();
        let scale = self.scale as usize;
        if scale == 0 {
            return write!(out, "{sign}{digits}");
        }
        let digits = format!("{digits:0>width$}", width = scale + 1);
        let (whole, part) = digits.split_at(digits.len() - scale);
        write!(out, "{sign}{whole}.{part}")
    }
}
