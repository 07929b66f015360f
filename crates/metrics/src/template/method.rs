//! Methods that values have in templates, such as `.Labels.SortedPairs`, `.Alerts.Firing` and `.StartsAt.Format`.

use std::collections::BTreeMap;

use super::{
    calendar::{self, Moment},
    call::Param,
    value::{List, ListKind, Map, MapKind, Value},
};

/// Labels sorted by name, the alert's name first.
pub(super) fn sorted_pairs(map: &Map) -> Value {
    let named = map.entries.get_key_value("alertname");
    let others = map.entries.iter().filter(|entry| entry.0 != "alertname");
    let pairs = named.into_iter().chain(others).map(|(name, value)| {
        let name = Value::text(name.as_str());
        Value::record("template.Pair", vec![("Name", "Name", name), ("Value", "Value", value.clone())])
    });
    Value::list(ListKind::Pairs, pairs.collect())
}

fn column(list: &List, index: usize) -> Value {
    let values = list.items.iter().filter_map(|pair| match pair {
        Value::Record(record) => record.fields.get(index).map(|field| field.2.clone()),
        _ => None,
    });
    Value::list(ListKind::Strings, values.collect())
}

fn with_status(list: &List, status: &str) -> Value {
    let of = |alert: &&Value| match alert {
        Value::Record(record) => {
            record.fields.iter().any(|field| field.0 == "Status" && field.2.as_text() == Some(status))
        }
        _ => false,
    };
    Value::list(ListKind::Alerts, list.items.iter().filter(of).cloned().collect())
}

/// What a method takes, or `None` where the value has no such method.
pub(super) fn params(receiver: &Value, name: &str) -> Option<&'static [Param]> {
    const NONE: &[Param] = &[];
    Some(match (receiver, name) {
        (Value::Map(map), "SortedPairs" | "Names" | "Values" | "String") if map.kind == MapKind::Labels => NONE,
        (Value::Map(map), "Remove") if map.kind == MapKind::Labels => &[Param::Texts],
        (Value::List(list), "Names" | "Values" | "String") if list.kind == ListKind::Pairs => NONE,
        (Value::List(list), "Join") if list.kind == ListKind::Strings => &[Param::Text],
        (Value::List(list), "Firing" | "Resolved") if list.kind == ListKind::Alerts => NONE,
        (Value::Time(_), "Format") => &[Param::Text],
        (Value::Time(_), "Add") => &[Param::Duration],
        (Value::Time(_), "AddDate") => &[Param::Int, Param::Int, Param::Int],
        (Value::Time(_), "Sub" | "Equal" | "Before" | "After") => &[Param::Time],
        (Value::Time(_), "Truncate" | "Round") => &[Param::Duration],
        (
            Value::Time(_),
            "Unix" | "UnixMilli" | "UnixMicro" | "UnixNano" | "UTC" | "Local" | "String" | "Year" | "Month" | "Day"
            | "Hour" | "Minute" | "Second" | "Nanosecond" | "Weekday" | "YearDay" | "IsZero",
        ) => NONE,
        (
            Value::Duration(_),
            "String" | "Seconds" | "Minutes" | "Hours" | "Milliseconds" | "Microseconds" | "Nanoseconds" | "Abs",
        ) => NONE,
        (Value::Duration(_), "Round" | "Truncate") => &[Param::Duration],
        _ => return None,
    })
}

/// Calls a method whose arguments were checked against [`params`].
pub(super) fn call(receiver: &Value, name: &str, args: &[Value]) -> Result<Value, String> {
    match receiver {
        Value::Map(map) => Ok(of_labels(map, name, args)),
        Value::List(list) => Ok(match name {
            "Names" => column(list, 0),
            "Values" => column(list, 1),
            "Join" => {
                let separator = args.first().and_then(Value::as_text).unwrap_or_default();
                let texts: Vec<String> = list.items.iter().map(Value::printed).collect();
                Value::text(texts.join(separator))
            }
            "Firing" => with_status(list, "firing"),
            "Resolved" => with_status(list, "resolved"),
            _ => Value::text(receiver.printed()),
        }),
        Value::Time(time) => of_time(time, name, args),
        Value::Duration(nanos) => Ok(of_duration(*nanos, name, args)),
        _ => Err(format!("no method {name}")),
    }
}

