//! Strings as Go quotes and formats them.
//!
//! See <https://pkg.go.dev/fmt#hdr-Printing> and <https://go.dev/ref/spec#String_literals>.

use promql::number;

use super::value::Value;

/// A string in double quotes with escapes.
pub(super) fn quote(text: &str) -> String {
    tsdb::labels::quote(text)
}

/// What a string says that stands in quotes or in back quotes.
pub(super) fn unquote(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let body: Vec<char> = text.strip_prefix('"')?.strip_suffix('"')?.chars().collect();
    let mut bytes = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&c) = body.get(at) {
        at += 1;
        if c != '\\' {
            if matches!(c, '"' | '\n') {
                return None;
            }
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let kind = *body.get(at)?;
        at += 1;
        let plain = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '"' | '\'' => Some(kind as u8),
            _ => None,
        };
        if let Some(byte) = plain {
            bytes.push(byte);
            continue;
        }
        let (count, radix) = match kind {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => return None,
        };
        let from = if radix == 8 { at - 1 } else { at };
        let digits: String = body.get(from..from + count)?.iter().collect();
        let number = digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(&digits, radix).ok())??;
        at = from + count;
        if matches!(kind, 'u' | 'U') {
            bytes.extend_from_slice(char::from_u32(number)?.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(number).ok()?);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Widths and precisions beyond this are refused.
const WIDEST: usize = 10_000;

/// One verb with its flags.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// As `fmt.Sprintf` writes it, mistakes included. Ends early past `most` bytes.
pub(super) fn sprintf(format: &str, args: &[Value], most: usize) -> String {
    let mut out = String::new();
    let chars: Vec<char> = format.chars().collect();
    let (mut at, mut arg, mut reordered) = (0, 0, false);
    while at < chars.len() && out.len() <= most {
        let c = chars[at];
        at += 1;
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.get(at) {
            match flag {
                '+' => spec.plus = true,
                '-' => (spec.minus, spec.zero) = (true, false),
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = !spec.minus,
                _ => break,
            }
            at += 1;
        }
        let mut bad_index = false;
        index(&chars, &mut at, &mut arg, args.len(), &mut reordered, &mut bad_index);
        if chars.get(at) == Some(&'*') {
            at += 1;
            match args.get(arg) {
                Some(Value::Int(width)) if width.unsigned_abs() as usize <= WIDEST => {
                    if *width < 0 {
                        (spec.minus, spec.zero) = (true, false);
                    }
                    spec.width = Some(width.unsigned_abs() as usize);
                }
                _ => out.push_str("%!(BADWIDTH)"),
            }
            arg += 1;
        } else {
            spec.width = digits(&chars, &mut at);
        }
        if chars.get(at) == Some(&'.') {
            at += 1;
            index(&chars, &mut at, &mut arg, args.len(), &mut reordered, &mut bad_index);
            if chars.get(at) == Some(&'*') {
                at += 1;
                match args.get(arg) {
                    Some(Value::Int(precision)) if (0..=WIDEST as i64).contains(precision) => {
                        spec.precision = Some(*precision as usize);
                    }
                    Some(Value::Int(precision)) if *precision < 0 => {}
                    _ => out.push_str("%!(BADPREC)"),
                }
                arg += 1;
            } else {
                spec.precision = Some(digits(&chars, &mut at).unwrap_or(0));
            }
        }
        index(&chars, &mut at, &mut arg, args.len(), &mut reordered, &mut bad_index);
        let Some(&verb) = chars.get(at) else {
            out.push_str("%!(NOVERB)");
            break;
        };
        at += 1;
        if verb == '%' {
            out.push('%');
        } else if bad_index {
            out.push_str(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(value) = args.get(arg) {
            arg += 1;
            one(spec, verb, value, &mut out, 0);
        } else {
            out.push_str(&format!("%!{verb}(MISSING)"));
        }
    }
    if !reordered && arg < args.len() && out.len() <= most {
        out.push_str("%!(EXTRA ");
        for (i, value) in args[arg..].iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            match value {
                Value::Nil => out.push_str("<nil>"),
                value => out.push_str(&format!("{}={}", value.type_name(), value.printed())),
            }
        }
        out.push(')');
    }
    out
}

fn digits(chars: &[char], at: &mut usize) -> Option<usize> {
    let start = *at;
    let mut value = 0usize;
    while let Some(digit) = chars.get(*at).and_then(|c| c.to_digit(10)) {
        value = value.saturating_mul(10).saturating_add(digit as usize).min(WIDEST);
        *at += 1;
    }
    (*at > start).then_some(value)
}

/// `[n]`
fn index(chars: &[char], at: &mut usize, arg: &mut usize, count: usize, reordered: &mut bool, bad: &mut bool) {
    if chars.get(*at) != Some(&'[') {
        return;
    }
    *reordered = true;
    *at += 1;
    let number = digits(chars, at);
    let closed = chars.get(*at) == Some(&']');
    match number {
        Some(number) if closed && (1..=count).contains(&number) => *arg = number - 1,
        _ => *bad = true,
    }
    while chars.get(*at).is_some_and(|c| *c != ']') && !closed {
        *at += 1;
    }
    if chars.get(*at) == Some(&']') {
        *at += 1;
    }
}

fn one(spec: Spec, verb: char, value: &Value, out: &mut String, depth: usize) {
    if verb == 'T' {
        let name = if matches!(value, Value::Nil) { "<nil>" } else { value.type_name() };
        return pad(spec, name, out);
    }
    let wrong = |out: &mut String| match value {
        Value::Nil => out.push_str(&format!("%!{verb}(<nil>)")),
        value => out.push_str(&format!("%!{verb}({}={})", value.type_name(), value.printed())),
    };
    match value {
        Value::Nil if verb == 'v' => pad(spec, "<nil>", out),
        Value::Bool(truth) if matches!(verb, 'v' | 't') => pad(spec, if *truth { "true" } else { "false" }, out),
        Value::Float(float) => match float_text(spec, verb, *float) {
            Some(text) => pad_number(spec, &text, float.is_finite(), out),
            None => wrong(out),
        },
        Value::Duration(_) | Value::Time(_) if matches!(verb, 'v' | 's' | 'q') => {
            text(spec, verb, &value.printed(), out);
        }
        Value::Int(int) | Value::Duration(int) => match int_text(spec, verb, *int) {
            Some(text) => pad_number(spec, &text, true, out),
            None => wrong(out),
        },
        Value::Text(string) | Value::Safe(string) if matches!(verb, 'v' | 's' | 'q' | 'x' | 'X') => {
            text(spec, verb, string, out);
        }
        // Labels print themselves.
        Value::Map(map) if map.kind == super::value::MapKind::Labels && matches!(verb, 'v' | 's' | 'q') => {
            text(spec, verb, &value.printed(), out);
        }
        Value::List(list) if list.kind == super::value::ListKind::Pairs && matches!(verb, 'v' | 's' | 'q') => {
            text(spec, verb, &value.printed(), out);
        }
        Value::List(list) if depth < 8 => {
            out.push('[');
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                one(spec, verb, item, out, depth + 1);
            }
            out.push(']');
        }
        Value::Map(map) if depth < 8 => {
            out.push_str("map[");
            for (i, (key, item)) in map.entries.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                one(spec, verb, &Value::text(key.as_str()), out, depth + 1);
                out.push(':');
                one(spec, verb, item, out, depth + 1);
            }
            out.push(']');
        }
        Value::Record(record) if depth < 8 => {
            out.push('{');
            for (i, (name, _, item)) in record.fields.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                if spec.plus && verb == 'v' {
                    out.push_str(name);
                    out.push(':');
                }
                one(spec, verb, item, out, depth + 1);
            }
            out.push('}');
        }
        _ => wrong(out),
    }
}

