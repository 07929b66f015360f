//! Functions that look at labels: `label_replace`, `label_join`, `sort_by_label`.

use std::cmp::Ordering;

use tsdb::labels::{Builder, NAME};

use super::{Evaluator, Result, failed, merge_same};
use crate::{
    ast::{Call, Expr},
    pattern,
    value::Matrix,
};

/// The string that an argument is.
pub(super) fn text(arg: &Expr) -> Result<String> {
    match arg.unwrapped() {
        Expr::Text(text) => Ok(text.value.clone()),
        _ => Err(failed("expected a string literal")),
    }
}

/// Whether an argument's string may name a label.
fn is_label(name: &str, arg: &Expr) -> bool {
    !name.is_empty() && !matches!(arg.unwrapped(), Expr::Text(text) if text.bytes.is_some())
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&self, call: &Call) -> Result<Matrix> {
        let [vector, rest @ ..] = call.args.as_slice() else { return Ok(Vec::new()) };
        let texts = rest.iter().map(text).collect::<Result<Vec<_>>>()?;
        let [target, replacement, source, expression] = texts.as_slice() else { return Ok(Vec::new()) };
        let Ok(regex) = pattern::engine(expression) else {
            return Err(failed(format!("invalid regular expression in label_replace(): {expression}")));
        };
        if !is_label(target, &rest[0]) {
            return Err(failed(format!("invalid destination label name in label_replace(): {target}")));
        }
        let mut matrix = self.eval(vector)?;
        for series in &mut matrix {
            let Some(found) = regex.captures(series.labels.get(source)) else { continue };
            let mut value = String::new();
            found.expand(replacement, &mut value);
            let labels = Builder::new(&series.labels).set(target, &value).labels();
            drop(found);
            series.labels = labels;
            series.drop_name &= target != NAME;
        }
        merge_same(matrix)
    }

    pub(super) fn label_join(&self, call: &Call) -> Result<Matrix> {
        let [vector, rest @ ..] = call.args.as_slice() else { return Ok(Vec::new()) };
        let texts = rest.iter().map(text).collect::<Result<Vec<_>>>()?;
        let [target, separator, sources @ ..] = texts.as_slice() else { return Ok(Vec::new()) };
        if let Some((source, _)) = sources.iter().zip(&rest[2..]).find(|(source, arg)| !is_label(source, arg)) {
            return Err(failed(format!("invalid source label name in label_join(): {source}")));
        }
        if !is_label(target, &rest[0]) {
            return Err(failed(format!("invalid destination label name in label_join(): {target}")));
        }
        let mut matrix = self.eval(vector)?;
        for series in &mut matrix {
            let values: Vec<_> = sources.iter().map(|source| series.labels.get(source)).collect();
            series.labels = Builder::new(&series.labels).set(target, &values.join(separator)).labels();
            series.drop_name &= target != NAME;
        }
        merge_same(matrix)
    }
}

/// Sorts by the values of labels as people would, then by all labels.
pub(super) fn sort(matrix: &mut Matrix, names: &[String], descending: bool) {
    matrix.sort_by(|a, b| {
        let by_names = names.iter().map(|name| {
            let (a, b) = (a.labels.get(name), b.labels.get(name));
            match a == b {
                true => Ordering::Equal,
                false if comes_first(a, b) => Ordering::Less,
                false => Ordering::Greater,
            }
        });
        let order = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    });
}

/// Runs of digits, and runs of anything else.
fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        chunks.push(&rest[..end]);
        rest = &rest[end..];
    }
    chunks
}

/// Whether `a` comes before `b` where runs of digits count as numbers.
fn comes_first(a: &str, b: &str) -> bool {
    let (a, b) = (chunks(a), chunks(b));
    for (i, left) in a.iter().enumerate() {
        let Some(right) = b.get(i) else { return false };
        let same = match (left.parse::<i64>(), right.parse::<i64>()) {
            (Ok(left), Ok(right)) if left != right => return left < right,
            (Ok(_), Ok(_)) => true,
            _ if left != right => return left < right,
            _ => true,
        };
        if same && i + 1 == a.len() {
            return true;
        }
        if same && i + 1 == b.len() {
            return false;
        }
    }
    false
}
