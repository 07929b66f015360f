//! Public dashboards and rules on a running cluster: every name of a metric in them is exported here, or stands in a list with
//! the reason why not. The list may only shrink. Reasons that begin with "only where" are of names that a cluster exports once it
//! has what they tell of; there, a name may end in `*`.
//!
//! `MADANG_SUITES` names the directory with `rules` and `dashboards`; without it this does not run.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use promql::{
    ast::Expr,
    matcher::{Comparison, Matcher},
    parse::{Features, parse},
};
use serde_json::Value;

use crate::shared::cluster;

/// Names that are not exported, each with its reason.
const MISSING: &str = include_str!("suites/missing.txt");

/// Where this program exports what.
const PAGES: [&str; 4] =
    ["/metrics", "/metrics/kube-scheduler", "/metrics/kube-controller-manager", "/metrics/kube-state-metrics"];
const NODE_PAGES: [&str; 7] = [
    "metrics",
    "metrics/cadvisor",
    "metrics/resource",
    "metrics/probes",
    "metrics/host",
    "metrics/kube-proxy",
    "metrics/coredns",
];

/// Variables of dashboards, with what stands for them.
const VARIABLES: [(&str, &str); 4] =
    [("$__rate_interval", "5m"), ("$__interval", "5m"), ("$__range", "1h"), ("${created_by}", "x")];

/// What a dashboard or rule asks for.
pub struct Asked {
    /// Which file it is from.
    pub file: String,
    /// The expression, with variables in it.
    pub text: String,
}

pub fn expressions(suites: &Path) -> Vec<Asked> {
    let mut found = Vec::new();
    for (folder, key) in [("dashboards", "expr"), ("rules", "expr")] {
        for entry in fs::read_dir(suites.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let value: Value = match folder {
                "rules" => serde_saphyr::from_str(&text).unwrap(),
                _ => serde_json::from_str(&text).unwrap(),
            };
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            collect(&value, key, &mut |text| found.push(Asked { file: file.clone(), text: text.to_owned() }));
        }
    }
    found
}

fn collect(value: &Value, key: &str, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(text) = map.get(key).and_then(Value::as_str) {
                found(text);
            }
            map.values().for_each(|value| collect(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, key, found)),
        _ => {}
    }
}

/// An expression with another word in place of each variable.
pub fn substituted(text: &str, stand_in: &str) -> String {
    let mut text = text.to_owned();
    for (variable, value) in VARIABLES {
        text = text.replace(variable, value);
    }
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let word = rest.trim_start_matches('{');
        let end = word.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(word.len());
        if end == 0 {
            // The end of a regular expression.
            out.push('$');
            continue;
        }
        if word[..end].bytes().all(|byte| byte.is_ascii_digit()) {
            // A group of a regular expression.
            out.push('$');
            continue;
        }
        out.push_str(stand_in);
        rest = word[end..].trim_start_matches('}');
    }
    out + rest
}

/// Conditions on the names of metrics in an expression.
fn names<'a>(expr: &'a Expr, found: &mut Vec<&'a Matcher>) {
    let selector = match expr {
        Expr::Aggregate(aggregate) => {
            names(&aggregate.expr, found);
            return aggregate.param.iter().for_each(|param| names(param, found));
        }
        Expr::Binary(binary) => {
            names(&binary.left, found);
            return names(&binary.right, found);
        }
        Expr::Call(call) => return call.args.iter().for_each(|argument| names(argument, found)),
        Expr::Subquery(subquery) => return names(&subquery.expr, found),
        Expr::Paren(paren) => return names(&paren.expr, found),
        Expr::Unary(unary) => return names(&unary.expr, found),
        Expr::Matrix(matrix) => &matrix.selector,
        Expr::Selector(selector) => selector,
        Expr::Number(_) | Expr::Text(_) => return,
    };
    found.extend(selector.matchers.iter().filter(|matcher| matcher.name == "__name__"));
}

/// What rules record.
fn recorded(suites: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(suites.join("rules")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        collect(&value, "record", &mut |name| {
            found.insert(name.to_owned());
        });
    }
    found
}

/// Names of the samples of a page.
fn exported(page: &str, found: &mut BTreeSet<String>) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        found.insert(line.split(['{', ' ']).next().unwrap_or_default().to_owned());
    }
}

