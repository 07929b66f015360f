//! Operators on vectors: which series belong together, and what comes out.
//!
//! Series that belong together have the same signature: the labels that `on` names, or all but those that `ignoring`
//! names. Signatures are numbered once; each step then looks up places in a list.

use std::collections::{HashMap, HashSet};

use tsdb::labels::{Builder, Labels, NAME, TYPE, UNIT};

use super::{
    Collector, Evaluator, Result,
    element::{arithmetic, changes_meaning, holds},
    failed,
};
use crate::{
    ast::{Binary, Cardinality, Matching, Type},
    lex::Op,
    value::{Matrix, Series, Value},
};

/// The labels that series which belong together have in common.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let named = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on { labels.without(|name| !named(name)) } else { labels.without(|name| name == NAME || named(name)) }
}

/// The series of both sides with the numbers of their signatures.
struct Sides {
    left: Matrix,
    right: Matrix,
    left_signatures: Vec<usize>,
    right_signatures: Vec<usize>,
    count: usize,
}

impl Sides {
    fn new(left: Matrix, right: Matrix, matching: &Matching) -> Self {
        let mut numbers: HashMap<Labels, usize> = HashMap::new();
        let mut number = |matrix: &Matrix| -> Vec<usize> {
            let signatures = matrix.iter().map(|series| signature(&series.labels, matching));
            signatures
                .map(|signature| {
                    let next = numbers.len();
                    *numbers.entry(signature).or_insert(next)
                })
                .collect()
        };
        let (left_signatures, right_signatures) = (number(&left), number(&right));
        Self { left_signatures, right_signatures, count: numbers.len(), left, right }
    }

    fn weight(&self) -> usize {
        self.left.iter().chain(&self.right).map(Series::weight).sum()
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &Binary) -> Result<Matrix> {
        match (binary.left.value_type(), binary.right.value_type()) {
            (Type::Scalar, Type::Scalar) => {
                let (left, right) = (self.scalar(&binary.left)?, self.scalar(&binary.right)?);
                let mut series = Series::constant(0.0, self.grid.steps);
                for ((value, a), b) in series.floats.iter_mut().zip(left).zip(right) {
                    let compared = f64::from(u8::from(holds(binary.op, a, b)));
                    *value = arithmetic(binary.op, a, b).unwrap_or(compared);
                }
                Ok(vec![series])
            }
            (Type::Scalar, _) => self.with_scalar(binary, true),
            (_, Type::Scalar) => self.with_scalar(binary, false),
            _ => {
                let left = self.eval(&binary.left)?;
                let held = left.iter().map(Series::weight).sum();
                self.query.meter.hold(held)?;
                let right = self.eval(&binary.right)?;
                self.query.meter.release(held);
                let unmatched = Matching::default();
                let matching = binary.matching.as_ref().unwrap_or(&unmatched);
                let sides = Sides::new(left, right, matching);
                let weight = sides.weight();
                self.query.meter.hold(weight)?;
                let matrix = if binary.op.is_set() {
                    self.sets(binary.op, &sides)
                } else {
                    self.matched(binary, matching, sides)
                };
                self.query.meter.release(weight);
                matrix
            }
        }
    }

