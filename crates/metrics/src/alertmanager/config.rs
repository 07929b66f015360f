//! Alertmanager's configuration: read, checked and printed as Alertmanager does.
//!
//! In reading order:
//!
//! - this file: the whole, the route tree, inhibition
//! - [`receivers`]: where notifications go to
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use tsdb::labels::quote;

use super::{
    interval::Interval,
    matcher::{self, Comparison, Matcher},
};
use crate::{
    config::units::{Address, Secret, Span, join},
    http_client::{HttpClient, settings::Tls},
    yaml::{self, Fields, Kind, Node, Print, Record, Stop, Value},
};

pub mod receivers;

use receivers::{Email, Receiver, pagerduty::PagerDuty, slack::Slack};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What holds for all receivers.
    pub global: Option<Global>,
    /// The root of the tree of routes.
    pub route: Option<Route>,
    /// Alerts that silence others.
    pub inhibit_rules: Vec<Inhibition>,
    /// Where notifications go to.
    pub receivers: Vec<Receiver>,
    /// Files of templates, with wildcards.
    pub templates: Vec<String>,
    /// Times by name, as they were written formerly.
    pub mute_time_intervals: Vec<Times>,
    /// Times by name.
    pub time_intervals: Vec<Times>,
}

/// What holds for all receivers.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// When an alert that says no end is taken to have ended.
    pub resolve_timeout: Span,
    /// How requests are made.
    pub http_config: HttpClient,
    /// Who sends mail.
    pub smtp_from: String,
    /// What it says to mail servers.
    pub smtp_hello: String,
    /// The mail server, with its port.
    pub smtp_smarthost: String,
    /// Who it is to the mail server.
    pub smtp_auth_username: String,
    /// Its password.
    pub smtp_auth_password: Secret,
    /// A file with its password.
    pub smtp_auth_password_file: String,
    /// The secret of CRAM-MD5.
    pub smtp_auth_secret: Secret,
    /// A file with the secret of CRAM-MD5.
    pub smtp_auth_secret_file: String,
    /// As whom it acts.
    pub smtp_auth_identity: String,
    /// Whether mail goes only over TLS.
    pub smtp_require_tls: bool,
    /// How TLS is done with mail servers.
    pub smtp_tls_config: Tls,
    /// Whether TLS comes first; by default only on port 465.
    pub smtp_force_implicit_tls: Option<bool>,
    /// Slack's incoming webhook.
    pub slack_api_url: Secret,
    /// A file with it.
    pub slack_api_url_file: String,
    /// The token of a Slack app.
    pub slack_app_token: Secret,
    /// A file with it.
    pub slack_app_token_file: String,
    /// Where Slack apps post.
    pub slack_app_url: Address,
    /// Where PagerDuty takes events.
    pub pagerduty_url: Address,
    /// Settings of receivers that are not here; kept, so that they may stand.
    others: BTreeMap<String, Secret>,
}

/// Settings of receivers that are not here.
const OTHERS: [&str; 20] = [
    "jira_api_url",
    "opsgenie_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "wechat_api_url",
    "wechat_api_secret",
    "wechat_api_secret_file",
    "wechat_api_corp_id",
    "victorops_api_url",
    "victorops_api_key",
    "victorops_api_key_file",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "webex_api_url",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_id",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
];

impl Default for Global {
    fn default() -> Self {
        Self {
            resolve_timeout: Span::seconds(300),
            http_config: HttpClient::default(),
            smtp_from: String::new(),
            smtp_hello: "localhost".to_owned(),
            smtp_smarthost: String::new(),
            smtp_auth_username: String::new(),
            smtp_auth_password: Secret::default(),
            smtp_auth_password_file: String::new(),
            smtp_auth_secret: Secret::default(),
            smtp_auth_secret_file: String::new(),
            smtp_auth_identity: String::new(),
            smtp_require_tls: true,
            smtp_tls_config: Tls::default(),
            smtp_force_implicit_tls: None,
            slack_api_url: Secret::default(),
            slack_api_url_file: String::new(),
            slack_app_token: Secret::default(),
            slack_app_token_file: String::new(),
            slack_app_url: Address("https://slack.com/api/chat.postMessage".to_owned()),
            pagerduty_url: Address("https://events.pagerduty.com/v2/enqueue".to_owned()),
            others: BTreeMap::new(),
        }
    }
}