fn text(spec: Spec, verb: char, string: &str, out: &mut String) {
    let cut: String = match spec.precision {
        Some(most) if matches!(verb, 'v' | 's' | 'q') => string.chars().take(most).collect(),
        _ => string.to_owned(),
    };
    let written = match verb {
        'q' if spec.sharp && !cut.contains('`') && !cut.chars().any(|c| c.is_control() && c != '\t') => {
            format!("`{cut}`")
        }
        'q' => quote(&cut),
        'x' => cut.bytes().map(|byte| format!("{byte:02x}")).collect(),
        'X' => cut.bytes().map(|byte| format!("{byte:02X}")).collect(),
        'v' if spec.sharp => quote(&cut),
        _ => cut,
    };
    pad(spec, &written, out);
}

fn pad(spec: Spec, text: &str, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = if spec.zero && !spec.minus { '0' } else { ' ' };
    if !spec.minus {
        out.extend(std::iter::repeat_n(fill, missing));
    }
    out.push_str(text);
    if spec.minus {
        out.extend(std::iter::repeat_n(' ', missing));
    }
}

/// Zeros go behind the sign.
fn pad_number(spec: Spec, text: &str, finite: bool, out: &mut String) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if !finite || !spec.zero || missing == 0 {
        return pad(Spec { zero: false, ..spec }, text, out);
    }
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-', ' '])));
    out.push_str(sign);
    out.extend(std::iter::repeat_n('0', missing));
    out.push_str(digits);
}

