//! Queries made at random from a seed: mostly right ones of every type, function and operator, some with the wrong types, some
//! broken at a letter.

use promql::{
    ast::Type,
    function::{self, Function, Rest},
};

use super::{
    data::{END, START},
    random::Random,
};

/// A query and when it is asked for: times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Ask {
    pub query: String,
    pub start: i64,
    /// Of a range of steps.
    pub steps: Option<(i64, i64)>,
}

impl Ask {
    /// The address that asks for it.
    pub fn address(&self) -> String {
        let seconds = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let query = super::escaped(&self.query);
        match self.steps {
            None => format!("/api/v1/query?query={query}&time={}", seconds(self.start)),
            Some((end, step)) => format!(
                "/api/v1/query_range?query={query}&start={}&end={}&step={}",
                seconds(self.start),
                seconds(end),
                seconds(step)
            ),
        }
    }
}

/// Makes queries.
pub struct Generator {
    random: Random,
    functions: Vec<&'static Function>,
}

/// Names of the data set, those of histograms and the others.
const NAMES: [&str; 16] = [
    "requests_total",
    "requests_total",
    "errors_total",
    "temperature",
    "temperature",
    "memory_bytes",
    "size_bucket",
    "size_sum",
    "size_count",
    "latency",
    "latency",
    "load",
    "bounds",
    "mixed",
    "odd",
    "nothing",
];
const LABELS: [&str; 6] = ["job", "instance", "zone", "le", "__name__", "missing"];
const JOBS: [&str; 4] = ["api", "web", "db", ""];
const SPANS: [&str; 8] = ["15s", "30s", "1m", "90s", "2m30s", "5m", "10m", "1h"];
const NUMBERS: [&str; 20] = [
    "0", "1", "2", "-1", "0.5", "0.9", "1.5", "-0.1", "10", "100", "1e3", "0x1F", "NaN", "Inf", "-Inf", "3", "1e-5",
    "1_000", "5m", "7",
];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), functions: function::all().iter().collect() }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// The next query.
    pub fn ask(&mut self) -> Ask {
        let mut query = match self.below(20) {
            0 => self.scalar(2),
            1 => self.matrix(2),
            2 => self.text(),
            _ => self.vector(3),
        };
        if self.chance(8) {
            query = self.broken(query);
        }
        let span = usize::try_from(END - START + 600_000).unwrap();
        let mut start = START - 200_000 + self.below(span) as i64;
        if self.chance(50) {
            start -= start % 15_000;
        }
        let steps = self.chance(40).then(|| {
            let step = [1_000, 15_000, 17_500, 60_000, 300_000][self.below(5)];
            (start + step * self.below(30) as i64 + self.below(2) as i64 * 500, step)
        });
        Ask { query, start, steps }
    }

    /// A letter gone, doubled, or another in its place.
    fn broken(&mut self, query: String) -> String {
        let mut letters: Vec<char> = query.chars().collect();
        if letters.is_empty() {
            return query;
        }
        let at = self.below(letters.len());
        let other = ['(', ')', '{', '"', '[', ',', '=', '5', 'x', ' ', '@', '-', '~', '!', '$', ':'][self.below(16)];
        match self.below(4) {
            0 => drop(letters.remove(at)),
            1 => letters.insert(at, letters[at]),
            2 => letters[at] = other,
            _ => letters.insert(at, other),
        }
        letters.into_iter().collect()
    }

    fn of(&mut self, kind: Type, depth: usize) -> String {
        // Now and then the wrong type.
        let kind =
            if self.chance(1) { [Type::Scalar, Type::Vector, Type::Matrix, Type::Text][self.below(4)] } else { kind };
        match kind {
            Type::Scalar => self.scalar(depth),
            Type::Vector => self.vector(depth),
            Type::Matrix => self.matrix(depth),
            Type::Text => self.text(),
        }
    }

    fn text(&mut self) -> String {
        let texts =
            ["\"job\"", "\"zone\"", "'instance'", "\"new\"", "`(.*)`", "\"$1-x\"", "\"\"", "\"a.b\"", "\"(\"", "\"-\""];
        self.pick(&texts).to_owned()
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&NUMBERS).to_owned();
        }
        match self.below(8) {
            0 => {
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = self.pick(&["+", "-", "*", "/", "%", "^", "atan2", "> bool", "== bool", "<= bool", "!= bool"]);
                format!("{left} {op} {right}")
            }
            1 => self.call(Type::Scalar, depth),
            2 => {
                let inner = self.vector(depth - 1);
                format!("scalar({inner})")
            }
            3 => {
                let inner = self.scalar(depth - 1);
                format!("({inner})")
            }
            4 => {
                let inner = self.scalar(depth - 1);
                format!("-{inner}")
            }
            _ => self.pick(&NUMBERS).to_owned(),
        }
    }

    fn matcher(&mut self) -> String {
        match self.below(9) {
            0 => "job=\"api\"".to_owned(),
            1 => format!("job=\"{}\"", self.pick(&JOBS)),
            2 => "job=~\"a.*|web\"".to_owned(),
            3 => "job!=\"db\"".to_owned(),
            4 => "instance!~\"1|2\"".to_owned(),
            5 => "zone=\"\"".to_owned(),
            6 => "zone!=\"\"".to_owned(),
            7 => "instance=~\"[01]\"".to_owned(),
            _ => "missing=\"\"".to_owned(),
        }
    }

    fn selector(&mut self) -> String {
        let name = self.pick(&NAMES);
        let mut matchers: Vec<String> = (0..[0, 0, 0, 1, 1, 2][self.below(6)]).map(|_| self.matcher()).collect();
        match self.below(24) {
            0 => {
                matchers.insert(0, format!("__name__=~\"{}|odd\"", name));
                format!("{{{}}}", matchers.join(", "))
            }
            1 => {
                matchers.insert(0, "\"utf8.metric name\"".to_owned());
                format!("{{{}}}", matchers.join(","))
            }
            _ if matchers.is_empty() => name.to_owned(),
            _ => format!("{name}{{{}}}", matchers.join(",")),
        }
    }

    /// What may stand behind a selector or subquery.
    fn moved(&mut self) -> String {
        let mut out = String::new();
        if self.chance(12) {
            out += &format!(" offset {}{}", self.pick(&["", "-"]), self.pick(&SPANS));
        }
        if self.chance(8) {
            let at = match self.below(4) {
                0 => "start()".to_owned(),
                1 => "end()".to_owned(),
                _ => ((START + self.below(3_600_000) as i64) as f64 / 1000.0).to_string(),
            };
            out += &format!(" @ {at}");
        }
        out
    }

    fn span(&mut self) -> String {
        match self.below(30) {
            0 => format!("{} + 15s", self.pick(&SPANS)),
            1 => format!("{} * 2", self.pick(&SPANS)),
            2 => "step() + 1m".to_owned(),
            3 => "max(step(), 1m)".to_owned(),
            4 => "90".to_owned(),
            5 => "0".to_owned(),
            _ => self.pick(&SPANS).to_owned(),
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        let span = self.span();
        if depth > 0 && self.chance(15) {
            let inner = self.vector(depth - 1);
            let step = self.pick(&["", "15s", "1m", "37s"]);
            let moved = self.moved();
            let plain = inner.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            return if plain {
                format!("{inner}[{span}:{step}]{moved}")
            } else {
                format!("({inner})[{span}:{step}]{moved}")
            };
        }
        let extended = if self.chance(6) { self.pick(&[" anchored", " smoothed"]) } else { "" };
        let (selector, moved) = (self.selector(), self.moved());
        format!("{selector}[{span}]{extended}{moved}")
    }

    fn labels(&mut self) -> String {
        let count = self.below(3);
        let labels: Vec<&str> = (0..count).map(|_| self.pick(&LABELS)).collect();
        labels.join(", ")
    }

    fn call(&mut self, returns: Type, depth: usize) -> String {
        let fitting: Vec<&'static Function> =
            self.functions.iter().copied().filter(|function| function.returns == returns).collect();
        let function = fitting[self.below(fitting.len())];
        let mut count = function.args.len();
        match function.rest {
            Rest::None => {}
            Rest::UpTo(most) => count = (count - 1) + self.below(most.min(2) + 1),
            Rest::Any => count = (count - 1) + self.below(3),
        }
        if self.chance(1) {
            count += 1;
        }
        let mut args = Vec::new();
        for at in 0..count {
            let kind = function.args.get(at).or(function.args.last()).copied().unwrap_or(Type::Vector);
            let plain = match (function.name, at) {
                ("info", 1) => Some("{version=~\".*\"}".to_owned()),
                ("histogram_quantile", 1) if self.chance(60) => Some(
                    self.pick(&["rate(size_bucket[5m])", "latency", "rate(latency[5m])", "size_bucket", "bounds"])
                        .to_owned(),
                ),
                ("histogram_quantile" | "quantile_over_time" | "histogram_fraction", 0) if self.chance(80) => {
                    Some(self.pick(&["0.5", "0.9", "0.99", "0", "1"]).to_owned())
                }
                ("histogram_quantiles", 1) => Some("\"q\"".to_owned()),
                ("double_exponential_smoothing", 1 | 2) if self.chance(80) => Some("0.3".to_owned()),
                _ => None,
            };
            args.push(match plain {
                Some(text) => text,
                None => self.of(kind, depth.saturating_sub(1)),
            });
        }
        format!("{}({})", function.name, args.join(", "))
    }

    fn aggregate(&mut self, depth: usize) -> String {
        let ops = [
            "sum",
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "quantile",
            "count_values",
            "limitk",
            "limit_ratio",
        ];
        let op = self.pick(&ops);
        let param = match op {
            "topk" | "bottomk" | "limitk" => Some(self.pick(&["1", "2", "3", "0", "100", "-1"]).to_owned()),
            "quantile" => Some(self.pick(&["0.5", "0.9", "0", "1", "2", "NaN"]).to_owned()),
            "limit_ratio" => Some(self.pick(&["0.5", "-0.5", "1", "0.1"]).to_owned()),
            "count_values" => Some("\"value\"".to_owned()),
            _ => None,
        };
        let inner = self.of(Type::Vector, depth - 1);
        let args = param.map_or_else(|| inner.clone(), |param| format!("{param}, {inner}"));
        let by = self.chance(60).then(|| format!("{} ({})", self.pick(&["by", "without"]), self.labels()));
        match by {
            None => format!("{op}({args})"),
            Some(by) if self.chance(50) => format!("{op} {by} ({args})"),
            Some(by) => format!("{op}({args}) {by}"),
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        let set = self.chance(20);
        let op = if set {
            self.pick(&["and", "or", "unless"])
        } else {
            self.pick(&[
                "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "</",
                ">/",
            ])
        };
        let scalars = !set && self.chance(40);
        let (left, right) = match scalars.then(|| self.below(2)) {
            None => (self.of(Type::Vector, depth - 1), self.of(Type::Vector, depth - 1)),
            Some(0) => (self.scalar(depth - 1), self.of(Type::Vector, depth - 1)),
            Some(_) => (self.of(Type::Vector, depth - 1), self.scalar(depth - 1)),
        };
        let mut matching = String::new();
        if !scalars && self.chance(50) {
            matching = format!(" {}({})", self.pick(&["on", "ignoring"]), self.labels());
            if !set && self.chance(40) {
                matching +=
                    &format!(" {}", self.pick(&["group_left", "group_right", "group_left(zone)", "group_right()"]));
            }
        }
        if !set && !scalars && self.chance(8) {
            matching += &format!(
                " {}",
                self.pick(&["fill(0)", "fill_left(1)", "fill_right(-1)", "fill_left(0) fill_right(2)"])
            );
        }
        let (left, right) = if self.chance(40) { (format!("({left})"), format!("({right})")) } else { (left, right) };
        format!("{left} {op}{matching} {right}")
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            let (selector, moved) = (self.selector(), self.moved());
            let smoothed = if self.chance(3) { " smoothed" } else { "" };
            return format!("{selector}{smoothed}{moved}");
        }
        match self.below(20) {
            0..3 => self.vector(0),
            3..9 => self.call(Type::Vector, depth),
            9..14 => self.aggregate(depth),
            14..18 => self.binary(depth),
            18 => {
                let inner = self.vector(depth - 1);
                format!("-{inner}")
            }
            _ => {
                let inner = self.vector(depth - 1);
                format!("({inner})")
            }
        }
    }
}
