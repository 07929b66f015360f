//! Label selectors and names as matchers of PromQL: pure functions.

use api::selector::{Labels, Operator, Requirement};

/// A string of PromQL.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A pattern that matches any of the texts and nothing else.
pub fn any_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let escaped: Vec<String> = texts.into_iter().map(regex::escape).collect();
    quoted(&escaped.join("|"))
}

/// The matchers that a selector asks for. The error is one to show.
pub fn of_selector(text: &str) -> Result<Vec<String>, String> {
    Labels::parse(text)?.requirements().iter().map(one).collect()
}

fn one(requirement: &Requirement) -> Result<String, String> {
    let Requirement { key, operator, values } = requirement;
    if !tsdb::labels::is_plain_name(key) {
        return Err(format!("{key:?} is no label of a metric"));
    }
    let value = values.first().map(String::as_str).unwrap_or_default();
    let all = || any_of(values.iter().map(String::as_str));
    Ok(match operator {
        Operator::Equals | Operator::DoubleEquals => format!("{key}={}", quoted(value)),
        Operator::NotEquals => format!("{key}!={}", quoted(value)),
        Operator::In => format!("{key}=~{}", all()),
        Operator::NotIn => format!("{key}!~{}", all()),
        Operator::Exists => format!("{key}!=\"\""),
        Operator::DoesNotExist => format!("{key}=\"\""),
        Operator::GreaterThan | Operator::LessThan => return Err("metrics are not selected by > and <".to_owned()),
    })
}

/// What a metric may be called in the data base, in the order in which it is looked for, and whether it is a counter, whose
/// rate is the figure: `requests` is `requests` itself, else the rate of `requests_total`, as Prometheus' adapter has it.
pub fn series(metric: &str) -> Vec<(String, bool)> {
    let counter = metric.ends_with("_total");
    let mut all = vec![(metric.to_owned(), counter)];
    if !counter {
        all.push((format!("{metric}_total"), true));
        all.push((format!("{metric}_seconds_total"), true));
    }
    all
}

/// The label that names an object of a resource, which is `PLURAL` or `PLURAL.GROUP`, and its kind.
pub fn described(resource: &str) -> (String, String) {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let known =
        api::kinds::all().iter().find(|kind| kind.plural == plural && (group.is_empty() || kind.group == group));
    if let Some(kind) = known {
        return (kind.singular.to_owned(), kind.kind.to_owned());
    }
    let singular = match plural.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None if plural.ends_with("sses") || plural.ends_with("xes") => plural[..plural.len() - 2].to_owned(),
        None => plural.strip_suffix('s').unwrap_or(plural).to_owned(),
    };
    let mut letters = singular.chars();
    let kind = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    (singular, kind)
}