    fn with_scalar(&self, binary: &Binary, scalar_left: bool) -> Result<Matrix> {
        let op = binary.op;
        let (scalar, vector) = if scalar_left { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
        let scalars = self.scalar(scalar)?;
        let place = binary.left.place().to(binary.right.place());
        let drops = changes_meaning(op) || binary.returns_bool;
        let mut matrix = Vec::new();
        self.each(vector, &mut |mut series| {
            let mut out = Series::new(series.labels.clone(), series.drop_name, self.grid.steps);
            if series.histograms.is_empty() && (op.compares() || arithmetic(op, 0.0, 0.0).is_some()) {
                // Floats alone, by far the most common.
                for ((out, value), scalar) in out.floats.iter_mut().zip(&series.floats).zip(&scalars) {
                    if tsdb::sample::is_stale(*value) {
                        continue;
                    }
                    let (a, b) = if scalar_left { (*scalar, *value) } else { (*value, *scalar) };
                    if let Some(result) = arithmetic(op, a, b) {
                        *out = result;
                    } else if binary.returns_bool {
                        *out = f64::from(u8::from(holds(op, a, b)));
                    } else if holds(op, a, b) {
                        *out = *value;
                    }
                }
            } else {
                for (step, scalar) in scalars.iter().enumerate() {
                    let Some(value) = series.at(step) else { continue };
                    let scalar = Value::Float(*scalar);
                    let (a, b) = if scalar_left { (&scalar, &value) } else { (&value, &scalar) };
                    let Some(made) = self.element(op, a, b, place) else { continue };
                    if binary.returns_bool {
                        out.floats[step] = f64::from(u8::from(made.keep));
                    } else if made.keep {
                        out.set(step, if op.compares() { value } else { made.value });
                    }
                }
            }
            if out.is_empty() {
                return Ok(());
            }
            series.floats.clear();
            if drops {
                self.drop_name(&mut out);
            }
            matrix.push(out);
            Ok(())
        })?;
        if self.delayed() || !drops {
            return Ok(matrix);
        }
        super::instant::distinct(&matrix)?;
        Ok(matrix)
    }

    fn sets(&self, op: Op, sides: &Sides) -> Result<Matrix> {
        let Sides { left, right, left_signatures, right_signatures, count } = sides;
        let mut collector = Collector::new(self.grid);
        let mut places: Vec<Option<usize>> = vec![None; left.len() + right.len()];
        let mut put = |collector: &mut Collector, at: usize, series: &Series, step: usize, value: Value| {
            let place = *places[at].get_or_insert_with(|| collector.place(series.labels.clone(), series.drop_name));
            collector.set(place, step, value)
        };
        for step in 0..self.grid.steps {
            if step % 1024 == 1023 {
                self.query.meter.check()?;
            }
            let mut present = vec![false; *count];
            let (from, signatures) = if op == Op::Or { (left, left_signatures) } else { (right, right_signatures) };
            for (series, signature) in from.iter().zip(signatures) {
                present[*signature] |= series.has(step);
            }
            for (at, (series, signature)) in left.iter().zip(left_signatures).enumerate() {
                let keep = match op {
                    Op::And => present[*signature],
                    Op::Unless => !present[*signature],
                    _ => true,
                };
                if keep && let Some(value) = series.at(step) {
                    put(&mut collector, at, series, step, value)?;
                }
            }
            if op == Op::Or {
                for (at, (series, signature)) in right.iter().zip(right_signatures).enumerate() {
                    if !present[*signature]
                        && let Some(value) = series.at(step)
                    {
                        put(&mut collector, left.len() + at, series, step, value)?;
                    }
                }
            }
        }
        collector.finish(self.delayed())
    }

    /// Arithmetic and comparisons between series that belong together.
    fn matched(&self, binary: &Binary, matching: &Matching, sides: Sides) -> Result<Matrix> {
        // From here on there is at most one series on the right for each on the left.
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let sides = if swapped {
            Sides {
                left: sides.right,
                right: sides.left,
                left_signatures: sides.right_signatures,
                right_signatures: sides.left_signatures,
                count: sides.count,
            }
        } else {
            sides
        };
        let (fill_left, fill_right) = (matching.fill_left, matching.fill_right);
        let mut pairs = Pairs {
            evaluator: self,
            binary,
            matching,
            swapped,
            sides: &sides,
            collector: Collector::new(self.grid),
            results: Vec::new(),
            places: HashMap::new(),
            recent: vec![(None, usize::MAX); sides.left.len()],
            numbers: HashMap::new(),
            matched: vec![0; sides.count],
            several: HashSet::new(),
        };
        let mut ones: Vec<Option<(usize, Value)>> = vec![None; sides.count];
        // The fill values stay with the side that was written there, whichever has many.
        let (fill_many, fill_one) = (fill_left, fill_right);
        for step in 0..self.grid.steps {
            if step % 1024 == 1023 {
                self.query.meter.check()?;
            }
            let unfilled = fill_many.is_none() && fill_one.is_none();
            if unfilled && !sides.left.iter().any(|series| series.has(step)) {
                // Nothing can belong together: that a side is ambiguous harms nobody.
                continue;
            }
            pairs.several.clear();
            ones.fill(None);
            let mut any_one = false;
            for (at, series) in sides.right.iter().enumerate() {
                let Some(value) = series.at(step) else { continue };
                any_one = true;
                let one = &mut ones[sides.right_signatures[at]];
                if let Some((other, _)) = one {
                    return Err(duplicate(series, &sides.right[*other], matching, swapped));
                }
                *one = Some((at, value));
            }
            if !any_one && unfilled {
                continue;
            }
            for (at, series) in sides.left.iter().enumerate() {
                let signature = sides.left_signatures[at];
                let Some(many) = series.at(step) else { continue };
                match (&ones[signature], fill_one) {
                    (Some((one, value)), _) => pairs.join(step, signature, Some(at), Some(*one), &many, value)?,
                    (None, Some(fill)) => pairs.join(step, signature, Some(at), None, &many, &Value::Float(fill))?,
                    (None, None) => {}
                }
            }
            if let Some(fill) = fill_many {
                for (at, value) in ones.iter().flatten() {
                    let signature = sides.right_signatures[*at];
                    if pairs.matched[signature] != step + 1 {
                        pairs.join(step, signature, None, Some(*at), &Value::Float(fill), value)?;
                    }
                }
            }
        }
        pairs.collector.finish(self.delayed())
    }
}

fn duplicate(a: &Series, b: &Series, matching: &Matching, swapped: bool) -> super::EvalError {
    let group = signature(&a.labels, matching);
    let side = if swapped { "left" } else { "right" };
    let (mut first, mut second) = (a.labels.to_string(), b.labels.to_string());
    if first > second {
        std::mem::swap(&mut first, &mut second);
    }
    failed(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{first}, \
         {second}];many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

/// Pairs of series and what has come out of them.
struct Pairs<'a> {
    evaluator: &'a Evaluator<'a>,
    binary: &'a Binary,
    matching: &'a Matching,
    swapped: bool,
    sides: &'a Sides,
    collector: Collector,
    results: Vec<Joined>,
    /// Where each pair's result is among them.
    places: HashMap<(Option<usize>, Option<usize>), usize>,
    /// For each series of the side that may have many, the last partner and the place of the result.
    recent: Vec<(Option<usize>, usize)>,
    numbers: HashMap<Labels, usize>,
    /// For each signature, one more than the last step at which something came out.
    matched: Vec<usize>,
    /// Signatures with the numbers of the labels that have come out of them at this step.
    several: HashSet<(usize, usize)>,
}

/// What comes out of a pair.
struct Joined {
    labels: Labels,
    /// The same for the same labels.
    number: usize,
    /// Where it is collected, once there is a value.
    kept: Option<usize>,
}

impl Pairs<'_> {
    /// The place of what comes out of a pair.
    fn place(&mut self, many: Option<usize>, one: Option<usize>) -> usize {
        if let Some(at) = many {
            let (partner, place) = self.recent[at];
            if partner == one && place != usize::MAX {
                return place;
            }
        }
        let place = match self.places.get(&(many, one)) {
            Some(place) => *place,
            None => {
                let labels = self.labels(many, one);
                let next = self.numbers.len();
                let number = *self.numbers.entry(labels.clone()).or_insert(next);
                self.results.push(Joined { labels, number, kept: None });
                self.places.insert((many, one), self.results.len() - 1);
                self.results.len() - 1
            }
        };
        if let Some(at) = many {
            self.recent[at] = (one, place);
        }
        place
    }

