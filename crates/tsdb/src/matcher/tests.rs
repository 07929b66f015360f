//! Tests of matchers against a plain list of series.

use super::*;
use crate::random::Random;

struct Plain(Vec<Vec<(&'static str, &'static str)>>);

impl Index for Plain {
    fn all(&self) -> Vec<u32> {
        (0..self.0.len() as u32).collect()
    }

    fn with(&self, name: &str, value: &str, into: &mut Vec<u32>) {
        self.with_any(name, &mut |have| have == value, into);
    }

    fn with_any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool, into: &mut Vec<u32>) -> usize {
        let mut values: Vec<&str> = Vec::new();
        for (number, labels) in self.0.iter().enumerate() {
            for (_, value) in labels.iter().filter(|label| label.0 == name && wanted(label.1)) {
                into.push(number as u32);
                values.push(value);
            }
        }
        2
    }
}

#[test]
fn series_are_found_as_by_looking_at_each() {
    let values = ["", "a", "b", "ab", "c\nd"];
    let mut random = Random::new(8);
    let mut value = || values[random.below(5) as usize];
    let mut series = Vec::new();
    for _ in 0..60 {
        series.push([("x", value()), ("y", value())].into_iter().filter(|label| !label.1.is_empty()).collect());
    }
    let index = Plain(series);
    let ops = [Op::Equal, Op::NotEqual, Op::Regex, Op::NotRegex];
    let wanted = ["", "a", "a|b", "a.*", ".*", ".+", "c.d", "|a", "nothing", "(a|b)?"];
    for _ in 0..3000 {
        let matchers: Vec<Matcher> = (0..random.below(4))
            .map(|_| {
                let (op, name) = (ops[random.below(4) as usize], ["x", "y", "z"][random.below(3) as usize]);
                Matcher::new(op, name, wanted[random.below(10) as usize]).expect("the expression is sound")
            })
            .collect();
        let value = |labels: &[(&str, &'static str)], name: &str| {
            labels.iter().find(|label| label.0 == name).map_or("", |label| label.1)
        };
        let all = index.0.iter().enumerate();
        let plainly: Vec<u32> = all
            .filter(|(_, labels)| matchers.iter().all(|matcher| matcher.matches(value(labels, matcher.name()))))
            .map(|(number, _)| number as u32)
            .collect();
        assert_eq!(find(&index, &matchers), plainly, "{matchers:?}");
    }
}

#[test]
fn whole_values_are_matched() {
    let matches = |op, pattern, value| Matcher::new(op, "x", pattern).expect("the expression is sound").matches(value);
    assert!(!matches(Op::Regex, "a", "ab") && matches(Op::Regex, "a.", "ab") && matches(Op::Regex, "a|ab", "ab"));
    assert!(matches(Op::NotRegex, "b", "ab") && !matches(Op::NotRegex, ".b", "ab"));
    assert!(Matcher::new(Op::Regex, "x", "(").is_err());
}

#[test]
fn seeking_finds_the_first_that_is_not_below() {
    let mut random = Random::new(9);
    for _ in 0..2000 {
        let mut list: Vec<u32> = (0..random.below(40)).map(|_| random.below(50) as u32).collect();
        list.sort_unstable();
        list.dedup();
        let wanted = random.below(52) as u32;
        assert_eq!(seek(&list, wanted), list.partition_point(|number| *number < wanted), "{list:?} {wanted}");
    }
}