impl Record for Global {
    const TYPE: &'static str = "config.GlobalConfig";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("resolve_timeout", &mut self.resolve_timeout);
        fields.always("http_config", &mut self.http_config);
        fields.field("smtp_from", &mut self.smtp_from);
        fields.field("smtp_hello", &mut self.smtp_hello);
        fields.field("smtp_smarthost", &mut self.smtp_smarthost);
        fields.field("smtp_auth_username", &mut self.smtp_auth_username);
        fields.field("smtp_auth_password", &mut self.smtp_auth_password);
        fields.field("smtp_auth_password_file", &mut self.smtp_auth_password_file);
        fields.field("smtp_auth_secret", &mut self.smtp_auth_secret);
        fields.field("smtp_auth_secret_file", &mut self.smtp_auth_secret_file);
        fields.field("smtp_auth_identity", &mut self.smtp_auth_identity);
        fields.always("smtp_require_tls", &mut self.smtp_require_tls);
        fields.field("smtp_tls_config", &mut self.smtp_tls_config);
        fields.field("smtp_force_implicit_tls", &mut self.smtp_force_implicit_tls);
        fields.field("slack_api_url", &mut self.slack_api_url);
        fields.field("slack_api_url_file", &mut self.slack_api_url_file);
        fields.field("slack_app_token", &mut self.slack_app_token);
        fields.field("slack_app_token_file", &mut self.slack_app_token_file);
        fields.field("slack_app_url", &mut self.slack_app_url);
        fields.field("pagerduty_url", &mut self.pagerduty_url);
        for name in OTHERS {
            let mut value = self.others.get(name).cloned().unwrap_or_default();
            fields.field(name, &mut value);
            if !value.0.is_empty() {
                self.others.insert(name.to_owned(), value);
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let both = |one: bool, file: &str| one && !file.is_empty();
        for (wrong, name) in [
            (
                both(!self.slack_app_token.0.is_empty(), &self.slack_app_token_file),
                "slack_app_token & slack_app_token_file",
            ),
            (both(!self.slack_api_url.0.is_empty(), &self.slack_api_url_file), "slack_api_url & slack_api_url_file"),
            (
                both(!self.smtp_auth_password.0.is_empty(), &self.smtp_auth_password_file),
                "smtp_auth_password & smtp_auth_password_file",
            ),
            (
                both(!self.smtp_auth_secret.0.is_empty(), &self.smtp_auth_secret_file),
                "smtp_auth_secret & smtp_auth_secret_file",
            ),
        ] {
            if wrong {
                return Err(format!("at most one of {name} must be configured"));
            }
        }
        let token = !self.slack_app_token.0.is_empty() || !self.slack_app_token_file.is_empty();
        let url = !self.slack_api_url.0.is_empty() || !self.slack_api_url_file.is_empty();
        if token && url && self.slack_api_url.0 != self.slack_app_url.0 {
            return Err("at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured".to_owned());
        }
        Ok(())
    }
}

/// Conditions as lines of text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matchers(pub Vec<Matcher>);

impl Value for Matchers {
    fn read(&mut self, node: &Node, problems: &mut yaml::Problems) -> Result<(), Stop> {
        let mut lines: Vec<String> = Vec::new();
        lines.read(node, problems)?;
        for line in lines {
            self.0.extend(matcher::parse_all(&line).map_err(Stop)?);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn print(&mut self) -> Print {
        Print::List(self.0.iter().map(|matcher| Print::Text(matcher.to_string())).collect())
    }
}

/// Conditions as they were written formerly: expressions by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patterns(pub BTreeMap<String, String>);

impl Value for Patterns {
    fn read(&mut self, node: &Node, problems: &mut yaml::Problems) -> Result<(), Stop> {
        self.0.read(node, problems)?;
        for (name, text) in &self.0 {
            classic_name(name)?;
            matcher::compile(text, true).map_err(Stop)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn print(&mut self) -> Print {
        self.0.print()
    }
}

fn classic_name(name: &str) -> Result<(), String> {
    if matcher::is_classic_name(name) { Ok(()) } else { Err(format!("invalid label name {}", quote(name))) }
}

/// All conditions of a route or one side of an inhibition, sorted.
fn all_matchers(equal: &BTreeMap<String, String>, patterns: &Patterns, matchers: &Matchers) -> Vec<Matcher> {
    let equal = equal.iter().filter_map(|(name, value)| Matcher::new(name, Comparison::Equal, value).ok());
    let patterns = patterns.0.iter().filter_map(|(name, value)| Matcher::new(name, Comparison::Matches, value).ok());
    let mut all: Vec<Matcher> = equal.chain(patterns).chain(matchers.0.iter().cloned()).collect();
    all.sort_by(|a, b| (&a.name, &a.value, a.comparison).cmp(&(&b.name, &b.value, b.comparison)));
    all
}

/// Labels by which alerts are grouped; `None` where nothing was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupBy(pub Option<Vec<String>>);

impl Value for GroupBy {
    fn read(&mut self, node: &Node, problems: &mut yaml::Problems) -> Result<(), Stop> {
        self.0.get_or_insert_default().read(node, problems)
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Vec::is_empty)
    }

    fn print(&mut self) -> Print {
        self.0.clone().unwrap_or_default().print()
    }
}

/// A node of the tree of routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// Where its alerts go to; as its parent's if empty.
    pub receiver: String,
    /// How its alerts are grouped.
    pub group_by: GroupBy,
    /// Labels that alerts must have, as written formerly.
    pub equal: BTreeMap<String, String>,
    /// Labels that must match, as written formerly.
    pub patterns: Patterns,
    /// Which alerts it takes.
    pub matchers: Matchers,
    /// Times at which it is mute.
    pub mute_time_intervals: Vec<String>,
    /// Times at which it is not mute.
    pub active_time_intervals: Vec<String>,
    /// Whether its siblings are tried too.
    pub goes_on: bool,
    /// Its children.
    pub routes: Vec<Route>,
    /// How long a new group waits for more alerts.
    pub group_wait: Option<Span>,
    /// How long between notifications of a group that changes.
    pub group_interval: Option<Span>,
    /// How long between notifications of a group that does not.
    pub repeat_interval: Option<Span>,
    /// Labels for templates, which may be templates.
    pub labels: BTreeMap<String, String>,
}

impl Record for Route {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("receiver", &mut self.receiver);
        fields.field("group_by", &mut self.group_by);
        fields.field("match", &mut self.equal);
        fields.field("match_re", &mut self.patterns);
        fields.field("matchers", &mut self.matchers);
        fields.field("mute_time_intervals", &mut self.mute_time_intervals);
        fields.field("active_time_intervals", &mut self.active_time_intervals);
        fields.always("continue", &mut self.goes_on);
        fields.field("routes", &mut self.routes);
        fields.field("group_wait", &mut self.group_wait);
        fields.field("group_interval", &mut self.group_interval);
        fields.field("repeat_interval", &mut self.repeat_interval);
        fields.field("labels", &mut self.labels);
    }

    fn check(&mut self) -> Result<(), String> {
        self.equal.keys().try_for_each(|name| classic_name(name))?;
        if let Some(name) = self.labels.keys().find(|name| !matcher::is_name(name)) {
            return Err(format!("invalid label name {} in route labels", quote(name)));
        }
        let group_by = self.group_by.0.as_deref().unwrap_or_default();
        let mut seen = BTreeSet::new();
        for name in group_by.iter().filter(|name| *name != "...") {
            if !matcher::is_name(name) {
                return Err(format!("invalid label name {} in group_by list", quote(name)));
            }
            if !seen.insert(name) {
                return Err(format!("duplicated label {} in group_by", quote(name)));
            }
        }
        if self.groups_by_all() && !seen.is_empty() {
            return Err("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned());
        }
        for (value, name) in [(self.group_interval, "group_interval"), (self.repeat_interval, "repeat_interval")] {
            if value.is_some_and(Span::is_zero) {
                return Err(format!("{name} cannot be zero"));
            }
        }
        Ok(())
    }
}

impl Route {
    /// Whether alerts are grouped by all their labels.
    pub fn groups_by_all(&self) -> bool {
        self.group_by.0.iter().flatten().any(|name| name == "...")
    }

    /// All conditions, in whatever way they were written, sorted.
    pub fn all_matchers(&self) -> Vec<Matcher> {
        all_matchers(&self.equal, &self.patterns, &self.matchers)
    }
}

/// Alerts that silence others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inhibition {
    /// Its name.
    pub name: String,
    /// Labels of those that silence, as written formerly.
    pub source_equal: BTreeMap<String, String>,
    /// Expressions of those that silence, as written formerly.
    pub source_patterns: Patterns,
    /// Which alerts silence.
    pub source_matchers: Matchers,
    /// Labels of those that are silenced, as written formerly.
    pub target_equal: BTreeMap<String, String>,
    /// Expressions of those that are silenced, as written formerly.
    pub target_patterns: Patterns,
    /// Which alerts are silenced.
    pub target_matchers: Matchers,
    /// Labels that must be the same in both.
    pub equal: Vec<String>,
}

impl Record for Inhibition {
    const TYPE: &'static str = "common.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("name", &mut self.name);
        fields.field("source_match", &mut self.source_equal);
        fields.field("source_match_re", &mut self.source_patterns);
        fields.field("source_matchers", &mut self.source_matchers);
        fields.field("target_match", &mut self.target_equal);
        fields.field("target_match_re", &mut self.target_patterns);
        fields.field("target_matchers", &mut self.target_matchers);
        fields.field("equal", &mut self.equal);
    }

