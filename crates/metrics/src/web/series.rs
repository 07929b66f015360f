//! What series there are: their labels, names and values of labels.

use promql::matcher::Matcher;
use tsdb::{labels::quote, matcher};

use super::{
    Asked,
    form::Form,
    json,
    parameter::{self, MAX_TIME, MIN_TIME},
    query,
    reply::{Answer, Failure, Kind, Reply},
};

const TRUNCATED: &str = "results truncated due to limit";

/// A selector in the terms of the data base.
pub fn conditions(matchers: &[Matcher]) -> Vec<matcher::Matcher> {
    matchers.iter().map(promql::database::condition).collect()
}

/// Work that reads the data base, on a thread that may block.
async fn reading<T: Send + 'static>(
    asked: &Asked<'_>,
    read: impl FnOnce(&tsdb::Db) -> tsdb::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let storage = asked.metrics.storage().clone();
    match tokio::task::spawn_blocking(move || read(storage.db())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Failure::new(Kind::Execution, error.to_string())),
        Err(error) => Err(Failure::new(Kind::Internal, error.to_string())),
    }
}

fn texts(mut list: Vec<String>, limit: usize) -> Answer {
    let cut = limit > 0 && list.len() > limit;
    if cut {
        list.truncate(limit);
    }
    let data = query::list(Vec::new(), list, |out, item: String| json::text(out, &item), Vec::new());
    let reply = Reply { data, warnings: Vec::new(), infos: Vec::new() };
    Ok(if cut { reply.warn(TRUNCATED) } else { reply })
}

/// `/api/v1/labels`
pub async fn names(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = parameter::limit(form)?;
    let start = parameter::time_or(form, "start", MIN_TIME)?;
    let end = parameter::time_or(form, "end", MAX_TIME)?;
    let sets = parameter::selectors(form).map_err(Failure::bad)?;
    let found = reading(asked, move |db| merged(&sets, |matchers| db.label_names(matchers, start, end)));
    texts(found.await?, limit)
}

/// `/api/v1/label/NAME/values`
pub async fn values(asked: &Asked<'_>, form: &Form, name: &str) -> Answer {
    let name = if name.starts_with("U__") { unescaped(name) } else { name.to_owned() };
    if name.is_empty() {
        return Err(Failure::bad(format!("invalid label name: {}", quote(&name))));
    }
    let limit = parameter::limit(form)?;
    let start = parameter::time_or(form, "start", MIN_TIME)?;
    let end = parameter::time_or(form, "end", MAX_TIME)?;
    let sets = parameter::selectors(form).map_err(Failure::bad)?;
    let found = reading(asked, move |db| merged(&sets, |matchers| db.label_values(&name, matchers, start, end)));
    texts(found.await?, limit)
}

/// What any of the selectors finds, each once and sorted; everything without selectors.
fn merged(
    sets: &[Vec<Matcher>],
    find: impl Fn(&[matcher::Matcher]) -> tsdb::Result<Vec<String>>,
) -> tsdb::Result<Vec<String>> {
    let mut found = match sets {
        [] => return find(&[]),
        [one] => return find(&conditions(one)),
        several => {
            let mut found = Vec::new();
            for set in several {
                found.extend(find(&conditions(set))?);
            }
            found
        }
    };
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `/api/v1/series`
pub async fn series(asked: &Asked<'_>, form: &Form) -> Answer {
    form.checked().map_err(Failure::bad)?;
    if form.all("match[]").is_empty() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let limit = parameter::limit(form)?;
    let start = parameter::time_or(form, "start", MIN_TIME)?;
    let end = parameter::time_or(form, "end", MAX_TIME)?;
    let sets = parameter::selectors(form).map_err(|error| Failure::parameter("match[]", error))?;
    let mut found = reading(asked, move |db| {
        let mut found = Vec::new();
        for set in &sets {
            found.extend(db.series_labels(&conditions(set), start, end)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    })
    .await?;
    let cut = limit > 0 && found.len() > limit;
    if cut {
        found.truncate(limit);
    }
    let data = query::list(Vec::new(), found, |out, labels| json::labels(out, &labels), Vec::new());
    let reply = Reply { data, warnings: Vec::new(), infos: Vec::new() };
    Ok(if cut { reply.warn(TRUNCATED) } else { reply })
}

/// A name of a label as clients escape one that is not plain: `U__http_2e_status` for `http.status`.
fn unescaped(escaped: &str) -> String {
    let mut rest = &escaped[3..];
    let mut name = String::new();
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            name.push('_');
            rest = after;
            continue;
        }
        let Some((digits, after)) = rest.split_once('_') else { return escaped.to_owned() };
        let valid = !digits.is_empty() && digits.len() <= 6;
        let Some(c) = u32::from_str_radix(digits, 16).ok().filter(|_| valid).and_then(char::from_u32) else {
            return escaped.to_owned();
        };
        name.push(c);
        rest = after;
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_understood() {
        let cases = [
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U__plain", "plain"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_2e", "U__a_2e"),
            ("U___1F600_", "😀"),
        ];
        for (escaped, expected) in cases {
            assert_eq!(unescaped(escaped), expected);
        }
    }
}