    /// Joins a series of the side that may have many with one of the other; nothing stands for a filled one.
    fn join(
        &mut self,
        step: usize,
        signature: usize,
        many: Option<usize>,
        one: Option<usize>,
        many_value: &Value,
        one_value: &Value,
    ) -> Result<()> {
        let binary = self.binary;
        let (left, right) = if self.swapped { (one_value, many_value) } else { (many_value, one_value) };
        let place = binary.left.place().to(binary.right.place());
        let Some(made) = self.evaluator.element(binary.op, left, right, place) else { return Ok(()) };
        let place = self.place(many, one);
        if self.matching.cardinality == Cardinality::OneToOne {
            if self.matched[signature] == step + 1 {
                return Err(failed(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
        } else if !self.several.insert((signature, self.results[place].number)) {
            return Err(failed("multiple matches for labels: grouping labels must ensure unique matches"));
        }
        self.matched[signature] = step + 1;
        let value = match binary.returns_bool {
            true => Value::Float(f64::from(u8::from(made.keep))),
            false if made.keep => made.value,
            false => return Ok(()),
        };
        let joined = &mut self.results[place];
        let at = match joined.kept {
            Some(at) => at,
            None => {
                let at = self.collector.place(joined.labels.clone(), binary.returns_bool);
                joined.kept = Some(at);
                at
            }
        };
        self.collector.set(at, step, value)
    }

    /// The labels of what comes out of a pair.
    fn labels(&self, many: Option<usize>, one: Option<usize>) -> Labels {
        let of =
            |matrix: &Matrix, at: Option<usize>| at.and_then(|at| matrix.get(at)).map(|series| series.labels.clone());
        let (many, one) = (of(&self.sides.left, many), of(&self.sides.right, one));
        let filled =
            |other: &Option<Labels>| other.as_ref().map(|labels| signature(labels, self.matching)).unwrap_or_default();
        let (many, one) = (many.clone().unwrap_or_else(|| filled(&one)), one.unwrap_or_else(|| filled(&many)));
        let matching = self.matching;
        let mut builder = Builder::new(&many);
        let drops_now = !self.evaluator.delayed() && self.binary.returns_bool;
        if drops_now || changes_meaning(self.binary.op) {
            builder.remove(NAME).remove(TYPE).remove(UNIT);
        }
        if matching.cardinality == Cardinality::OneToOne {
            let named = |name: &str| matching.labels.iter().any(|label| label == name);
            builder.retain(|name| named(name) == matching.on);
        }
        for label in &matching.include {
            builder.set(label, one.get(label));
        }
        builder.labels()
    }
}