    fn check(&mut self) -> Result<(), String> {
        self.source_equal.keys().chain(self.target_equal.keys()).try_for_each(|name| classic_name(name))?;
        match self.equal.iter().find(|name| !matcher::is_name(name)) {
            Some(name) => Err(format!("invalid label name {} in equal list", quote(name))),
            None => Ok(()),
        }
    }
}

impl Inhibition {
    /// Which alerts silence.
    pub fn sources(&self) -> Vec<Matcher> {
        all_matchers(&self.source_equal, &self.source_patterns, &self.source_matchers)
    }

    /// Which alerts are silenced.
    pub fn targets(&self) -> Vec<Matcher> {
        all_matchers(&self.target_equal, &self.target_patterns, &self.target_matchers)
    }
}

/// Times by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// The name.
    pub name: String,
    /// Any of these.
    pub time_intervals: Vec<Interval>,
}

impl Record for Times {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("name", &mut self.name);
        fields.always("time_intervals", &mut self.time_intervals);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.name.is_empty() { Err("missing name in time interval".to_owned()) } else { Ok(()) }
    }
}

/// A part whose content does not matter here: tracing, recording of events.
#[derive(Clone, Debug, Default, PartialEq)]
struct Passed;

impl Value for Passed {
    fn read(&mut self, node: &Node, problems: &mut yaml::Problems) -> Result<(), Stop> {
        if !matches!(node.kind, Kind::Map(_)) {
            problems.mismatch(node, "config.plain");
        }
        Ok(())
    }

