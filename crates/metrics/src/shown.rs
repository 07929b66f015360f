//! What parts show of themselves through the HTTP API: targets, rules, alerts, Alertmanagers.
//!
//! A part makes one of these traits and hands it to [`crate::Metrics`]; the API asks it at each request. Answers are
//! snapshots: nobody holds a lock while they are written out. Words and shapes are those of
//! <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Request, Response};
use jiff::Timestamp;
use promql::matcher::Matcher;
use serve::Body;
use tsdb::{Metadata, labels::Labels};

use crate::config::Config;

/// How something did the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has not run yet.
    Unknown,
    /// It went well: `up` of a target, `ok` of a rule.
    Good,
    /// It went wrong: `down` of a target, `err` of a rule.
    Bad,
}

/// A target that is scraped.
#[derive(Clone, Debug)]
pub struct Target {
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// The name of its pool: the job of the configuration.
    pub pool: String,
    /// Where it is scraped.
    pub url: String,
    /// What went wrong the last time; empty if nothing.
    pub last_error: String,
    /// When it was scraped last.
    pub last_scrape: Option<Timestamp>,
    /// How long that took.
    pub last_duration: Duration,
    /// How that went.
    pub health: Health,
    /// How often it is scraped, as configured (`15s`).
    pub interval: String,
    /// How long a scrape may take, as configured (`10s`).
    pub timeout: String,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Labels before relabelling.
    pub discovered: Labels,
    /// The name of its pool.
    pub pool: String,
}

/// One rule of relabelling and what it made of labels.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rule, as JSON.
    pub rule: serde_json::Value,
    /// The labels behind it; none once the target is dropped.
    pub output: Labels,
    /// Whether the target is still kept.
    pub keep: bool,
}

/// What `scrape` shows.
pub trait Targets: Send + Sync {
    /// Names of the pools, sorted.
    fn pools(&self) -> Vec<String>;
    /// The configuration of a pool as YAML.
    fn pool_config(&self, pool: &str) -> Option<String>;
    /// Targets that are scraped, sorted by pool; of one pool only if one is named.
    fn active(&self, pool: Option<&str>) -> Vec<Target>;
    /// Dropped targets that are remembered, sorted by pool; of one pool only if one is named.
    fn dropped(&self, pool: Option<&str>) -> Vec<Dropped>;
    /// How many targets were dropped, by pool.
    fn dropped_counts(&self) -> BTreeMap<String, usize>;
    /// What targets say of their metrics: the labels of each target with names and descriptions, of `metric` only if it is
    /// named. Ends when `take` returns false.
    fn each_metadata(&self, metric: Option<&str>, take: &mut dyn FnMut(&Labels, &str, &Metadata) -> bool);
    /// What relabelling of a pool makes of labels, rule by rule.
    fn relabel(&self, pool: &str, labels: &Labels) -> Option<Vec<Step>>;
}

/// An alert that is pending or firing.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations, expanded.
    pub annotations: Labels,
    /// `pending`, `firing` or `inactive`.
    pub state: &'static str,
    /// Since when its expression has been true.
    pub active_at: Timestamp,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<Timestamp>,
    /// The value of its expression.
    pub value: f64,
}

/// What an alerting rule has beyond a recording one.
#[derive(Clone, Debug)]
pub struct Alerting {
    /// `pending`, `firing`, `inactive` or `unknown`.
    pub state: &'static str,
    /// How long its expression must be true.
    pub hold: Duration,
    /// How long it goes on firing.
    pub keep_firing: Duration,
    /// Its annotations, as written.
    pub annotations: Labels,
    /// Its alerts.
    pub alerts: Vec<Alert>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name of the metric or alert.
    pub name: String,
    /// The expression, printed.
    pub query: String,
    /// The labels that it adds, as written.
    pub labels: Labels,
    /// How the last evaluation went.
    pub health: Health,
    /// What went wrong then; empty if nothing.
    pub last_error: String,
    /// How long it took.
    pub evaluation: Duration,
    /// When it was.
    pub last_evaluation: Option<Timestamp>,
    /// Only of alerting rules.
    pub alerting: Option<Alerting>,
}

/// A group of rules.
#[derive(Clone, Debug)]
pub struct RuleGroup {
    /// Its name.
    pub name: String,
    /// The file, or the object, that it stands in.
    pub file: String,
    /// How often it is evaluated.
    pub interval: Duration,
    /// Most series or alerts of a rule; without end if 0.
    pub limit: usize,
    /// How long the last evaluation took.
    pub evaluation: Duration,
    /// When it was.
    pub last_evaluation: Option<Timestamp>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// What rules show.
pub trait Rules: Send + Sync {
    /// Groups in order of files and names; only rules whose own labels fulfil all matchers of any list, if there are lists.
    fn groups(&self, matchers: &[Vec<Matcher>]) -> Vec<RuleGroup>;
}

/// What sends alerts shows.
pub trait Notifiers: Send + Sync {
    /// Where alerts are sent to.
    fn alertmanagers(&self) -> Vec<String>;
    /// Where they would be sent to if relabelling had not dropped it.
    fn dropped(&self) -> Vec<String>;
}

/// Answers requests below a path of its own, such as `/alertmanager`, to which the path is relative.
pub type Handler = Arc<dyn Fn(Request<Body>) -> futures::future::BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Adds what a part exposes at `/metrics`, as text in Prometheus' format.
pub type Exposed = Arc<dyn Fn(&mut String) + Send + Sync>;

/// Takes a configuration over; a part keeps what it has if that fails.
pub type Apply = Arc<dyn Fn(Arc<Config>) -> futures::future::BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// The parts that show something; absent ones show nothing.
#[derive(Clone, Default)]
pub struct Parts {
    /// Targets.
    pub targets: Option<Arc<dyn Targets>>,
    /// Rules and alerts.
    pub rules: Option<Arc<dyn Rules>>,
    /// Where alerts are sent to.
    pub notifiers: Option<Arc<dyn Notifiers>>,
    /// Alertmanager's API, below `/alertmanager`.
    pub alertmanager: Option<Handler>,
    /// Who takes a new configuration over, by name, in order.
    pub apply: Vec<(&'static str, Apply)>,
    /// What is exposed at `/metrics` besides storage and queries.
    pub exposed: Vec<Exposed>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("targets", &self.targets.is_some())
            .field("rules", &self.rules.is_some())
            .field("notifiers", &self.notifiers.is_some())
            .field("alertmanager", &self.alertmanager.is_some())
            .finish_non_exhaustive()
    }
}