fn of_labels(map: &Map, name: &str, args: &[Value]) -> Value {
    let pairs = sorted_pairs(map);
    match (&pairs, name) {
        (Value::List(list), "Names") => column(list, 0),
        (Value::List(list), "Values") => column(list, 1),
        (_, "Remove") => {
            let removed: Vec<&str> = match args.first() {
                Some(Value::List(list)) => list.items.iter().filter_map(Value::as_text).collect(),
                _ => Vec::new(),
            };
            let kept = map.entries.iter().filter(|entry| !removed.contains(&entry.0.as_str()));
            let kept: BTreeMap<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
            Value::map(MapKind::Labels, kept)
        }
        (_, "String") => Value::text(pairs.printed()),
        _ => pairs,
    }
}

fn of_time(time: &Moment, name: &str, args: &[Value]) -> Result<Value, String> {
    let other = || match args.first() {
        Some(Value::Time(other)) => Ok(other),
        _ => Err("no time".to_owned()),
    };
    let length = || match args.first() {
        Some(Value::Duration(nanos) | Value::Int(nanos)) => Ok(*nanos),
        _ => Err("no duration".to_owned()),
    };
    let number = |i: usize| match args.get(i) {
        Some(Value::Int(value)) => Ok(*value),
        _ => Err("no number".to_owned()),
    };
    let nanos = time.nanos();
    let fields = time.fields();
    Ok(match name {
        "Format" => Value::text(time.format(args.first().and_then(Value::as_text).unwrap_or_default())),
        "Add" => Value::Time(time.plus(length()?)),
        "AddDate" => Value::Time(time.plus_date(number(0)?, number(1)?, number(2)?)?),
        "Sub" => {
            let apart = nanos - other()?.nanos();
            Value::Duration(apart.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
        }
        "Equal" => Value::Bool(nanos == other()?.nanos()),
        "Before" => Value::Bool(nanos < other()?.nanos()),
        "After" => Value::Bool(nanos > other()?.nanos()),
        "Truncate" => Value::Time(time.rounded(length()?, false)),
        "Round" => Value::Time(time.rounded(length()?, true)),
        "Unix" => Value::Int(nanos.div_euclid(1_000_000_000) as i64),
        "UnixMilli" => Value::Int(nanos.div_euclid(1_000_000) as i64),
        "UnixMicro" => Value::Int(nanos.div_euclid(1000) as i64),
        "UnixNano" => Value::Int(nanos as i64),
        "UTC" | "Local" => Value::Time(time.utc()),
        "Year" => Value::Int(i64::from(fields.year())),
        "Month" => Value::text(calendar::MONTHS[fields.month() as usize - 1]),
        "Day" => Value::Int(i64::from(fields.day())),
        "Hour" => Value::Int(i64::from(fields.hour())),
        "Minute" => Value::Int(i64::from(fields.minute())),
        "Second" => Value::Int(i64::from(fields.second())),
        "Nanosecond" => Value::Int(i64::from(fields.subsec_nanosecond())),
        "Weekday" => Value::text(calendar::WEEKDAYS[fields.weekday().to_sunday_zero_offset() as usize]),
        "YearDay" => Value::Int(i64::from(fields.day_of_year())),
        "IsZero" => Value::Bool(time.is_zero()),
        _ => Value::text(time.to_string()),
    })
}

fn of_duration(nanos: i64, name: &str, args: &[Value]) -> Value {
    let unit = match args.first() {
        Some(Value::Duration(unit) | Value::Int(unit)) => *unit,
        _ => 0,
    };
    match name {
        "Seconds" => Value::Float(nanos as f64 / 1e9),
        "Minutes" => Value::Float(nanos as f64 / 6e10),
        "Hours" => Value::Float(nanos as f64 / 3.6e12),
        "Milliseconds" => Value::Int(nanos / 1_000_000),
        "Microseconds" => Value::Int(nanos / 1000),
        "Nanoseconds" => Value::Int(nanos),
        "Abs" => Value::Duration(nanos.saturating_abs()),
        "Truncate" if unit > 0 => Value::Duration(nanos - nanos % unit),
        "Round" if unit > 0 => {
            let rest = (nanos % unit).abs();
            let down = nanos - nanos % unit;
            let up = if nanos < 0 { down.saturating_sub(unit) } else { down.saturating_add(unit) };
            Value::Duration(if i128::from(rest) * 2 < i128::from(unit) { down } else { up })
        }
        "Truncate" | "Round" => Value::Duration(nanos),
        _ => Value::text(calendar::print_duration(nanos)),
    }
}