    fn clear(&mut self) {}

    fn is_empty(&self) -> bool {
        true
    }

    fn print(&mut self) -> Print {
        Print::Map(Vec::new())
    }
}

impl Record for Config {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("global", &mut self.global);
        fields.field("route", &mut self.route);
        fields.field("inhibit_rules", &mut self.inhibit_rules);
        fields.field("receivers", &mut self.receivers);
        fields.always("templates", &mut self.templates);
        fields.field("mute_time_intervals", &mut self.mute_time_intervals);
        fields.field("time_intervals", &mut self.time_intervals);
        fields.field("tracing", &mut Passed);
        fields.field("event_recorder", &mut Passed);
    }

    fn check(&mut self) -> Result<(), String> {
        let global = self.global.get_or_insert_default().clone();
        let mut names = BTreeSet::new();
        for receiver in &mut self.receivers {
            if !names.insert(receiver.name.clone()) {
                return Err(format!("notification config name {} is not unique", quote(&receiver.name)));
            }
            receiver.inherit(&global)?;
        }
        let Some(root) = &self.route else { return Err("no routes provided".to_owned()) };
        if root.receiver.is_empty() {
            return Err("root route must specify a default receiver".to_owned());
        }
        if !root.all_matchers().is_empty() {
            return Err("root route must not have any matchers".to_owned());
        }
        if !root.mute_time_intervals.is_empty() {
            return Err("root route must not have any mute time intervals".to_owned());
        }
        if !root.active_time_intervals.is_empty() {
            return Err("root route must not have any active time intervals".to_owned());
        }
        check_receivers(root, &names)?;
        let mut times = BTreeSet::new();
        for (kind, lists) in
            [("mute time interval", &self.mute_time_intervals), ("time interval", &self.time_intervals)]
        {
            for list in lists {
                if !times.insert(list.name.clone()) {
                    return Err(format!("{kind} {} is not unique", quote(&list.name)));
                }
            }
        }
        check_times(root, &times)?;
        if root.goes_on {
            return Err("cannot have continue in root route".to_owned());
        }
        Ok(())
    }
}