/// Why a name may be missing.
pub fn reason(known: &BTreeMap<&'static str, &'static str>, name: &str) -> Option<&'static str> {
    let of_many = |(pattern, reason): (&&'static str, &&'static str)| {
        let prefix = pattern.strip_suffix('*')?;
        name.starts_with(prefix).then_some(*reason)
    };
    known.get(name).copied().or_else(|| known.iter().find_map(of_many))
}

fn is_conditional(reason: &str) -> bool {
    reason.starts_with("only where")
}

pub fn missing() -> BTreeMap<&'static str, &'static str> {
    let line = |line: &'static str| line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line:?}"));
    MISSING.lines().filter(|text| !text.is_empty() && !text.starts_with('#')).map(line).collect()
}

#[test]
fn dashboards_and_rules_find_their_metrics_or_a_reason() {
    let Some(suites) = env::var_os("MADANG_SUITES") else {
        assert!(env::var_os("CI").is_none(), "MADANG_SUITES names no directory");
        return eprintln!("not run: MADANG_SUITES names no directory");
    };
    let Some(cluster) = cluster() else { return };
    let kubectl = cluster.kubectl("default");
    let node = kubectl.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).good();
    let mut found = BTreeSet::from(["up", "ALERTS"].map(str::to_owned));
    let (mut bytes, began) = (0, std::time::Instant::now());
    for page in PAGES {
        let text = kubectl.run(&["get", "--raw", page]).good();
        eprintln!("{page}: {} bytes, {} lines", text.len(), text.lines().count());
        bytes += text.len();
        exported(&text, &mut found);
    }
    for page in NODE_PAGES {
        let text = kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{page}")]).good();
        eprintln!("{page}: {} bytes, {} lines", text.len(), text.lines().count());
        bytes += text.len();
        exported(&text, &mut found);
    }
    let ports = fs::read_to_string(cluster.run_dir().join("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    let url = format!("http://127.0.0.1:{}/metrics", ports["prometheus"]);
    let page = cluster.place.command("curl").args(["--silent", "--fail", "--max-time", "10", &url]).output().unwrap();
    assert!(page.status.success(), "{url}: {page:?}");
    exported(&String::from_utf8_lossy(&page.stdout), &mut found);
    eprintln!("{bytes} bytes in {:?}, kubectl's own time included", began.elapsed());
    let suites = Path::new(&suites);
    found.extend(recorded(suites));
    let (known, mut wrong, mut absent) = (missing(), Vec::new(), BTreeSet::new());
    let mut asked = 0;
    for Asked { file, text } in expressions(suites) {
        asked += 1;
        let text = substituted(&text, "x");
        let expr = match parse(&text, Features::default()) {
            Ok(expr) => expr,
            Err(error) => {
                wrong.push(format!("{file}: {text}: {error}"));
                continue;
            }
        };
        let mut matchers = Vec::new();
        names(&expr, &mut matchers);
        for matcher in matchers {
            let there = found.iter().any(|name| matcher.matches(name));
            if !there {
                let plain = matcher.comparison == Comparison::Equal;
                let name = if plain { matcher.value.clone() } else { format!("~{}", matcher.value) };
                if reason(&known, &name).is_none() {
                    wrong.push(format!("{name} is exported nowhere and has no reason: {file}"));
                }
                absent.insert(name);
            }
        }
    }
    assert!(asked > 1000, "{asked} expressions");
    for (name, reason) in &known {
        if !is_conditional(reason) && !absent.contains(*name) {
            wrong.push(format!("{name} needs no reason any more"));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn patterns_stand_only_where_something_may_be_there() {
    let known = missing();
    for (name, reason) in &known {
        assert!(!name.ends_with('*') || is_conditional(reason), "{name}: {reason}");
    }
    assert!(reason(&known, "kube_job_failed").is_some() && reason(&known, "nothing_at_all").is_none());
}

#[test]
fn variables_are_taken_out_of_expressions() {
    for (text, wanted) in [
        ("rate(a{b=\"$c\", d=~\"${e}.*\"}[$__rate_interval])", "rate(a{b=\"x\", d=~\"x.*\"}[5m])"),
        ("a{b=~\"^(c|d)$\"}", "a{b=~\"^(c|d)$\"}"),
        ("label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")", "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")"),
    ] {
        assert_eq!(substituted(text, "x"), wanted);
    }
}
