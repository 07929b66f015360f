//! `info`: labels of info series, such as `target_info`, put on the series that they belong to.
//!
//! Info series belong to those with the same `instance` and `job`. Of several, the one with the newest sample counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use tsdb::labels::{Builder, Labels, NAME};

use super::{Collector, Evaluator, Result, failed};
use crate::{
    ast::{At, Call, Expr, Selector, Shift, Type},
    function::Id,
    matcher::{Comparison, Matcher},
    storage::Hints,
    value::{Matrix, Value},
};

const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// When the series that info is wanted of are looked at.
type Reference = (Option<At>, i64, bool);

/// The time and offset of an expression's selectors, and whether all have the same and nothing else gives series.
pub(super) fn reference(expr: &Expr) -> Reference {
    let mut found = Found { first: None, uniform: true, free: false };
    found.look(expr, &mut Vec::new());
    match found.first {
        Some((at, offset)) => (at, offset, found.uniform && !found.free),
        None => (None, 0, false),
    }
}

struct Found {
    first: Option<(Option<At>, i64)>,
    uniform: bool,
    free: bool,
}

impl Found {
    fn look<'e>(&mut self, expr: &'e Expr, path: &mut Vec<&'e Shift>) -> bool {
        if !matches!(expr.value_type(), Type::Vector | Type::Matrix) {
            return false;
        }
        let selector = match expr {
            Expr::Selector(selector) => Some(&**selector),
            Expr::Matrix(matrix) => Some(&matrix.selector),
            _ => None,
        };
        if let Some(selector) = selector {
            let (mut at, mut offset) = (selector.shift.at, selector.shift.offset);
            for outer in path.iter().rev() {
                if at.is_some() {
                    break;
                }
                offset += outer.offset;
                at = outer.at;
            }
            match &self.first {
                None => self.first = Some((at, offset)),
                Some(first) => self.uniform &= same(*first, (at, offset)),
            }
            return true;
        }
        let depth = path.len();
        if let Expr::Subquery(subquery) = expr {
            path.push(&subquery.shift);
        }
        let children = match expr {
            Expr::Call(call) if call.function.id == Id::Info => vec![&call.args[0]],
            other => other.children(),
        };
        let mut has_selector = false;
        for child in children {
            has_selector |= self.look(child, path);
        }
        path.truncate(depth);
        self.free |= !has_selector;
        has_selector
    }
}

fn same(a: (Option<At>, i64), b: (Option<At>, i64)) -> bool {
    match (a.0, b.0) {
        (Some(At::Time(x)), Some(At::Time(y))) => x - a.1 == y - b.1,
        _ => a == b,
    }
}

/// The conditions on the names of info series: without one that asks for a name, any that ends in `_info`.
fn name_conditions(named: &[Matcher]) -> Vec<Matcher> {
    if named.is_empty() {
        return vec![Matcher::equal(NAME, "target_info")];
    }
    let positive = |matcher: &Matcher| matches!(matcher.comparison, Comparison::Equal | Comparison::Matches);
    if named.iter().any(positive) {
        return named.to_vec();
    }
    let any = Matcher::new(NAME, Comparison::Matches, ".+_info");
    any.into_iter().chain(named.iter().cloned()).collect()
}

/// The labels by which an info series is found.
fn identity(labels: &Labels) -> Labels {
    labels.without(|name| !IDENTIFYING.contains(&name))
}