fn check_receivers(route: &Route, names: &BTreeSet<String>) -> Result<(), String> {
    route.routes.iter().try_for_each(|child| check_receivers(child, names))?;
    if route.receiver.is_empty() || names.contains(&route.receiver) {
        return Ok(());
    }
    Err(format!("undefined receiver {} used in route", quote(&route.receiver)))
}

fn check_times(route: &Route, names: &BTreeSet<String>) -> Result<(), String> {
    route.routes.iter().try_for_each(|child| check_times(child, names))?;
    let used = route.active_time_intervals.iter().chain(&route.mute_time_intervals);
    match used.into_iter().find(|name| !names.contains(*name)) {
        Some(name) => Err(format!("undefined time interval {} used in route", quote(name))),
        None => Ok(()),
    }
}

/// What is there when nothing was configured: alerts are kept and shown, and go nowhere.
const BUILT_IN: &str = "route:\n  receiver: none\n  group_by: [alertname, namespace]\nreceivers:\n- name: none\n";

impl Config {
    /// Reads a configuration. Relative names of files are below `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, String> {
        let Some(node) = yaml::parse(text)? else { return Err("no route provided in config".to_owned()) };
        let mut config = Self::default();
        yaml::read_node(&node, &mut config)?;
        config.set_directory(dir);
        Ok(config)
    }

    /// What is there when nothing was configured.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN, Path::new("")).unwrap_or_default()
    }

    fn set_directory(&mut self, dir: &Path) {
        self.templates.iter_mut().for_each(|name| join(dir, name));
        if let Some(global) = &mut self.global {
            global.http_config.set_directory(dir);
            global.smtp_tls_config.set_directory(dir);
        }
        for receiver in &mut self.receivers {
            receiver.set_directory(dir);
        }
    }

    /// The text that is shown: defaults filled in, secrets hidden.
    pub fn print(&self) -> String {
        yaml::print(self)
    }

    /// When an alert that says no end is taken to have ended, in milliseconds.
    pub fn resolve_timeout(&self) -> i64 {
        let timeout = self.global.as_ref().map_or(Span::seconds(300), |global| global.resolve_timeout);
        i64::try_from(timeout.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// The receiver of a name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.name == name)
    }

    /// Times by name.
    pub fn times(&self, name: &str) -> &[Interval] {
        let all = self.time_intervals.iter().chain(&self.mute_time_intervals);
        all.into_iter().find(|times| times.name == name).map_or(&[], |times| &times.time_intervals)
    }
}

