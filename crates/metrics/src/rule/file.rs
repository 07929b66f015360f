//! Files of rules, as strict as upstream, with its errors.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/>.

use std::{collections::BTreeMap, time::Duration};

use promql::parse::{self, Features};

use crate::{
    config::units::{Names, Span},
    template,
    yaml::{self, Fields, Kind, Node, Record},
};

/// A file of rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Its groups.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Its name, once in a file.
    pub name: String,
    /// How often; as configured for all if zero.
    pub interval: Span,
    /// How far back queries look; as configured for all if absent.
    pub query_offset: Option<Span>,
    /// Most series or alerts of a rule; without end if 0.
    pub limit: i64,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Labels of all its rules.
    pub labels: BTreeMap<String, String>,
}

/// A rule: one of `record` and `alert` is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The metric that it makes.
    pub record: String,
    /// The alert that it makes.
    pub alert: String,
    /// The expression.
    pub expr: String,
    /// How long it must be true before the alert fires.
    pub hold: Span,
    /// How long the alert goes on when it is no longer true.
    pub keep_firing_for: Span,
    /// Labels that are added; of an alert, templates.
    pub labels: BTreeMap<String, String>,
    /// What an alert says, templates.
    pub annotations: BTreeMap<String, String>,
}

impl Record for File {
    const TYPE: &'static str = "rulefmt.RuleGroups";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("groups", &mut self.groups);
    }
}

impl Record for Group {
    const TYPE: &'static str = "rulefmt.RuleGroup";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("name", &mut self.name);
        fields.field("interval", &mut self.interval);
        fields.field("query_offset", &mut self.query_offset);
        fields.field("limit", &mut self.limit);
        fields.always("rules", &mut self.rules);
        fields.field("labels", &mut self.labels);
    }
}

impl Record for Rule {
    const TYPE: &'static str = "rulefmt.Rule";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("record", &mut self.record);
        fields.field("alert", &mut self.alert);
        fields.always("expr", &mut self.expr);
        fields.field("for", &mut self.hold);
        fields.field("keep_firing_for", &mut self.keep_firing_for);
        fields.field("labels", &mut self.labels);
        fields.field("annotations", &mut self.annotations);
    }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// The parts of the query language that are switched on.
    pub features: Features,
    /// Which names labels and metrics may have.
    pub names: Names,
    /// Whether unknown fields are passed over.
    pub lenient: bool,
}

/// Most rules that a file may have; far beyond what anybody writes.
const MOST_RULES: usize = 200_000;

/// Reads the text of a file and checks it; all that is wrong is told at once.
pub fn parse(text: &str, reading: &Reading) -> Result<File, Vec<String>> {
    let Some(mut node) = yaml::parse(text).map_err(|error| vec![error])? else { return Ok(File::default()) };
    if reading.lenient {
        keep_known(&mut node);
    }
    let mut file = File::default();
    yaml::read_node(&node, &mut file).map_err(|error| vec![error])?;
    let problems = validate(&file, &node, reading);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

/// Takes out fields that nobody knows.
fn keep_known(node: &mut Node) {
    const GROUP: [&str; 6] = ["name", "interval", "query_offset", "limit", "rules", "labels"];
    const RULE: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
    fn retain(node: &mut Node, known: &[&str]) {
        if let Kind::Map(pairs) = &mut node.kind {
            pairs.retain(|pair| pair.0.text().is_some_and(|key| known.contains(&key)));
        }
    }
    fn each<'a>(node: &'a mut Node, key: &str) -> &'a mut [Node] {
        let Kind::Map(pairs) = &mut node.kind else { return &mut [] };
        match pairs.iter_mut().find(|pair| pair.0.text() == Some(key)).map(|pair| &mut pair.1.kind) {
            Some(Kind::List(items)) => items,
            _ => &mut [],
        }
    }
    retain(node, &["groups"]);
    for group in each(node, "groups") {
        retain(group, &GROUP);
        for rule in each(group, "rules") {
            retain(rule, &RULE);
        }
    }
}

fn items<'a>(node: Option<&'a Node>, key: &str) -> &'a [Node] {
    match node.and_then(|node| node.get(key)).map(|node| &node.kind) {
        Some(Kind::List(items)) => items,
        _ => &[],
    }
}