impl Evaluator<'_> {
    pub(super) fn info(&self, call: &Call) -> Result<Matrix> {
        let base = self.eval(&call.args[0])?;
        let (at, offset) = match reference(&call.args[0]) {
            (at, offset, true) => (at, offset),
            _ => (None, 0),
        };
        let mut conditions: BTreeMap<String, Vec<Matcher>> = BTreeMap::new();
        let mut named = Vec::new();
        if let Some(Expr::Selector(selector)) = call.args.get(1).map(Expr::unwrapped) {
            for matcher in &selector.matchers {
                if matcher.name == NAME {
                    named.push(matcher.clone());
                } else {
                    conditions.entry(matcher.name.clone()).or_default().push(matcher.clone());
                }
            }
        }
        let named = name_conditions(&named);
        // Series that are info series themselves stay as they are.
        let ignored: Vec<bool> =
            base.iter().map(|series| named.iter().all(|matcher| matcher.matches(series.labels.metric()))).collect();
        let shift = Shift { offset, at, ..Shift::default() };
        let infos = self.info_series(&base, &ignored, &conditions, &named, &shift)?;
        self.combine(&base, &ignored, &infos, &conditions)
    }

    /// The info series that may belong to some series, with the times of their samples as values.
    fn info_series(
        &self,
        base: &Matrix,
        ignored: &[bool],
        conditions: &BTreeMap<String, Vec<Matcher>>,
        named: &[Matcher],
        shift: &Shift,
    ) -> Result<Matrix> {
        // One selection for those with both labels, one for those with only one of them.
        let mut sets: BTreeMap<[bool; 2], [std::collections::BTreeSet<&str>; 2]> = BTreeMap::new();
        for (series, _) in base.iter().zip(ignored).filter(|(_, ignored)| !**ignored) {
            let values = IDENTIFYING.map(|name| series.labels.get(name));
            let present = values.map(|value| !value.is_empty());
            if present == [false, false] {
                continue;
            }
            let set = sets.entry(present).or_default();
            for (values, value) in set.iter_mut().zip(values).filter(|(_, value)| !value.is_empty()) {
                values.insert(value);
            }
        }
        let (start, end) = (self.shifted(shift, self.grid.start), self.shifted(shift, self.grid.last()));
        let start = start - (self.query.options.lookback - 1);
        let hints = Hints { start, end, step: self.grid.interval, function: "info", ..Hints::default() };
        let mut infos = Vec::new();
        for (present, values) in sets {
            let mut matchers = Vec::new();
            for ((name, present), values) in IDENTIFYING.iter().zip(present).zip(values) {
                if present {
                    let any = values.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
                    matchers.push(Matcher::new(name, Comparison::Matches, &any).map_err(failed)?);
                } else {
                    matchers.push(Matcher::equal(name, ""));
                }
            }
            matchers.extend(conditions.values().flatten().cloned());
            matchers.extend(named.iter().cloned());
            let selector = Selector { matchers, shift: shift.clone(), ..Selector::default() };
            self.sample_times(&selector, &hints, &mut |series| {
                infos.push(series);
                Ok(())
            })?;
        }
        Ok(infos)
    }

    fn combine(
        &self,
        base: &Matrix,
        ignored: &[bool],
        infos: &Matrix,
        conditions: &BTreeMap<String, Vec<Matcher>>,
    ) -> Result<Matrix> {
        let names: Vec<String> = {
            let mut seen = HashSet::new();
            infos.iter().map(|info| info.labels.metric()).filter(|name| seen.insert(*name)).map(str::to_owned).collect()
        };
        let info_identities: Vec<Labels> = infos.iter().map(|info| identity(&info.labels)).collect();
        let identities: Vec<Labels> = base.iter().map(|series| identity(&series.labels)).collect();
        let required = conditions.values().flatten().any(|matcher| !matcher.matches(""));
        let mut collector = Collector::new(self.grid);
        for step in 0..self.grid.steps {
            self.query.meter.check()?;
            if !base.iter().any(|series| series.has(step)) {
                continue;
            }
            let mut newest: HashMap<(&str, &Labels), usize> = HashMap::new();
            for (at, info) in infos.iter().enumerate() {
                let Some(Value::Float(time)) = info.at(step) else { continue };
                let key = (info.labels.metric(), &info_identities[at]);
                let Some(known) = newest.get_mut(&key) else {
                    newest.insert(key, at);
                    continue;
                };
                let other = infos[*known].floats[step];
                if other < time {
                    *known = at;
                } else if other == time {
                    return Err(failed(format!(
                        "found duplicate series for info metric: existing {} @ {other}, new {} @ {time}",
                        infos[*known].labels, info.labels
                    )));
                }
            }
            for (at, series) in base.iter().enumerate() {
                let Some(value) = series.at(step) else { continue };
                if ignored[at] {
                    collector.put(series.labels.clone(), series.drop_name, step, value)?;
                    continue;
                }
                let mut added = Builder::default();
                let mut found = false;
                for name in &names {
                    let Some(info) = newest.get(&(name.as_str(), &identities[at])) else { continue };
                    found = true;
                    for (name, value) in infos[*info].labels.iter().filter(|(name, _)| *name != NAME) {
                        if !conditions.is_empty() && !conditions.contains_key(name) {
                            continue;
                        }
                        let known = added.get(name);
                        if !known.is_empty() && known != value {
                            return Err(failed(format!("conflicting label: {name}")));
                        }
                        if !series.labels.has(name) {
                            added.set(name, value);
                        }
                    }
                }
                if !found && required {
                    continue;
                }
                let added = added.labels();
                let mut labels = Builder::new(&series.labels);
                for (name, value) in &added {
                    labels.set(name, value);
                }
                collector.put(labels.labels(), series.drop_name, step, value)?;
            }
        }
        collector.finish(true)
    }
}