impl Email {
    fn inherit(&mut self, global: &Global) -> Result<(), String> {
        let or = |own: &mut String, of: &str| {
            if own.is_empty() {
                of.clone_into(own);
            }
        };
        self.tls_config.get_or_insert_with(|| global.smtp_tls_config.clone());
        or(&mut self.smarthost, &global.smtp_smarthost);
        if self.smarthost.is_empty() {
            return Err("no global SMTP smarthost set".to_owned());
        }
        or(&mut self.from, &global.smtp_from);
        if self.from.is_empty() {
            return Err("no global SMTP from set".to_owned());
        }
        or(&mut self.hello, &global.smtp_hello);
        or(&mut self.auth_username, &global.smtp_auth_username);
        if self.auth_password.0.is_empty() && self.auth_password_file.is_empty() {
            self.auth_password = global.smtp_auth_password.clone();
            self.auth_password_file.clone_from(&global.smtp_auth_password_file);
        }
        or(&mut self.auth_secret.0, &global.smtp_auth_secret.0);
        or(&mut self.auth_secret_file, &global.smtp_auth_secret_file);
        or(&mut self.auth_identity, &global.smtp_auth_identity);
        self.require_tls.get_or_insert(global.smtp_require_tls);
        if self.force_implicit_tls.is_none() {
            self.force_implicit_tls = global.smtp_force_implicit_tls;
        }
        Ok(())
    }
}

impl Slack {
    fn inherit(&mut self, global: &Global) -> Result<(), String> {
        if self.app_url.0.is_empty() {
            self.app_url = global.slack_app_url.clone();
        }
        let authorized = self.http_config.as_ref().is_some_and(|http| http.authorization.is_some());
        let own_token = !self.app_token.0.is_empty() || !self.app_token_file.is_empty();
        if !own_token && !authorized && self.api_url.0.is_empty() {
            self.app_token = global.slack_app_token.clone();
            self.app_token_file.clone_from(&global.slack_app_token_file);
        }
        if self.api_url.0.is_empty() && self.api_url_file.is_empty() {
            self.api_url = global.slack_api_url.clone();
            self.api_url_file.clone_from(&global.slack_api_url_file);
        }
        let token = !self.app_token.0.is_empty() || !self.app_token_file.is_empty();
        if !token && self.api_url.0.is_empty() && self.api_url_file.is_empty() {
            return Err("no Slack API URL nor App token set either inline or in a file".to_owned());
        }
        let http = self.http_config.get_or_insert_with(|| global.http_config.clone());
        if token {
            if http.authorization.is_some() {
                return Err("http authorization can't be set when using Slack App tokens".to_owned());
            }
            http.authorization = Some(crate::http_client::settings::Authorization {
                kind: "Bearer".to_owned(),
                credentials: self.app_token.clone(),
                credentials_file: self.app_token_file.clone(),
                ..Default::default()
            });
            self.api_url = Secret(self.app_url.0.clone());
        }
        Ok(())
    }
}

impl PagerDuty {
    fn inherit(&mut self, global: &Global) {
        self.http_config.get_or_insert_with(|| global.http_config.clone());
        if self.url.0.is_empty() {
            self.url = global.pagerduty_url.clone();
        }
    }
}

impl Receiver {
    /// Takes from what holds for all what it does not say itself.
    fn inherit(&mut self, global: &Global) -> Result<(), String> {
        for webhook in &mut self.webhooks {
            webhook.http_config.get_or_insert_with(|| global.http_config.clone());
        }
        self.pagerduties.iter_mut().for_each(|pagerduty| pagerduty.inherit(global));
        self.emails.iter_mut().try_for_each(|email| email.inherit(global))?;
        self.slacks.iter_mut().try_for_each(|slack| slack.inherit(global))
    }

    fn set_directory(&mut self, dir: &Path) {
        let of_slacks = self.slacks.iter_mut().map(|slack| &mut slack.http_config);
        let of_webhooks = self.webhooks.iter_mut().map(|webhook| &mut webhook.http_config);
        let of_pagerduties = self.pagerduties.iter_mut().map(|pagerduty| &mut pagerduty.http_config);
        for http in of_slacks.chain(of_webhooks).chain(of_pagerduties).flatten() {
            http.set_directory(dir);
        }
        for tls in self.emails.iter_mut().filter_map(|email| email.tls_config.as_mut()) {
            tls.set_directory(dir);
        }
    }
}
