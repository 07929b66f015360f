//! Strings.

use super::{index_of, one, text_of};
use crate::{
    fault::{Outcome, throw},
    interpret::Strand,
    operator,
    pattern::Pattern,
    value::{Value, decimal::Decimal, show, text::Text},
};

pub(crate) fn call(strand: &mut Strand, own: &Text, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let text: &str = own;
    if let Some(value) = asked(text, name, arguments)? {
        return Ok(Some(value));
    }
    let result: String = match name {
        "trim" => text.trim_matches(|c: char| c <= ' ').into(),
        "strip" if arguments.is_empty() => text.trim().into(),
        "stripLeading" => text.trim_start().into(),
        "stripTrailing" => text.trim_end().into(),
        "toUpperCase" => text.to_uppercase(),
        "toLowerCase" => text.to_lowercase(),
        "capitalize" | "uncapitalize" => {
            let mut chars = text.chars();
            match chars.next() {
                Some(first) if name == "capitalize" => first.to_uppercase().chain(chars).collect(),
                Some(first) => first.to_lowercase().chain(chars).collect(),
                None => String::new(),
            }
        }
        "reverse" => text.chars().rev().collect(),
        "concat" | "plus" => {
            let other = strand.show(one(name, arguments, 0)?)?;
            format!("{text}{other}")
        }
        "minus" => text.replacen(&text_of(name, arguments, 0)?, "", 1),
        "repeat" | "multiply" => {
            return operator::arithmetic(strand, "*", &Value::Text(own.clone()), one(name, arguments, 0)?).map(Some);
        }
        "stripIndent" => strip_indent(text),
        "stripMargin" => {
            let margin = if arguments.is_empty() { "|".to_string() } else { text_of(name, arguments, 0)? };
            let lines = text.lines().map(|line| match line.trim_start().strip_prefix(margin.as_str()) {
                Some(rest) => rest,
                None => line,
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        "normalize" => text.replace("\r\n", "\n").replace('\r', "\n"),
        "denormalize" | "intern" | "toString" => text.into(),
        "take" => text.chars().take(index_of(name, arguments, 0)?).collect(),
        "drop" => text.chars().skip(index_of(name, arguments, 0)?).collect(),
        "takeRight" | "dropRight" => {
            let (count, wanted) = (text.chars().count(), index_of(name, arguments, 0)?);
            let left = count.saturating_sub(wanted);
            if name == "takeRight" { text.chars().skip(left).collect() } else { text.chars().take(left).collect() }
        }
        "substring" | "subSequence" => {
            let count = text.chars().count();
            let from = operator::to_long(one(name, arguments, 0)?)?;
            let to = arguments.get(1).map_or(Ok(count as i64), operator::to_long)?;
            if from < 0 || to > count as i64 || from > to {
                let at = if from < 0 || from > count as i64 { from } else { to };
                return Err(throw("StringIndexOutOfBoundsException", format!("String index out of range: {at}")));
            }
            text.chars().skip(from as usize).take((to - from) as usize).collect()
        }
        "padLeft" | "padRight" | "center" => return pad(strand, text, name, arguments).map(Some),
        "replace" if matches!(arguments.first(), Some(Value::Map(_))) => {
            let Some(Value::Map(map)) = arguments.first() else { return Ok(None) };
            let mut result = text.to_string();
            for (from, to) in map.entries() {
                result = bounded(strand, &result, &show::text(&from), &show::text(&to))?;
            }
            result
        }
        "replace" => bounded(strand, text, &text_of(name, arguments, 0)?, &text_of(name, arguments, 1)?)?,
        "replaceAll" | "replaceFirst" => {
            let pattern = strand.pattern(one(name, arguments, 0)?)?;
            let all = name == "replaceAll";
            match one(name, arguments, 1)? {
                closure @ Value::Closure(_) => replaced_by(strand, &pattern, text, closure, all)?,
                other => replaced(strand, &pattern, text, &show::text(other), all)?,
            }
        }
        "tr" => {
            let (from, to) = (spread(&text_of(name, arguments, 0)?), spread(&text_of(name, arguments, 1)?));
            let translate = |c: char| match from.iter().position(|other| *other == c) {
                Some(at) => to.get(at).or(to.last()).copied().unwrap_or(c),
                None => c,
            };
            text.chars().map(translate).collect()
        }
        "format" | "formatted" => {
            let mut all = vec![Value::Text(own.clone())];
            all.extend_from_slice(arguments);
            format(strand, &all)?
        }
        "encodeBase64" => base64(text.as_bytes()),
        _ => return listed(strand, own, name, arguments),
    };
    strand.text(result).map(Some)
}

/// Questions with an answer that is no new string.
fn asked(text: &str, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let at = |byte: Option<usize>| byte.map_or(Value::Int(-1), |byte| Value::count(text[..byte].chars().count()));
    Ok(Some(match name {
        "length" | "size" => Value::count(text.chars().count()),
        "isEmpty" => Value::Bool(text.is_empty()),
        "isBlank" | "isAllWhitespace" => Value::Bool(text.trim().is_empty()),
        "contains" => Value::Bool(text.contains(&text_of(name, arguments, 0)?)),
        "startsWith" => Value::Bool(text.starts_with(&text_of(name, arguments, 0)?)),
        "endsWith" => Value::Bool(text.ends_with(&text_of(name, arguments, 0)?)),
        "equalsIgnoreCase" => {
            Value::Bool(arguments.first().is_some_and(|other| show::text(other).to_lowercase() == text.to_lowercase()))
        }
        "compareToIgnoreCase" => {
            Value::Int(text.to_lowercase().cmp(&text_of(name, arguments, 0)?.to_lowercase()) as i32)
        }
        "indexOf" => {
            let from = arguments.get(1).map_or(Ok(0), operator::to_index)?;
            let start = text.char_indices().nth(from).map_or(text.len(), |(byte, _)| byte);
            at(text[start..].find(&text_of(name, arguments, 0)?).map(|byte| start + byte))
        }
        "lastIndexOf" => at(text.rfind(&text_of(name, arguments, 0)?)),
        "charAt" | "codePointAt" => {
            let index = index_of(name, arguments, 0)?;
            let Some(c) = text.chars().nth(index) else {
                return Err(throw("StringIndexOutOfBoundsException", format!("String index out of range: {index}")));
            };
            if name == "charAt" { Value::from(c.to_string()) } else { Value::Int(u32::from(c) as i32) }
        }
        "matches" if !matches!(arguments.first(), Some(Value::Pattern(_))) => {
            Value::Bool(Pattern::new(&text_of(name, arguments, 0)?)?.fits(text)?)
        }
        "isInteger" => Value::Bool(text.trim().parse::<i32>().is_ok()),
        "isLong" => Value::Bool(text.trim().parse::<i64>().is_ok()),
        "isNumber" | "isBigDecimal" => Value::Bool(Decimal::parse(text.trim()).is_some()),
        "isBigInteger" => Value::Bool(Decimal::parse(text.trim()).is_some_and(|value| value.scale() == 0)),
        "isDouble" | "isFloat" => Value::Bool(text.trim().parse::<f64>().is_ok()),
        "toInteger" => match text.trim().parse::<i32>() {
            Ok(value) => Value::Int(value),
            Err(_) => return Err(throw("NumberFormatException", format!("For input string: \"{}\"", text.trim()))),
        },
        "toLong" => operator::convert(&Value::from(format!("{text} ")), "Long")?,
        "toDouble" | "toFloat" => operator::convert(&Value::from(text), "Double")?,
        "toBigDecimal" => operator::convert(&Value::from(text), "BigDecimal")?,
        "toBigInteger" => operator::convert(&Value::from(text), "BigInteger")?,
        "toBoolean" => Value::Bool(matches!(text.trim().to_lowercase().as_str(), "true" | "y" | "1")),
        "count" => {
            let part = text_of(name, arguments, 0)?;
            Value::count(if part.is_empty() { 0 } else { text.matches(&part).count() })
        }
        _ => return Ok(None),
    }))
}

/// Methods that give lists, and those of lists, which take a string as its letters.
fn listed(strand: &mut Strand, own: &Text, name: &str, arguments: &[Value]) -> Outcome<Option<Value>> {
    let text: &str = own;
    let texts = |items: Vec<&str>| Value::from(items.into_iter().map(Value::from).collect::<Vec<_>>());
    Ok(Some(match name {
        "split" if arguments.is_empty() => texts(text.split_whitespace().collect()),
        "split" => {
            let pattern = strand.pattern(&arguments[0])?;
            let mut parts = split(strand, &pattern, text)?;
            if let Some(limit) = arguments.get(1) {
                let limit = operator::to_long(limit)?;
                if limit > 0 {
                    parts = split_at_most(&pattern, text, limit as usize)?;
                }
            }
            Value::from(parts)
        }
        "tokenize" => {
            let marks = if arguments.is_empty() { " \t\n\r\u{c}".to_string() } else { text_of(name, arguments, 0)? };
            let parts: Vec<&str> = text.split(|c| marks.contains(c)).filter(|part| !part.is_empty()).collect();
            strand.fits(parts.len())?;
            texts(parts)
        }
        "readLines" => {
            let lines: Vec<&str> = text.lines().collect();
            strand.fits(lines.len())?;
            texts(lines)
        }
        "eachLine" => {
            let closure = one(name, arguments, arguments.len().saturating_sub(1))?;
            let mut last = Value::Null;
            for (index, line) in text.lines().enumerate() {
                let mut given = vec![Value::from(line)];
                if matches!(closure, Value::Closure(closure) if closure.parameters() > 1) {
                    given.push(Value::count(index));
                }
                last = strand.call_value(closure, given)?;
            }
            last
        }
        "toList" | "toCharArray" | "getChars" | "toSet" | "chars" => {
            let letters = strand.items(&Value::Text(own.clone()))?;
            Value::from(letters)
        }
        "bytes" | "getBytes" => {
            strand.fits(text.len())?;
            Value::from(text.bytes().map(|byte| Value::Int(i32::from(byte as i8))).collect::<Vec<_>>())
        }
        "decodeBase64" => match unbase64(text) {
            // Bytes of text are text: what pipelines make of them.
            Some(bytes) => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
            None => return Err(throw("IllegalArgumentException", "bad character in base64 value")),
        },
        "findAll" if arguments.first().is_some_and(|first| !matches!(first, Value::Closure(_))) => {
            let pattern = strand.pattern(&arguments[0])?;
            let mut found = Vec::new();
            for groups in pattern.find_all(text, strand.limits().elements)? {
                strand.tick()?;
                let parts = parts(text, &groups);
                found.push(match arguments.get(1) {
                    Some(closure) => strand.call_value(closure, parts)?,
                    None => parts.into_iter().next().unwrap_or_default(),
                });
            }
            Value::from(found)
        }
        "find" if arguments.first().is_some_and(|first| !matches!(first, Value::Closure(_))) => {
            let pattern = strand.pattern(&arguments[0])?;
            match pattern.find(text, 0)? {
                Some(groups) => match arguments.get(1) {
                    Some(closure) => strand.call_value(closure, parts(text, &groups))?,
                    None => parts(text, &groups).into_iter().next().unwrap_or_default(),
                },
                None => Value::Null,
            }
        }
        "matches" => Value::Bool(strand.pattern(one(name, arguments, 0)?)?.fits(text)?),
        "execute" => return Err(throw("RejectedAccessException", "a pipeline runs processes by steps: sh")),
        "each" | "eachWithIndex" | "collect" | "any" | "every" | "findAll" | "find" | "inject" | "findIndexOf" => {
            let letters = Value::from(strand.items(&Value::Text(own.clone()))?);
            return super::call(strand, &letters, name, arguments);
        }
        "center" => return Ok(None),
        _ => return Ok(None),
    }))
}

fn parts(text: &str, groups: &[Option<(usize, usize)>]) -> Vec<Value> {
    let part = |place: &Option<(usize, usize)>| match place {
        Some((start, end)) => Value::from(&text[*start..*end]),
        None => Value::Null,
    };
    groups.iter().map(part).collect()
}

fn bounded(strand: &mut Strand, text: &str, from: &str, to: &str) -> Outcome<String> {
    let most = if from.is_empty() { text.chars().count() + 1 } else { text.len() / from.len() };
    if most.saturating_mul(to.len()) > strand.limits().text {
        let count = if from.is_empty() { most } else { text.matches(from).count() };
        if text.len().saturating_add(count.saturating_mul(to.len())) > strand.limits().text {
            strand.text(" ".repeat(strand.limits().text + 1))?;
        }
    }
    Ok(text.replace(from, to))
}

fn pad(strand: &mut Strand, text: &str, name: &str, arguments: &[Value]) -> Outcome {
    let width = index_of(name, arguments, 0)?;
    let fill = if arguments.len() > 1 { text_of(name, arguments, 1)? } else { " ".to_string() };
    let missing = width.saturating_sub(text.chars().count());
    if missing > strand.limits().text || fill.is_empty() {
        return strand.text(" ".repeat(strand.limits().text + 1));
    }
    let left = match name {
        "padLeft" => missing,
        "padRight" => 0,
        _ => missing / 2,
    };
    let run = |count: usize| fill.chars().cycle().take(count).collect::<String>();
    strand.text(format!("{}{text}{}", run(left), run(missing - left)))
}

fn strip_indent(text: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let least = text.lines().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let lines = text.lines().map(|line| line.get(least..).unwrap_or_else(|| line.trim_start()));
    let mut out = lines.collect::<Vec<_>>().join("\n");
    if text.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// `a-c` as its letters.
fn spread(text: &str) -> Vec<char> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if at + 2 < chars.len() && chars[at + 1] == '-' && chars[at] <= chars[at + 2] {
            out.extend((chars[at]..=chars[at + 2]).take(0x11_0000));
            at += 3;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Parts between places where a pattern fits; empty ones at the end are left out.
pub(crate) fn split(strand: &mut Strand, pattern: &Pattern, text: &str) -> Outcome<Vec<Value>> {
    let places = pattern.find_all(text, strand.limits().elements)?;
    let mut parts = Vec::new();
    let mut from = 0;
    for groups in places {
        let Some((start, end)) = groups[0] else { continue };
        // Nothing is split off before the text, nor after it.
        if end == 0 || start == end && start >= text.len() {
            continue;
        }
        parts.push(&text[from..start]);
        from = end;
    }
    parts.push(&text[from..]);
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_at_most(pattern: &Pattern, text: &str, limit: usize) -> Outcome<Vec<Value>> {
    let mut parts = Vec::new();
    let mut from = 0;
    for groups in pattern.find_all(text, limit)? {
        let Some((start, end)) = groups[0] else { continue };
        if end == 0 || parts.len() + 1 == limit {
            continue;
        }
        parts.push(Value::from(&text[from..start]));
        from = end;
    }
    parts.push(Value::from(&text[from..]));
    Ok(parts)
}

/// With `$1` and `${name}` in the replacement meaning groups.
pub(crate) fn replaced(
    strand: &mut Strand,
    pattern: &Pattern,
    text: &str,
    replacement: &str,
    all: bool,
) -> Outcome<String> {
    let most = if all { strand.limits().elements } else { 1 };
    let mut out = String::new();
    let mut from = 0;
    for groups in pattern.find_all(text, most)? {
        strand.tick()?;
        let Some((start, end)) = groups[0] else { continue };
        out.push_str(&text[from..start]);
        expand(pattern, text, &groups, replacement, &mut out)?;
        from = end;
        if out.len() > strand.limits().text {
            strand.text(std::mem::take(&mut out))?;
        }
    }
    out.push_str(&text[from..]);
    Ok(out)
}

fn expand(
    pattern: &Pattern,
    text: &str,
    groups: &[Option<(usize, usize)>],
    replacement: &str,
    out: &mut String,
) -> Outcome<()> {
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            '$' => {
                let mut group = None;
                if chars.peek() == Some(&'{') {
                    chars.next();
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    group = pattern.group(&name);
                } else {
                    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                        let next = group.unwrap_or(0) * 10 + digit as usize;
                        if group.is_some() && next >= groups.len() {
                            break;
                        }
                        group = Some(next);
                        chars.next();
                    }
                }
                let Some(place) = group.and_then(|group| groups.get(group)) else {
                    return Err(throw(
                        "IllegalArgumentException",
                        "Illegal group reference in a replacement; write \\$ for a dollar",
                    ));
                };
                if let Some((start, end)) = place {
                    out.push_str(&text[*start..*end]);
                }
            }
            c => out.push(c),
        }
    }
    Ok(())
}

fn replaced_by(strand: &mut Strand, pattern: &Pattern, text: &str, closure: &Value, all: bool) -> Outcome<String> {
    let most = if all { strand.limits().elements } else { 1 };
    let wants = match closure {
        Value::Closure(closure) => closure.parameters(),
        _ => 1,
    };
    let mut out = String::new();
    let mut from = 0;
    for groups in pattern.find_all(text, most)? {
        let Some((start, end)) = groups[0] else { continue };
        let mut given = parts(text, &groups);
        if wants == 1 && given.len() > 1 {
            // One parameter gets all groups as a list.
            given = vec![Value::from(given)];
        }
        let value = strand.call_value(closure, given)?;
        out.push_str(&text[from..start]);
        out.push_str(&strand.show(&value)?);
        from = end;
        if out.len() > strand.limits().text {
            strand.text(std::mem::take(&mut out))?;
        }
    }
    out.push_str(&text[from..]);
    Ok(out)
}

/// `String.format`: `%s %d %x %f %c %b %n %%` with flags, width and precision.
pub(crate) fn format(strand: &mut Strand, arguments: &[Value]) -> Outcome<String> {
    let pattern = text_of("format", arguments, 0)?;
    let mut values: Vec<Value> = arguments[1..].to_vec();
    if let [Value::List(list)] = values.as_slice() {
        values = list.items();
    }
    let mut next = 0;
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = chars.peek().filter(|c| "-#+ 0,(.$".contains(**c) || c.is_ascii_digit()) {
            spec.push(*c);
            chars.next();
        }
        let Some(kind) = chars.next() else { return Err(throw("IllegalArgumentException", "a format ends after '%'")) };
        match kind {
            '%' => out.push('%'),
            'n' => out.push('\n'),
            kind => {
                let mut flags = spec.as_str();
                let mut index = next;
                if let Some((position, rest)) = flags.split_once('$') {
                    index = position.parse::<usize>().unwrap_or(1).saturating_sub(1);
                    flags = rest;
                } else {
                    next += 1;
                }
                let Some(value) = values.get(index) else {
                    return Err(throw(
                        "IllegalArgumentException",
                        format!("Format specifier '%{spec}{kind}' has no argument"),
                    ));
                };
                let text = formatted(strand, kind, flags, value)?;
                out.push_str(&text);
            }
        }
        if out.len() > strand.limits().text {
            strand.text(std::mem::take(&mut out))?;
        }
    }
    Ok(out)
}

fn formatted(strand: &mut Strand, kind: char, spec: &str, value: &Value) -> Outcome<String> {
    let (flags, rest) =
        spec.split_at(spec.find(|c: char| c.is_ascii_digit() && c != '0' || c == '.').unwrap_or(spec.len()));
    let (width, precision) = match rest.split_once('.') {
        Some((width, precision)) => (width, precision.parse::<usize>().ok()),
        None => (rest, None),
    };
    let width: usize = width.parse().unwrap_or(0);
    if width > 10_000 || precision.is_some_and(|precision| precision > 300) {
        return Err(throw("IllegalArgumentException", "a width of a format is at most 10000, a precision 300"));
    }
    let mut text = match kind {
        's' | 'S' => {
            let text = strand.show(value)?;
            match precision {
                Some(precision) => text.chars().take(precision).collect(),
                None => text,
            }
        }
        'd' => match value {
            Value::Int(_) | Value::Long(_) | Value::Decimal(_) => show::text(value),
            other => {
                return Err(throw(
                    "IllegalArgumentException",
                    format!("d != {}", crate::fault::full_name(&other.class_name())),
                ));
            }
        },
        'x' => format!("{:x}", operator::to_long(value)?),
        'X' => format!("{:X}", operator::to_long(value)?),
        'o' => format!("{:o}", operator::to_long(value)?),
        'c' => show::text(&operator::convert(value, "char")?),
        'b' | 'B' => strand.truth(value)?.to_string(),
        'f' => match operator::to_double(value) {
            Some(number) => format!("{number:.*}", precision.unwrap_or(6)),
            None => return Err(throw("IllegalArgumentException", "%f needs a number with decimals")),
        },
        other => return Err(throw("IllegalArgumentException", format!("Unknown format conversion '{other}'"))),
    };
    if flags.contains(',') {
        text = grouped(&text);
    }
    if flags.contains('+') && !text.starts_with('-') {
        text.insert(0, '+');
    }
    let missing = width.saturating_sub(text.chars().count());
    if flags.contains('-') {
        text.push_str(&" ".repeat(missing));
    } else if flags.contains('0') {
        let at = usize::from(text.starts_with(['-', '+']));
        text.insert_str(at, &"0".repeat(missing));
    } else {
        text.insert_str(0, &" ".repeat(missing));
    }
    Ok(if kind.is_uppercase() { text.to_uppercase() } else { text })
}

fn grouped(text: &str) -> String {
    let (sign, digits) = text.split_at(usize::from(text.starts_with('-')));
    let (whole, part) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = String::new();
    for (index, c) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    format!("{sign}{out}{part}")
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0u32, |word, (index, byte)| word | u32::from(*byte) << (16 - 8 * index));
        for index in 0..4 {
            let letter = if index <= chunk.len() { BASE64[(word >> (18 - 6 * index)) as usize & 63] } else { b'=' };
            out.push(letter as char);
        }
    }
    out
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut word, mut bits) = (0u32, 0u32);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = BASE64.iter().position(|letter| *letter == byte)? as u32;
        word = (word << 6 | value) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}