fn place(node: Option<&Node>) -> String {
    node.map_or_else(|| "0:0".to_owned(), |node| format!("{}:{}", node.line, node.column))
}

/// All that is wrong with a file, in upstream's words.
fn validate(file: &File, node: &Node, reading: &Reading) -> Vec<String> {
    let mut problems = Vec::new();
    let nodes = items(Some(node), "groups");
    let count: usize = file.groups.iter().map(|group| group.rules.len()).sum();
    if count > MOST_RULES {
        return vec![format!("{count} rules are too many for a file: split it, {MOST_RULES} are allowed")];
    }
    for (i, group) in file.groups.iter().enumerate() {
        let node = nodes.get(i);
        if group.name.is_empty() {
            problems.push(format!("{}: Groupname must not be empty", place(node)));
        }
        if file.groups[..i].iter().any(|other| other.name == group.name) {
            let name = &group.name;
            problems.push(format!("{}: groupname: \"{name}\" is repeated in the same file", place(node)));
        }
        for name in group.labels.keys().filter(|name| !reading.names.label(name) || *name == tsdb::labels::NAME) {
            problems.push(format!("invalid label name: {name}"));
        }
        let rules = items(node, "rules");
        for (j, rule) in group.rules.iter().enumerate() {
            let name = if rule.alert.is_empty() { &rule.record } else { &rule.alert };
            for (at, problem) in wrong_with(rule, rules.get(j), reading) {
                let quote = tsdb::labels::quote;
                let words = format!("group {}, rule {}, {}: {problem}", quote(&group.name), j + 1, quote(name));
                problems.push(if at.is_empty() { words } else { format!("{at}: {words}") });
            }
        }
    }
    problems
}

/// What is wrong with a rule, and where, if that can be told.
fn wrong_with(rule: &Rule, node: Option<&Node>, reading: &Reading) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let at = |key: &str| place(node.and_then(|node| node.get(key)));
    if rule.record.is_empty() == rule.alert.is_empty() {
        let words = if rule.record.is_empty() {
            "one of 'record' or 'alert' must be set"
        } else {
            "only one of 'record' and 'alert' must be set"
        };
        found.push((format!("{}: {}", at("record"), at("alert")), words.to_owned()));
    }
    if rule.expr.is_empty() {
        found.push((at("expr"), "field 'expr' must be set in rule".to_owned()));
    } else if let Err(error) = parse::parse(&rule.expr, reading.features) {
        found.push((at("expr"), format!("could not parse expression: {error}")));
    }
    if !rule.record.is_empty() {
        let mut refuse = |wrong: bool, words: String| {
            if wrong {
                found.push((at("record"), words));
            }
        };
        refuse(!rule.annotations.is_empty(), "invalid field 'annotations' in recording rule".to_owned());
        refuse(!rule.hold.is_zero(), "invalid field 'for' in recording rule".to_owned());
        refuse(!rule.keep_firing_for.is_zero(), "invalid field 'keep_firing_for' in recording rule".to_owned());
        let name = &rule.record;
        refuse(!reading.names.metric(name), format!("invalid recording rule name: {name}"));
        refuse(
            name.contains(['{', '}']),
            format!("braces present in the recording rule name; should it be in expr?: {name}"),
        );
    }
    for name in rule.labels.keys().filter(|name| !reading.names.label(name) || *name == tsdb::labels::NAME) {
        found.push((String::new(), format!("invalid label name: {name}")));
    }
    for name in rule.annotations.keys().filter(|name| !reading.names.label(name)) {
        found.push((String::new(), format!("invalid annotation name: {name}")));
    }
    if !rule.alert.is_empty() {
        let template = format!("__alert_{}", rule.alert);
        for (kind, texts) in [("label", &rule.labels), ("annotation", &rule.annotations)] {
            for (name, text) in texts {
                if let Err(error) = template::prometheus::check(&template, text) {
                    found.push((String::new(), format!("{kind} {}: {error}", tsdb::labels::quote(name))));
                }
            }
        }
    }
    found
}

impl Group {
    /// How often it is evaluated.
    pub fn interval(&self, usual: Duration) -> Duration {
        if self.interval.is_zero() { usual } else { self.interval.0 }
    }
}
