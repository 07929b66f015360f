//! Queries made at random, from a seed: none makes the parser or the evaluator panic, and what is printed reads back as
//! the same.

use promql::{
    eval::{self, Options},
    lex::WORDS,
    limit::Limits,
    parse::{Features, parse},
    print::{pretty, pretty_within},
    tree,
};
use tsdb::labels::Labels;

use promql::memory::{Memory, Sample};

/// A small generator of numbers (xorshift), the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

const NAMES: &[&str] = &["m", "h", "job:x:rate5m", "sum", "offset", "by", "start", "step", "and", "fill", "anchored"];
const LENGTHS: &[&str] =
    &["5m", "1h30m", "90", "1m + 2m", "step()", "max_of(1m, range())", "(2m) * 2", "-1m ^ 2", "1e2", "7w"];
const MATCHERS: &[&str] =
    &["a=\"b\"", "a!=\"\\n\"", "a=~\"x|y\"", "a!~'.*'", "\"quoted name\"", "\"q n\"=\"v\"", "__name__=~`m.*`"];
const OPERATORS: &[&str] =
    &["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", "<=", ">", ">=", "</", ">/", "and", "or", "unless"];
const MODIFIERS: &[&str] = &[
    "",
    "",
    "",
    "bool ",
    "on (a) ",
    "ignoring () ",
    "on (a) group_left (b) ",
    "ignoring (a) group_right ",
    "fill (1) ",
    "fill_left (-2) fill_right (3) ",
];
const AGGREGATIONS: &[&str] =
    &["sum (", "avg by (a) (", "topk (2, ", "count_values (\"v\", ", "quantile without (a) (0.5, ", "limitk (1, "];
const FUNCTIONS: &[&str] =
    &["abs(", "histogram_quantile(0.9, ", "label_replace(", "absent(", "sort(", "round(", "info(", "timestamp("];
const RANGES: &[&str] =
    &["rate(", "increase(", "avg_over_time(", "changes(", "deriv(", "absent_over_time(", "last_over_time("];

fn expression(random: &mut Random, depth: usize) -> String {
    let choice = if depth == 0 { random.below(3) } else { random.below(9) };
    match choice {
        0 => random.pick(&["1", "0x1F", "1e-3", "5m", "NaN", "-2", "0"]).to_owned(),
        1 | 2 => selector(random),
        3 => format!("({})", expression(random, depth - 1)),
        4 => format!("{}{}", random.pick(&["-", "+"]), expression(random, depth - 1)),
        5 => {
            let (left, right) = (expression(random, depth - 1), expression(random, depth - 1));
            format!("{left} {} {}{right}", random.pick(OPERATORS), random.pick(MODIFIERS))
        }
        6 => format!("{}{})", random.pick(AGGREGATIONS), expression(random, depth - 1)),
        7 => {
            let inner = expression(random, depth - 1);
            let rest = random.pick(&["", "", ", \"a\", \"$1\", \"b\", \"(.*)\"", ", 2"]);
            format!("{}{inner}{rest})", random.pick(FUNCTIONS))
        }
        _ => {
            let length = random.pick(LENGTHS);
            let inner = if random.below(2) == 0 {
                format!("{}[{length}]", random.pick(NAMES))
            } else {
                let step = random.pick(&["", "1m", "step()"]);
                format!("({})[{length}:{step}]", expression(random, depth - 1))
            };
            format!("{}{inner}{})", random.pick(RANGES), shift(random))
        }
    }
}

fn shift(random: &mut Random) -> String {
    let offset = random.pick(LENGTHS);
    match random.below(8) {
        0 => format!(" offset {offset}"),
        1 => " @ start()".to_owned(),
        2 => " @ 120.5 offset -1m".to_owned(),
        3 => " anchored".to_owned(),
        4 => format!(" smoothed offset -({offset})"),
        _ => String::new(),
    }
}

fn selector(random: &mut Random) -> String {
    let mut text = random.pick(NAMES).to_owned();
    if random.below(2) == 0 {
        let matchers: Vec<_> = (0..random.below(3)).map(|_| random.pick(MATCHERS)).collect();
        text += &format!("{{{}}}", matchers.join(","));
    }
    text + &shift(random)
}

/// Changes a query a little: bytes removed, doubled, or replaced by something of the language.
fn damaged(random: &mut Random, query: &str) -> String {
    let mut chars: Vec<char> = query.chars().collect();
    for _ in 0..1 + random.below(3) {
        let at = random.below(chars.len().max(1)).min(chars.len().saturating_sub(1));
        match random.below(4) {
            0 if !chars.is_empty() => {
                chars.remove(at);
            }
            1 => {
                let word = WORDS[random.below(WORDS.len())].0;
                chars.splice(at..at, format!(" {word} ").chars());
            }
            2 => chars.truncate(at),
            _ => chars
                .insert(at, ['(', ')', '[', ']', '{', '"', '\\', ':', '\n', 'é', '\u{0}', '9', '@'][random.below(13)]),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn random_queries_neither_panic_nor_change_when_printed() {
    let mut memory = Memory::default();
    for (name, a) in [("m", "b"), ("m", "x"), ("sum", "y")] {
        let labels = Labels::from_pairs([("__name__", name), ("a", a), ("le", "1")]);
        for step in 0..20 {
            memory.add(&labels, step * 30_000, 0, Sample::Float((step % 7) as f64));
        }
    }
    let limits = Limits { samples: 1_000_000, ..Limits::default() };
    let options = Options { features: Features::ALL, limits, ..Options::default() };
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let mut read = 0;
    for _ in 0..6_000 {
        let query = expression(&mut random, 4);
        // Wrong queries have a place in the text, whatever they are.
        let broken = damaged(&mut random, &query);
        if let Err(error) = parse(&broken, Features::ALL) {
            assert!(error.place.start <= broken.len() && !error.to_string().is_empty(), "{broken:?}");
        }
        let Ok(expr) = parse(&query, Features::ALL) else { continue };
        read += 1;
        let printed = expr.to_string();
        let again = parse(&printed, Features::ALL).unwrap_or_else(|error| panic!("{query:?} as {printed:?}: {error}"));
        assert_eq!(again.to_string(), printed, "{query:?}");
        assert_eq!(tree::json(&again)["type"], tree::json(&expr)["type"], "{query:?}");
        for lines in [pretty(&expr), pretty_within(&expr, 10)] {
            let again = parse(&lines, Features::ALL).unwrap_or_else(|error| panic!("{query:?} as {lines:?}: {error}"));
            assert_eq!(again.to_string(), printed, "{lines:?}");
        }
        let _ = eval::instant(&memory, &expr, 300_000, &options);
        let _ = eval::range(&memory, &expr, 60_000, 420_000, 60_000, &options);
    }
    assert!(read > 1_000, "only {read} queries were right");
}