fn signed(spec: Spec, negative: bool, digits: String) -> String {
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    format!("{sign}{digits}")
}

fn int_text(spec: Spec, verb: char, int: i64) -> Option<String> {
    let size = int.unsigned_abs();
    let as_char = || u32::try_from(int).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let digits = match verb {
        'v' | 'd' => size.to_string(),
        'b' if spec.sharp => format!("0b{size:b}"),
        'b' => format!("{size:b}"),
        'o' if spec.sharp => format!("0{size:o}"),
        'o' => format!("{size:o}"),
        'O' => format!("0o{size:o}"),
        'x' if spec.sharp => format!("0x{size:x}"),
        'x' => format!("{size:x}"),
        'X' if spec.sharp => format!("0X{size:X}"),
        'X' => format!("{size:X}"),
        'c' => return Some(as_char().to_string()),
        'q' => return Some(format!("'{}'", as_char().escape_default())),
        'U' => return Some(format!("U+{int:04X}")),
        _ => return None,
    };
    let padded = match spec.precision {
        Some(least) => format!("{digits:0>least$}"),
        None => digits,
    };
    Some(signed(spec, int < 0, padded))
}

fn float_text(spec: Spec, verb: char, value: f64) -> Option<String> {
    if !matches!(verb, 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') {
        return None;
    }
    if value.is_nan() {
        return Some(if spec.plus { "+NaN".to_owned() } else { "NaN".to_owned() });
    }
    if value.is_infinite() {
        return Some(if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() });
    }
    let size = value.abs();
    let digits = match (verb, spec.precision) {
        ('f' | 'F', precision) => format!("{size:.*}", precision.unwrap_or(6)),
        ('e' | 'E', precision) => exponent(&format!("{size:.*e}", precision.unwrap_or(6))),
        (_, None) => number::short(size),
        (_, Some(precision)) => general(size, precision),
    };
    let digits = if verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
    Some(signed(spec, value.is_sign_negative(), digits))
}

/// Rust's exponent as Go writes it: a sign and two digits at least.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g` with so many significant digits, of a number that is not negative.
fn general(value: f64, precision: usize) -> String {
    let precision = precision.max(1);
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", precision - 1);
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if power < -4 || power >= precision as i32 {
        return exponent(&format!("{}e{power}", trimmed(digits)));
    }
    let decimals = usize::try_from(precision as i32 - 1 - power).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

/// `%.4g`, as Prometheus' functions write numbers.
pub(super) fn four_digits(value: f64) -> String {
    float_text(Spec { precision: Some(4), ..Spec::default() }, 'g', value).unwrap_or_default()
}
