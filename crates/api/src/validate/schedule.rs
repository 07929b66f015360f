//! When a CronJob runs: five fields as in crontab, or a name such as `@daily`. Only whether it can be read is told here.
//!
//! Faults are worded as those of github.com/robfig/cron, which upstream reads schedules with.

/// A field: its name, least and greatest number, and names for numbers.
struct Field {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: MONTHS },
    Field { least: 0, most: 6, names: DAYS },
];

/// What is wrong with a schedule, if anything.
pub fn fault(schedule: &str) -> Option<String> {
    let mut text = schedule;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        let Some((zone, rest)) = text.split_once(' ') else {
            return Some(format!("failed to parse schedule {schedule}: no space after the time zone"));
        };
        let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        if zone.contains("..") {
            return Some(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        text = rest.trim();
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let count = fields.len();
        return Some(format!("expected exactly {} fields, found {count}: [{}]", FIELDS.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).find_map(|(text, field)| {
        text.split(',').filter(|part| !part.is_empty()).find_map(|part| range(part, field).err())
    })
}

fn descriptor(text: &str) -> Option<String> {
    match text {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => None,
        _ => match text.strip_prefix("@every ") {
            Some(duration) if is_duration(duration) => None,
            Some(duration) => {
                let quoted = crate::status::quote(duration);
                Some(format!("failed to parse duration {text}: time: invalid duration {quoted}"))
            }
            None => Some(format!("unrecognized descriptor: {text}")),
        },
    }
}

fn range(text: &str, field: &Field) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let bounds: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(bounds[0], "*" | "?") {
        (field.least, field.most)
    } else {
        let start = number(bounds[0], field)?;
        match bounds.len() {
            1 => (start, start),
            2 => (start, number(bounds[1], field)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.len() {
        1 => 1,
        2 => {
            let step = plain_number(parts[1])?;
            if bounds.len() == 1 {
                end = field.most;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < field.least {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", field.least));
    }
    if end > field.most {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", field.most));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number(text: &str, field: &Field) -> Result<u64, String> {
    let lower = text.to_lowercase();
    if let Some(position) = field.names.iter().position(|name| *name == lower) {
        return Ok(field.least + position as u64);
    }
    plain_number(text)
}

fn plain_number(text: &str) -> Result<u64, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(number.unsigned_abs()),
        Err(_) => {
            let quoted = crate::status::quote(text);
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))
        }
    }
}

/// Whether it is a duration as Go writes it: `1h30m`.
pub fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        if digits == 0 || rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        rest = &rest[digits..];
        let letters = rest.char_indices().find(|(_, letter)| letter.is_ascii_digit() || *letter == '.');
        let (unit, after) = rest.split_at(letters.map_or(rest.len(), |(position, _)| position));
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{fault, is_duration};

    #[test]
    fn schedules() {
        for (schedule, expected) in [
            ("* * * * *", ""),
            ("*/5 0-4,8 1,15 jan-MAR ?", ""),
            ("0 0 1/2 * sun", ""),
            ("@daily", ""),
            ("@every 1h30m", ""),
            ("TZ=UTC 0 * * * *", ""),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("a * * * *", r#"failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax"#),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", r#"failed to parse duration @every x: time: invalid duration "x""#),
        ] {
            assert_eq!(fault(schedule).unwrap_or_default(), expected, "{schedule}");
        }
    }

    #[test]
    fn durations() {
        for (text, fine) in [("1h", true), ("1.5s", true), ("0", true), ("", false), ("5", false), ("1d", false)] {
            assert_eq!(is_duration(text), fine, "{text}");
        }
    }
}
