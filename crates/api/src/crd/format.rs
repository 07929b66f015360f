//! The formats that schemas may ask of strings and numbers; others are ignored, as upstream ignores them.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

/// The format of a schema, if it is one that is checked.
pub(super) fn supported(schema: &Value) -> Option<&str> {
    let format = schema["format"].as_str().filter(|f| !f.is_empty())?;
    let known = match schema["type"].as_str().unwrap_or_default() {
        "" | "string" => STRINGS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    known.then_some(format)
}

/// Names without dashes: upstream does not tell `date-time` and `datetime` apart.
const STRINGS: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Whether a text is of a format.
pub(super) fn holds(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "ipv4" => ipv4(text),
        "ipv6" => text.contains(':') && ipv6(text),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some(b'3')),
        "uuid4" => uuid(text, Some(b'4')),
        "uuid5" => uuid(text, Some(b'5')),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "rgbcolor" => rgb_color(text),
        "byte" => base64(text),
        "date" => date(text),
        "duration" => duration(text),
        "datetime" => date_time(text),
        "k8sshortname" => name(text, 63),
        "k8slongname" => text.len() <= 253 && text.split('.').all(|part| name(part, 253)),
        _ => true,
    }
}

fn name(text: &str, most: usize) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !text.is_empty()
        && text.len() <= most
        && text.bytes().all(|b| plain(b) || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Go's `url.ParseRequestURI`: absolute, or a path.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" || text.starts_with('/') {
        return percent_encoded(text);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let letter = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let scheme_fits = letter && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !scheme_fits {
        return false;
    }
    match rest.strip_prefix("//") {
        None => true,
        Some(rest) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let port_fits = match host.rsplit_once(':') {
                Some((_, port)) if !host.ends_with(']') => port.bytes().all(|b| b.is_ascii_digit()),
                _ => true,
            };
            let bracketed = host.starts_with('[') == host.contains(']');
            port_fits
                && bracketed
                && !host.contains([' ', '"', '<', '>', '^', '`', '{', '|', '}', '\\'])
                && percent_encoded(rest)
        }
    }
}

fn percent_encoded(text: &str) -> bool {
    let path = text.split('?').next().unwrap_or_default();
    let mut parts = path.split('%');
    parts.next();
    parts.all(|p| p.len() >= 2 && p.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// An address as in a mail header: `name <local@domain>` or the address alone.
fn email(text: &str) -> bool {
    let text = text.trim();
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(open), Some(closed)) => &closed[open + 1..],
        (None, None) => text,
        _ => return false,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |part: &str, extra: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || !c.is_ascii() || extra.contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let local_fits = quoted || local.split('.').all(|p| atom(p, "!#$%&'*+-/=?^_`{|}~"));
    let literal = domain.starts_with('[') && domain.ends_with(']');
    local_fits && (literal || domain.split('.').all(|p| atom(p, "!#$%&'*+-/=?^_`{|}~")))
}

fn hostname(text: &str) -> bool {
    if text.is_empty() || text.len() > 255 {
        return false;
    }
    let fits = |c: char| c.is_alphanumeric() || !c.is_ascii() || c == '-' || "$+<=>^`|~".contains(c);
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    let label =
        |l: &&str| !l.is_empty() && l.len() <= 63 && l.chars().all(fits) && !l.starts_with('-') && !l.ends_with('-');
    let top = labels.last().copied().unwrap_or_default();
    labels.iter().all(label) && (labels.len() == 1 || top.chars().count() >= 2 && top.chars().all(char::is_alphabetic))
}

/// Leading zeros are tolerated, as upstream does.
fn ipv4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let octet =
        |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n < 256);
    parts.len() == 4 && parts.iter().all(octet) || text.contains('.') && ipv6(text)
}

fn ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = if address.contains(':') { 128 } else { 32 };
    let bits_fit = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
    let address_fits = if most == 32 { ipv4(address) || address.parse::<Ipv4Addr>().is_ok() } else { ipv6(address) };
    address_fits && bits_fit && bits.parse::<u16>().is_ok_and(|n| n <= most)
}

