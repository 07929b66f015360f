//! The tree of routes: which receivers an alert goes to, and how it is grouped on the way.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#route>.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    alert::Pairs,
    config,
    matcher::{self, Matcher},
};

/// What holds for the alerts of a route; children inherit it.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where they go to.
    pub receiver: String,
    /// By which labels they are grouped; by all if `None`.
    pub group_by: Option<BTreeSet<String>>,
    /// How long a new group waits, in milliseconds.
    pub group_wait: i64,
    /// How long between notifications of a group that changes.
    pub group_interval: i64,
    /// How long between notifications of a group that does not.
    pub repeat_interval: i64,
    /// Times at which it is mute.
    pub mute: Vec<String>,
    /// Times at which it is not.
    pub active: Vec<String>,
    /// Labels for templates.
    pub labels: BTreeMap<String, String>,
}

/// A route of the tree, which is kept as a list: children stand before their parents, as upstream numbers them.
#[derive(Clone, Debug)]
pub struct Route {
    /// What holds for its alerts.
    pub options: Options,
    /// Which alerts it takes.
    pub matchers: Vec<Matcher>,
    /// Conditions from the root down to it, for names of groups.
    pub key: String,
    /// As `key`, distinct for siblings of the same conditions.
    pub id: String,
    goes_on: bool,
    children: Vec<usize>,
}

/// All routes; the root is the last.
#[derive(Clone, Debug)]
pub struct Routes(Vec<Route>);

fn millis(span: Option<crate::config::units::Span>, inherited: i64) -> i64 {
    span.map_or(inherited, |span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX))
}

impl Routes {
    /// The routes of a configuration.
    pub fn new(root: &config::Route) -> Self {
        let options = Options {
            receiver: String::new(),
            group_by: Some(BTreeSet::new()),
            group_wait: 30_000,
            group_interval: 300_000,
            repeat_interval: 4 * 3_600_000,
            mute: Vec::new(),
            active: Vec::new(),
            labels: BTreeMap::new(),
        };
        let mut routes = Self(Vec::new());
        routes.add(root, options, None);
        routes
    }

    fn add(&mut self, source: &config::Route, mut options: Options, above: Option<(&str, &str, usize)>) -> usize {
        options.labels.extend(source.labels.clone());
        if !source.receiver.is_empty() {
            options.receiver.clone_from(&source.receiver);
        }
        if source.groups_by_all() {
            options.group_by = None;
        } else if let Some(names) = &source.group_by.0 {
            options.group_by = Some(names.iter().cloned().collect());
        }
        options.group_wait = millis(source.group_wait, options.group_wait);
        options.group_interval = millis(source.group_interval, options.group_interval);
        options.repeat_interval = millis(source.repeat_interval, options.repeat_interval);
        options.mute.clone_from(&source.mute_time_intervals);
        options.active.clone_from(&source.active_time_intervals);
        let matchers = source.all_matchers();
        let own = matcher::print(&matchers);
        let (key, id) = match above {
            None => (own.clone(), own),
            Some((key, id, at)) => (format!("{key}/{own}"), format!("{id}/{own}/{at}")),
        };
        let children = source.routes.iter().enumerate();
        let children = children.map(|(at, child)| self.add(child, options.clone(), Some((&key, &id, at)))).collect();
        self.0.push(Route { options, matchers, key, id, goes_on: source.goes_on, children });
        self.0.len() - 1
    }

    /// A route by its number.
    pub fn get(&self, at: usize) -> Option<&Route> {
        self.0.get(at)
    }

    /// All routes with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Route)> {
        self.0.iter().enumerate()
    }

    /// The routes that an alert takes, by their numbers.
    pub fn find(&self, labels: &Pairs) -> Vec<usize> {
        let mut found = Vec::new();
        if let Some(root) = self.0.len().checked_sub(1) {
            self.find_below(root, labels, &mut found);
        }
        found
    }

    fn find_below(&self, at: usize, labels: &Pairs, found: &mut Vec<usize>) -> bool {
        let route = &self.0[at];
        if !match_all(&route.matchers, labels) {
            return false;
        }
        let before = found.len();
        for child in &route.children {
            if self.find_below(*child, labels, found) && !self.0[*child].goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }
}

impl Options {
    /// The labels that name the group of an alert.
    pub fn group_labels(&self, labels: &Pairs) -> Pairs {
        let named = |name: &str| self.group_by.as_ref().is_none_or(|names| names.contains(name));
        labels.iter().filter(|(name, _)| named(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Whether labels fulfil all conditions.
pub fn match_all(matchers: &[Matcher], labels: &Pairs) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).map_or("", String::as_str)))
}

/// What names a group: its route, and its labels as Prometheus prints them.
pub fn group_key(route: &Route, labels: &Pairs) -> String {
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", tsdb::labels::quote(value))).collect();
    format!("{}:{{{}}}", route.key, labels.join(", "))
}