/// 6, 8 or 20 octets, separated by colons, dashes or, in pairs, dots.
fn mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts.iter().all(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn uuid(text: &str, version: Option<u8>) -> bool {
    let mut digits = Vec::with_capacity(32);
    for byte in text.bytes() {
        match byte {
            b'-' if matches!(digits.len(), 8 | 12 | 16 | 20) => {}
            _ if byte.is_ascii_hexdigit() => digits.push(byte.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let dashes = text.len() - digits.len();
    if digits.len() != 32 || dashes > 4 || text.contains("--") || text.starts_with('-') {
        return false;
    }
    let variant = matches!(digits[16], b'8' | b'9' | b'a' | b'b');
    match version {
        None => true,
        Some(b'3') => digits[12] == b'3',
        Some(version) => digits[12] == version && variant,
    }
}

fn plain_digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

fn isbn10(text: &str) -> bool {
    let digits = plain_digits(text);
    if digits.len() != 10 || !digits.is_ascii() {
        return false;
    }
    let value = |(i, b): (usize, u8)| match b {
        b'0'..=b'9' => Some((10 - i as u32) * u32::from(b - b'0')),
        b'X' if i == 9 => Some(10),
        _ => None,
    };
    digits.bytes().enumerate().map(value).sum::<Option<u32>>().is_some_and(|sum| sum % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let digits = plain_digits(text);
    let weighted =
        |(i, b): (usize, u8)| b.is_ascii_digit().then(|| u32::from(b.wrapping_sub(b'0')) * (1 + 2 * (i as u32 % 2)));
    digits.len() == 13 && digits.bytes().enumerate().map(weighted).sum::<Option<u32>>().is_some_and(|sum| sum % 10 == 0)
}

/// The number ranges of the issuers, and the check digit.
fn credit_card(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    let starts = |prefix: &[u8]| digits.starts_with(prefix);
    let issuer = match digits.len() {
        13 => starts(&[4]),
        14 => starts(&[3, 6]) || starts(&[3, 8]) || starts(&[3, 0]) && digits[2] <= 5,
        15 => starts(&[3, 4]) || starts(&[3, 7]) || starts(&[2, 1, 3, 1]) || starts(&[1, 8, 0, 0]),
        16 => {
            starts(&[4])
                || starts(&[5]) && (1..=5).contains(&digits[1])
                || starts(&[6, 0, 1, 1])
                || starts(&[6, 5])
                || starts(&[3, 5])
        }
        _ => false,
    };
    let doubled = |(i, d): (usize, &u8)| match (i % 2, u32::from(*d) * 2) {
        (0, _) => u32::from(*d),
        (_, twice) => twice / 10 + twice % 10,
    };
    issuer && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

fn ssn(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let separator = |i: usize| bytes.get(i).is_some_and(|b| matches!(b, b'-' | b' '));
    let first = usize::from(separator(3));
    let second = usize::from(separator(5 + first));
    digits == 9 && bytes.len() == 9 + first + second
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    let part = |p: &str| {
        let p = p.trim();
        !p.is_empty()
            && p.len() <= 3
            && p.bytes().all(|b| b.is_ascii_digit())
            && p.parse::<u16>().is_ok_and(|n| n < 256)
    };
    inner.is_some_and(|i| i.split(',').count() == 3 && i.split(',').all(part))
}

fn base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && padding <= 2
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn date(text: &str) -> bool {
    let shape = text.len() == 10 && text.is_ascii() && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    shape && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 with `T` and a zone; the fraction may have any number of digits.
fn date_time(text: &str) -> bool {
    let Some((day, clock)) = text.split_once(['T', 't', ' ']) else { return false };
    let zone = clock.rfind(['Z', 'z', '+', '-']);
    let Some(zone) = zone else { return false };
    let (clock, zone) = clock.split_at(zone);
    let offset = zone.len() == 1 && matches!(zone, "Z" | "z")
        || zone.len() == 6
            && zone.is_ascii()
            && zone.as_bytes()[3] == b':'
            && zone[1..3].parse::<u8>().is_ok_and(|h| h < 25)
            && zone[4..].parse::<u8>().is_ok_and(|m| m < 60);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    let number = |i: usize, most: u8| {
        parts.get(i).is_some_and(|p: &&str| p.len() == 2 && p.parse::<u8>().is_ok_and(|n| n <= most))
    };
    date(day)
        && offset
        && parts.len() == 3
        && number(0, 23)
        && number(1, 59)
        && number(2, 59)
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
}

/// Go's durations (`1h30m`, `-1.5s`), and a number with a unit in words (`3 days`).
fn duration(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return true;
    }
    let mut rest = unsigned;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let letters = after.trim_start().find(|c: char| !c.is_alphabetic()).unwrap_or(after.trim_start().len());
        let (unit, next) = after.trim_start().split_at(letters);
        const UNITS: [&str; 30] = [
            "ns",
            "us",
            "µs",
            "μs",
            "ms",
            "s",
            "m",
            "h",
            "d",
            "w",
            "nano",
            "nanos",
            "nanosecond",
            "nanoseconds",
            "micro",
            "micros",
            "microsecond",
            "microseconds",
            "milli",
            "millis",
            "millisecond",
            "milliseconds",
            "sec",
            "secs",
            "second",
            "seconds",
            "min",
            "minute",
            "minutes",
            "hr",
        ];
        const LONG: [&str; 8] = ["mins", "hrs", "hour", "hours", "day", "days", "week", "weeks"];
        if !UNITS.contains(&unit) && !LONG.contains(&unit) {
            return false;
        }
        any = true;
        rest = next.trim_start();
    }
    any
}
